"""One decoder layer: attention and feed-forward, each behind a norm and beside the residual. Knows no cache but its pages."""

from __future__ import annotations

import torch

from engine.model.config import ModelConfig
from engine.model.experts import DenseMlp, MixtureOfExperts
from engine.model.mla import AttentionStep, MultiHeadLatentAttention
from engine.model.parameters import LayerParameters, MoeParameters
from engine.model.places import LayerPlaces, hand_over


class DecoderLayer:
    """h = x + attention(norm(x));  y = h + mlp(norm(h)): (T, hidden) -> (T, hidden), on the device of the attention."""

    def __init__(self, config: ModelConfig, parameters: LayerParameters, places: LayerPlaces) -> None:
        self.kernels = places.attention
        self._parameters, self._places = parameters, places
        self._eps = config.rms_norm_eps
        self._attention = MultiHeadLatentAttention(config, parameters.attention, places.attention)
        mlp = parameters.mlp
        self._mlp = (
            MixtureOfExperts(config, mlp, places)
            if isinstance(mlp, MoeParameters)
            else DenseMlp(mlp, places.mlp)
        )

    def __call__(self, x: torch.Tensor, step: AttentionStep, pages: torch.Tensor) -> torch.Tensor:
        k, p = self.kernels, self._parameters
        x = k.add(x, self._attention(k.rms_norm(x, p.input_norm, self._eps), step, pages))
        normed = k.rms_norm(x, p.post_attention_norm, self._eps)
        if isinstance(self._mlp, DenseMlp):
            return k.add(x, hand_over(self._mlp(hand_over(normed, self._mlp.kernels)), k))
        return k.add(x, self._mlp(normed))
