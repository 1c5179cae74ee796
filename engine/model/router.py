"""The gate of a layer of experts: which experts each row visits, and with which weight. Knows no experts' weights."""

from __future__ import annotations

import torch

from engine.kernels.protocol import Kernels, Routing
from engine.model.config import ModelConfig


def routing_of(config: ModelConfig) -> Routing:
    """The model's rule, as the kernels take it."""
    return Routing(
        top_k=config.num_experts_per_tok,
        num_groups=config.n_group,
        kept_groups=config.topk_group,
        normalise=config.norm_topk_prob,
        scale=config.routed_scaling_factor,
    )


class Router:
    """(T, hidden) -> ids (T, K) int64, gates (T, K) float32; the rule stands at `Kernels.route`."""

    def __init__(
        self, config: ModelConfig, weight: torch.Tensor, correction_bias: torch.Tensor, kernels: Kernels
    ) -> None:
        self._weight, self._bias, self._kernels = weight, correction_bias, kernels
        self._routing = routing_of(config)

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._kernels.route(x, self._weight, self._bias, self._routing)
