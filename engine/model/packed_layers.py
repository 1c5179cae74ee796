"""Consecutive decoder layers whose weights are packed, run as one call. Knows the parameters' names, and no arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.kernels.protocol import Kernels, LayerSizes, LayerWeights
from engine.model.config import ModelConfig
from engine.model.mla import AttentionStep
from engine.model.parameters import LayerParameters, MlpParameters, MoeParameters
from engine.model.rope import softmax_scale
from engine.model.router import routing_of
from engine.quant.matrix import Layout, Matrix


def is_packed(layer: LayerParameters) -> bool:
    """Whether the loader packed this layer: it packs all of its matrices or none."""
    return layer.attention.kv_b.layout is not Layout.ROWS


class PackedLayers:
    """h = x + attention(norm(x));  y = h + mlp(norm(h)), layer after layer: (T, hidden) float32, in place."""

    def __init__(
        self, config: ModelConfig, layers: Sequence[LayerParameters], kernels: Kernels, first: int
    ) -> None:
        """`layers` are the model's layers from index `first` on."""
        assert kernels.layers is not None, "packed weights need kernels that read them"
        self.kernels, self._run = kernels, kernels.layers
        self._layers = [
            self._run.layer(_sizes(config, parameters), _weights(parameters)) for parameters in layers
        ]
        self._first = first

    def __len__(self) -> int:
        return len(self._layers)

    def __call__(
        self, x: torch.Tensor, step: AttentionStep, pages: Sequence[torch.Tensor], only: int | None = None
    ) -> torch.Tensor:
        """`pages` of every layer of the model; `only` runs the one layer with this index of the model."""
        begin = self._first if only is None else only
        count = len(self._layers) if only is None else 1
        segments = [(segment.row, segment.length, keys) for segment, keys in step.segments]
        self._run.run_layers(
            self._layers[begin - self._first : begin - self._first + count],
            x,
            step.rotation,
            step.slots,
            segments,
            pages[begin : begin + count],
        )
        return x


def _sizes(config: ModelConfig, parameters: LayerParameters) -> LayerSizes:
    experts = isinstance(parameters.mlp, MoeParameters)
    return LayerSizes(
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        nope=config.qk_nope_head_dim,
        rope=config.qk_rope_head_dim,
        v=config.v_head_dim,
        rank=config.kv_lora_rank,
        eps=config.rms_norm_eps,
        softmax_scale=softmax_scale(config),
        num_experts=config.n_routed_experts if experts else 0,
        routing=routing_of(config) if experts else None,
    )


def _weights(parameters: LayerParameters) -> LayerWeights:
    attention, mlp = parameters.attention, parameters.mlp
    moe = mlp if isinstance(mlp, MoeParameters) else None
    return LayerWeights(
        input_norm=parameters.input_norm,
        q=attention.q,
        q_a=attention.q_a,
        q_a_norm=attention.q_a_norm,
        q_b=attention.q_b,
        kv_a=attention.kv_a,
        kv_a_norm=attention.kv_a_norm,
        kv_b=attention.kv_b,
        o=attention.o,
        post_attention_norm=parameters.post_attention_norm,
        dense=_mlp(mlp.shared if isinstance(mlp, MoeParameters) else mlp),
        experts=None if moe is None else (moe.gate, moe.up, moe.down),
        router=None if moe is None else moe.router,
        correction_bias=None if moe is None else moe.correction_bias,
    )


def _mlp(parameters: MlpParameters | None) -> tuple[Matrix, Matrix, Matrix] | None:
    return None if parameters is None else (parameters.gate, parameters.up, parameters.down)
