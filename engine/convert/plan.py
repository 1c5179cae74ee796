"""What a conversion writes: every tensor's format and every shard's bytes, known before the first is read. Reads no weights.

Tensors come in the order of computation and go into shards of at most `shard_bytes`; one that is larger has a shard to
itself. Within a shard wider types lie first, so that each tensor lies at a multiple of its own item size.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any

from engine.errors import ConversionError
from engine.profile.values import Profile
from engine.quant import fp8
from engine.quant.formats import DTYPES, WIDE
from engine.quant.grouped import SCALE_DTYPE, num_groups
from engine.quant.half_quadratic import Fit
from engine.quant.int4 import ZERO_DTYPE, packed_columns
from engine.quant.matrix import Format
from engine.weights.checkpoint import Checkpoint
from engine.weights.names import EMBEDDING, HEAD, group_scale_name, scale_name, zero_name
from engine.weights.placement import TensorPlacement, place
from engine.weights.quantization import DEEPSEEK, KEY, StoredFormat, describe
from engine.weights.safetensors_file import TORCH_DTYPES

_DTYPE_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}
_HEADER_ALIGNMENT = 8
_LAYOUT_VERSION = 1  # of what the same plan makes: a newer one does not go on with an older one's shards


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor of the files: a matrix's values, its scales or its zero points. `offset` counts from the file's beginning."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """One tensor of the model. `format` is None for a norm or a router, which is copied as it is stored."""

    name: str
    shape: tuple[int, ...]
    format: Format | None
    group: int
    source_bytes: int
    parts: tuple[Part, ...]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)


@dataclass(frozen=True, slots=True)
class Shard:
    """One file. `header` is the format's beginning: the length of the JSON and the JSON."""

    name: str
    header: bytes
    items: tuple[Item, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class ConversionPlan:
    """`block` counts for FP8, `fit` for int4. `identity` is equal for plans that make the same bytes of the same files."""

    checkpoint: Checkpoint
    shards: tuple[Shard, ...]
    block: tuple[int, int]
    fit: Fit
    quantization: Mapping[str, Any] | None  # of config.json
    identity: str

    @property
    def items(self) -> Iterable[Item]:
        return (item for shard in self.shards for item in shard.items)

    @property
    def source_bytes(self) -> int:
        return sum(item.source_bytes for item in self.items)

    @property
    def nbytes(self) -> int:
        return sum(shard.nbytes for shard in self.shards)


def make_plan(checkpoint: Checkpoint, profile: Profile, shard_bytes: int) -> ConversionPlan:
    """Formats as `profile` gives them; where it puts tensors plays no part. PlacementError, ConversionError."""
    if shard_bytes < 1:
        raise ConversionError(f"a shard of {shard_bytes} bytes holds nothing; expected a size such as 5GB")
    placement = place(checkpoint, _formats_only(profile))
    fit = profile.fit
    block = checkpoint.config.weight_block_size or (128, 128)
    items = [_item(checkpoint, placed, block) for placed in placement.tensors.values()]
    groups = _filled(items, shard_bytes)
    shards = tuple(
        _shard(f"model-{number:05d}-of-{len(groups):05d}.safetensors", group)
        for number, group in enumerate(groups, 1)
    )
    quantization = _quantization(items, block, fit)
    return ConversionPlan(
        checkpoint, shards, block, fit, quantization, _identity(checkpoint, items, shards, block, fit)
    )


def _identity(
    checkpoint: Checkpoint, items: list[Item], shards: tuple[Shard, ...], block: tuple[int, int], fit: Fit
) -> str:
    has_int4 = any(item.format is Format.INT4 for item in items)
    digest = hashlib.sha256((checkpoint.path / "config.json").read_bytes())
    settings = [
        _LAYOUT_VERSION,
        fit if has_int4 else None,
        block,
        [(item.name, item.group) for item in items],
    ]
    stored = [(name, *astuple(info)) for name, info in checkpoint.tensors.items()]
    digest.update(json.dumps([settings, stored]).encode())
    for shard in shards:
        digest.update(shard.header)
    return digest.hexdigest()


def _formats_only(profile: Profile) -> Profile:
    rules = tuple(replace(rule, device=None, gpu_resident=None) for rule in profile.rules)
    return replace(profile, device="cpu", rules=rules)


def _item(checkpoint: Checkpoint, placed: TensorPlacement, block: tuple[int, int]) -> Item:
    spec, stored = placed.spec, checkpoint.tensors[placed.spec.name]
    beside = (scale_name(spec.name), group_scale_name(spec.name), zero_name(spec.name))
    source_bytes = stored.nbytes + sum(
        checkpoint.tensors[name].nbytes for name in beside if name in checkpoint.tensors
    )
    if not spec.kind.is_matrix:
        copied = Part(spec.name, stored.dtype, stored.shape, stored.nbytes)
        return Item(spec.name, spec.shape, None, 0, source_bytes, (copied,))
    rows, columns = spec.shape
    parts = _parts(spec.name, placed.format, placed.group, rows, columns, block)
    return Item(spec.name, spec.shape, placed.format, placed.group, source_bytes, parts)


def _parts(
    name: str, fmt: Format, group: int, rows: int, columns: int, block: tuple[int, int]
) -> tuple[Part, ...]:
    def part(name: str, dtype: str, *shape: int) -> Part:
        return Part(name, dtype, shape, math.prod(shape) * TORCH_DTYPES[dtype].itemsize)

    data = part(
        name, _DTYPE_NAMES[DTYPES[fmt]], rows, packed_columns(columns) if fmt is Format.INT4 else columns
    )
    if fmt in WIDE:
        return (data,)
    if fmt is Format.FP8:
        return data, part(scale_name(name), "F32", *fp8.scale_shape(rows, columns, block))
    groups = num_groups(columns, group)
    scale = part(group_scale_name(name), _DTYPE_NAMES[SCALE_DTYPE], rows, groups)
    if fmt is Format.INT8:
        return data, scale
    return data, scale, part(zero_name(name), _DTYPE_NAMES[ZERO_DTYPE], rows, groups)


def _filled(items: Iterable[Item], shard_bytes: int) -> list[list[Item]]:
    groups: list[list[Item]] = []
    room = 0
    for item in items:
        if not groups or item.nbytes > room:
            groups.append([])
            room = shard_bytes
        groups[-1].append(item)
        room -= item.nbytes
    return groups


def _shard(name: str, items: list[Item]) -> Shard:
    parts = [part for item in items for part in item.parts]
    parts.sort(
        key=lambda part: -TORCH_DTYPES[part.dtype].itemsize
    )  # stable: else in the order of computation
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    starts: dict[str, int] = {}
    end = 0
    for part in parts:
        starts[part.name] = end
        header[part.name] = {
            "dtype": part.dtype,
            "shape": list(part.shape),
            "data_offsets": [end, end + part.nbytes],
        }
        end += part.nbytes
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % _HEADER_ALIGNMENT)
    beginning = len(text).to_bytes(8, "little") + text
    placed = tuple(
        replace(
            item,
            parts=tuple(replace(part, offset=len(beginning) + starts[part.name]) for part in item.parts),
        )
        for item in items
    )
    return Shard(name, beginning, placed, len(beginning) + end)


def _quantization(items: Iterable[Item], block: tuple[int, int], fit: Fit) -> dict[str, Any] | None:
    """None where everything is a float format; DeepSeek's form where it says all: fp8 for the layers' matrices alone."""
    matrices = {item.name: item.format for item in items if item.format is not None}
    quantized = {
        item.name: StoredFormat(item.format.value, item.group)
        for item in items
        if item.format is not None and item.format not in WIDE
    }
    if not quantized:
        return None
    kinds = {stored.precision for stored in quantized.values()}
    outside = {EMBEDDING, HEAD}
    if kinds == {"fp8"} and quantized.keys() == matrices.keys() - outside:
        return {**DEEPSEEK, "weight_block_size": list(block)}
    has_fp8, has_int4 = "fp8" in kinds, "int4" in kinds
    return describe(quantized, block if has_fp8 else None, fit if has_int4 else None)


def described_format(fmt: Format | None, group: int) -> str:
    """A format towards a person; None: a norm or a router, which is copied."""
    if fmt is None:
        return "as stored"
    return f"{fmt.value} in groups of {group}" if group else fmt.value


def config_of(plan: ConversionPlan, raw: Mapping[str, object]) -> dict[str, object]:
    """config.json of the result: `raw`, the source's, with the quantization described and the MTP layers, which are left out,
    no longer announced."""
    config = {key: value for key, value in raw.items() if key != KEY}
    if plan.quantization is not None:
        config[KEY] = dict(plan.quantization)
    if config.get("num_nextn_predict_layers"):
        config["num_nextn_predict_layers"] = 0
    return config
