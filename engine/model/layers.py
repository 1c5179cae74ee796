"""One decoder layer: attention and feed-forward, each behind a norm and beside the residual. Knows no cache but its pages."""

from __future__ import annotations

import torch

from engine.kernels.protocol import Kernels
from engine.model.config import ModelConfig
from engine.model.experts import DenseMlp, MixtureOfExperts
from engine.model.mla import AttentionStep, MultiHeadLatentAttention
from engine.model.parameters import LayerParameters, MoeParameters


class DecoderLayer:
    """h = x + attention(norm(x));  y = h + mlp(norm(h)): (T, hidden) -> (T, hidden)."""

    def __init__(self, config: ModelConfig, parameters: LayerParameters, kernels: Kernels) -> None:
        self._parameters, self._kernels = parameters, kernels
        self._eps = config.rms_norm_eps
        self._attention = MultiHeadLatentAttention(config, parameters.attention, kernels)
        mlp = parameters.mlp
        self._mlp = (
            MixtureOfExperts(config, mlp, kernels)
            if isinstance(mlp, MoeParameters)
            else DenseMlp(mlp, kernels)
        )

    def __call__(self, x: torch.Tensor, step: AttentionStep, pages: torch.Tensor) -> torch.Tensor:
        k, p = self._kernels, self._parameters
        x = k.add(x, self._attention(k.rms_norm(x, p.input_norm, self._eps), step, pages))
        return k.add(x, self._mlp(k.rms_norm(x, p.post_attention_norm, self._eps)))
