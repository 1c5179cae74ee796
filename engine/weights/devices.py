"""Which kernels compute each part of a placed model: those of the device that its weights are on. Knows no kernels' work."""

from __future__ import annotations

from collections.abc import Mapping

from engine.kernels.protocol import Kernels
from engine.model.config import ModelConfig
from engine.model.places import LayerPlaces, ModelPlaces
from engine.weights.names import EMBEDDING, HEAD, Kind
from engine.weights.placement import Placement


def attention_devices(placement: Placement, config: ModelConfig) -> tuple[str, ...]:
    """The device of each layer's attention, where its residual and its cache are."""
    return tuple(devices[Kind.ATTENTION] for devices in _by_layer(placement, config))


def places_of(placement: Placement, config: ModelConfig, kernels: Mapping[str, Kernels]) -> ModelPlaces:
    """`kernels` by the names of the placement's devices."""
    layers = []
    for devices in _by_layer(placement, config):
        attention = devices[Kind.ATTENTION]
        mlp = devices.get(Kind.DENSE, devices.get(Kind.SHARED, attention))
        layers.append(
            LayerPlaces(
                attention=kernels[attention],
                mlp=kernels[mlp],
                router=kernels[devices.get(Kind.ROUTER, attention)],
                experts=kernels[devices.get(Kind.EXPERTS, attention)],
            )
        )
    head = EMBEDDING if config.tie_word_embeddings else HEAD
    return ModelPlaces(
        embedding=kernels[placement.tensors[EMBEDDING].device],
        layers=tuple(layers),
        head=kernels[placement.tensors[head].device],
    )


def _by_layer(placement: Placement, config: ModelConfig) -> list[dict[Kind, str]]:
    """Kind -> device, a layer each; engine.weights.assignment has seen to it that there is one."""
    found: list[dict[Kind, str]] = [{} for _ in range(config.num_hidden_layers)]
    for placed in placement.tensors.values():
        if placed.spec.layer is not None:
            found[placed.spec.layer][placed.spec.kind] = placed.device
    return found
