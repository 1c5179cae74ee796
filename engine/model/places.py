"""Which kernels compute which part of a model, and how activations get from one to the next. Knows no weights.

A layer's residual lives where its attention is; what another device computes of it goes there and comes back once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from engine.kernels.protocol import Kernels


@dataclass(frozen=True, slots=True)
class LayerPlaces:
    """The kernels of one layer's parts. `mlp`: of the dense MLP, or of the shared experts. Norms are with the attention."""

    attention: Kernels
    mlp: Kernels
    router: Kernels
    experts: Kernels

    @classmethod
    def all_on(cls, kernels: Kernels) -> Self:
        return cls(kernels, kernels, kernels, kernels)


@dataclass(frozen=True, slots=True)
class ModelPlaces:
    """The kernels of every part. The last norm is with the head."""

    embedding: Kernels
    layers: tuple[LayerPlaces, ...]
    head: Kernels

    @classmethod
    def all_on(cls, kernels: Kernels, num_layers: int) -> Self:
        return cls(kernels, (LayerPlaces.all_on(kernels),) * num_layers, kernels)


def hand_over(x: torch.Tensor, to: Kernels) -> torch.Tensor:
    """Activations on another's device, in the dtype that it computes in; x itself where nothing changes."""
    return to.receive(x).to(to.compute)
