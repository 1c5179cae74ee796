"""What of loaded weights another placement would load again just so, and which tensors are packed. Reads no file.

Parts are named as the loader asks for them: a tensor by its name, the routed experts' stack by its first expert's.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TypeAlias

import torch

from engine.model.config import ModelConfig
from engine.model.parameters import AttentionParameters, MlpParameters, ModelParameters, MoeParameters
from engine.quant.matrix import Layout, Matrix, MatrixStack
from engine.quant.packing import HeadShape, Packer
from engine.weights.names import EMBEDDING, HEAD, NORM, layer_prefix
from engine.weights.placement import Placement, tier_of

Part: TypeAlias = torch.Tensor | Matrix | MatrixStack

_EXPERT = re.compile(r"\.experts\.\d+\.")
_ATTENTION = {
    "q": "q_proj", "q_a": "q_a_proj", "q_a_norm": "q_a_layernorm", "q_b": "q_b_proj", "kv_a": "kv_a_proj_with_mqa",
    "kv_a_norm": "kv_a_layernorm", "kv_b": "kv_b_proj", "o": "o_proj",
}  # fmt: skip


def head_shape(config: ModelConfig) -> HeadShape:
    """How kv_b falls into heads."""
    return HeadShape(config.num_attention_heads, config.qk_nope_head_dim, config.v_head_dim)


def part_of(name: str) -> str:
    """The part that a tensor belongs to."""
    return _EXPERT.sub(".experts.0.", name)


def packed_parts(placement: Placement, config: ModelConfig, packer: Packer | None) -> frozenset[str]:
    """The matrices that native kernels take packed. An untied embedding never is: its rows are looked up.

    Of a layer that is on the CPU as a whole, all matrices or none: it runs as one call. Of a layer that other devices
    share, what is on the CPU is called part by part: everything but kv_b, whose packed form only whole layers read.
    """
    if packer is None:
        return frozenset()
    block = config.weight_block_size or (128, 128)
    taken: defaultdict[int | str, dict[str, bool]] = defaultdict(dict)
    shared = {
        p.spec.layer for p in placement.tensors.values() if p.spec.layer is not None and p.device != "cpu"
    }
    for name, placed in placement.tensors.items():
        if not placed.spec.kind.is_matrix or (name == EMBEDDING and not config.tie_word_embeddings):
            continue
        kv_b, layer = name.endswith(".kv_b_proj.weight"), placed.spec.layer
        takes = placed.device == "cpu" and packer.takes(
            placed.format, block, placed.group, head_shape(config) if kv_b else None
        )
        part = part_of(name)
        if layer in shared:
            taken[part] = {part: takes and not kv_b}
        else:
            taken[part if layer is None else layer][part] = takes
    return frozenset(part for parts in taken.values() if all(parts.values()) for part in parts)


def kept_parts(
    parameters: ModelParameters,
    before: Placement,
    after: Placement,
    config: ModelConfig,
    packer: Packer | None,
) -> dict[str, Part]:
    """The parts whose device, format, group, fit and layout stay. `packer`: what the kernels pack weights with."""
    packed = packed_parts(after, config, packer)
    kept = {}
    for name, part in named_parts(parameters, config):
        old, new = before.tensors[name], after.tensors[name]
        if (old.device, old.format, old.group, old.fit) != (new.device, new.format, new.group, new.fit):
            continue
        if not isinstance(part, torch.Tensor) and (part.layout is not Layout.ROWS) != (name in packed):
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


def bytes_to_read(placement: Placement, kept: Mapping[str, Part]) -> dict[str, int]:
    """Bytes per tier, as placed, of what is not kept."""
    read: Counter[str] = Counter()
    for name, placed in placement.tensors.items():
        if part_of(name) not in kept:
            read[tier_of(placed.device)] += placed.nbytes
    return dict(read)


def held_bytes(*parts: object) -> dict[str, int]:
    """Bytes per tier of the distinct allocations behind parts, or trees of them."""
    storages = (tensor.untyped_storage() for part in parts for tensor in _tensors(part))
    held = {(tier_of(str(s.device)), s.data_ptr()): s.nbytes() for s in storages}
    bytes_of: Counter[str] = Counter()
    for (tier, _), nbytes in held.items():
        bytes_of[tier] += nbytes
    return dict(bytes_of)


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
