"""The feed-forward half of a layer: one dense MLP, or routed experts plus shared ones. Knows no attention."""

from __future__ import annotations

import torch

from engine.kernels.protocol import Kernels
from engine.model.config import ModelConfig
from engine.model.parameters import MlpParameters, MoeParameters
from engine.model.places import LayerPlaces, hand_over
from engine.model.router import Router


class DenseMlp:
    """(T, hidden) -> (T, hidden), both on the device of the kernels."""

    def __init__(self, parameters: MlpParameters, kernels: Kernels) -> None:
        self._parameters, self.kernels = parameters, kernels

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.kernels.mlp(x, self._parameters.gate, self._parameters.up, self._parameters.down)


class MixtureOfExperts:
    """routed(x) + shared(x): (T, hidden) -> (T, hidden) (arXiv 2401.06066), both on the device of the attention.

    x goes to each other device once, with ids and gates where routed experts are, and each sum comes back once. The shared
    experts come first: a GPU computes them while the CPU is at the routed ones.
    """

    def __init__(self, config: ModelConfig, parameters: MoeParameters, places: LayerPlaces) -> None:
        self._parameters, self._places = parameters, places
        self._router = Router(config, parameters.router, parameters.correction_bias, places.router)
        self._shared = None if parameters.shared is None else DenseMlp(parameters.shared, places.mlp)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        p, home, k = self._parameters, self._places.attention, self._places.experts
        arrived = {id(home): x}

        def on(kernels: Kernels) -> torch.Tensor:
            if id(kernels) not in arrived:
                arrived[id(kernels)] = hand_over(x, kernels)
            return arrived[id(kernels)]

        ids, gates = self._router(on(self._places.router))
        x_there, ids, gates = on(k), k.receive(ids), k.receive(gates)
        shared = None if self._shared is None else self._shared(on(self._shared.kernels))
        routed = k.experts(x_there, ids, gates, p.gate, p.up, p.down)
        if self._shared is None or shared is None:
            return hand_over(routed, home)
        if self._shared.kernels is k:
            return hand_over(k.add(routed, shared), home)
        return home.add(hand_over(routed, home), hand_over(shared, home))
