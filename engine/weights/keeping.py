"""What of loaded weights another placement would load again just so, and which tensors are packed. Reads no file.

Parts are named as the loader asks for them: a tensor by its name, the routed experts' stack by its first expert's.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TypeAlias

import torch

from engine.model.config import ModelConfig
from engine.model.parameters import AttentionParameters, MlpParameters, ModelParameters, MoeParameters
from engine.quant.matrix import Layout, Matrix, MatrixStack
from engine.quant.packing import HeadShape, Packer
from engine.weights.names import EMBEDDING, HEAD, NORM, layer_of, layer_prefix
from engine.weights.placement import Placement

Part: TypeAlias = torch.Tensor | Matrix | MatrixStack
Unit: TypeAlias = int | str

_EXPERT = re.compile(r"\.experts\.\d+\.")
_ATTENTION = {
    "q": "q_proj", "q_a": "q_a_proj", "q_a_norm": "q_a_layernorm", "q_b": "q_b_proj", "kv_a": "kv_a_proj_with_mqa",
    "kv_a_norm": "kv_a_layernorm", "kv_b": "kv_b_proj", "o": "o_proj",
}  # fmt: skip


def head_shape(config: ModelConfig) -> HeadShape:
    """How kv_b falls into heads."""
    return HeadShape(config.num_attention_heads, config.qk_nope_head_dim, config.v_head_dim)


def packed_units(placement: Placement, config: ModelConfig, packer: Packer | None) -> frozenset[Unit]:
    """The layers, by index, and the head, by name, that native kernels take packed: all of a layer's matrices or none.

    An untied embedding is never packed: its rows are looked up.
    """
    if packer is None:
        return frozenset()
    block = config.weight_block_size or (128, 128)
    taken: defaultdict[Unit, set[bool]] = defaultdict(set)
    for name, placed in placement.tensors.items():
        if placed.spec.kind.is_matrix and (config.tie_word_embeddings or name != EMBEDDING):
            heads = head_shape(config) if name.endswith(".kv_b_proj.weight") else None
            layer = layer_of(name)
            taken[name if layer is None else layer].add(
                packer.takes(placed.format, block, placed.group, heads)
            )
    return frozenset(unit for unit, found in taken.items() if found == {True})


def kept_parts(
    parameters: ModelParameters,
    before: Placement,
    after: Placement,
    config: ModelConfig,
    packer: Packer | None,
) -> dict[str, Part]:
    """The parts whose device, format, group, fit and layout stay. `packer`: what the kernels pack weights with."""
    packed = packed_units(after, config, packer)
    kept = {}
    for name, part in named_parts(parameters, config):
        old, new = before.tensors[name], after.tensors[name]
        if (old.device, old.format, old.group, old.fit) != (new.device, new.format, new.group, new.fit):
            continue
        if not isinstance(part, torch.Tensor):
            layer = layer_of(name)
            if (part.layout is not Layout.ROWS) != ((name if layer is None else layer) in packed):
                continue
        kept[name] = part
    return kept


def named_parts(parameters: ModelParameters, config: ModelConfig) -> Iterator[tuple[str, Part]]:
    """Every part of a model once; a tied head is the embedding."""
    yield EMBEDDING, parameters.embedding
    for index, layer in enumerate(parameters.layers):
        prefix = layer_prefix(index)
        yield f"{prefix}.input_layernorm.weight", layer.input_norm
        yield from _attention(f"{prefix}.self_attn", layer.attention)
        yield f"{prefix}.post_attention_layernorm.weight", layer.post_attention_norm
        if isinstance(layer.mlp, MoeParameters):
            yield from _moe(f"{prefix}.mlp", layer.mlp)
        else:
            yield from _mlp(f"{prefix}.mlp", layer.mlp)
    yield NORM, parameters.norm
    if not config.tie_word_embeddings:
        yield HEAD, parameters.head


def _attention(prefix: str, attention: AttentionParameters) -> Iterator[tuple[str, Part]]:
    for field, module in _ATTENTION.items():
        part: Part | None = getattr(attention, field)
        if part is not None:
            yield f"{prefix}.{module}.weight", part


def _mlp(prefix: str, mlp: MlpParameters) -> Iterator[tuple[str, Part]]:
    for projection, part in (("gate", mlp.gate), ("up", mlp.up), ("down", mlp.down)):
        yield f"{prefix}.{projection}_proj.weight", part


def _moe(prefix: str, moe: MoeParameters) -> Iterator[tuple[str, Part]]:
    yield f"{prefix}.gate.weight", moe.router
    yield f"{prefix}.gate.e_score_correction_bias", moe.correction_bias
    for projection, stack in (("gate", moe.gate), ("up", moe.up), ("down", moe.down)):
        yield f"{prefix}.experts.0.{projection}_proj.weight", stack
    if moe.shared is not None:
        yield from _mlp(f"{prefix}.shared_experts", moe.shared)


def bytes_to_read(placement: Placement, kept: Mapping[str, Part]) -> int:
    """Bytes, as placed, of what is not kept."""
    return sum(
        placed.nbytes
        for name, placed in placement.tensors.items()
        if _EXPERT.sub(".experts.0.", name) not in kept
    )


def held_bytes(*parts: object) -> int:
    """Bytes of the distinct allocations behind parts, or trees of them."""
    storages = (tensor.untyped_storage() for part in parts for tensor in _tensors(part))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _tensors(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _tensors(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))
