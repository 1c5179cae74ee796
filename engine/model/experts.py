"""The feed-forward half of a layer: one dense MLP, or routed experts plus shared ones. Knows no attention."""

from __future__ import annotations

import torch

from engine.kernels.protocol import Kernels
from engine.model.config import ModelConfig
from engine.model.parameters import MlpParameters, MoeParameters
from engine.model.router import Router


class DenseMlp:
    """(T, hidden) -> (T, hidden)."""

    def __init__(self, parameters: MlpParameters, kernels: Kernels) -> None:
        self._parameters, self._kernels = parameters, kernels

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._kernels.mlp(x, self._parameters.gate, self._parameters.up, self._parameters.down)


class MixtureOfExperts:
    """routed(x) + shared(x): (T, hidden) -> (T, hidden) (arXiv 2401.06066)."""

    def __init__(self, config: ModelConfig, parameters: MoeParameters, kernels: Kernels) -> None:
        self._parameters, self._kernels = parameters, kernels
        self._router = Router(config, parameters.router, parameters.correction_bias, kernels)
        self._shared = None if parameters.shared is None else DenseMlp(parameters.shared, kernels)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        p = self._parameters
        ids, gates = self._router(x)
        routed = self._kernels.experts(x, ids, gates, p.gate, p.up, p.down)
        return routed if self._shared is None else self._kernels.add(routed, self._shared(x))
