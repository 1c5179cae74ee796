"""Do the tensors of a checkpoint fit its config? Every misfit by name, in one error. Knows no files and reads no data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from engine.errors import CheckpointError
from engine.model.config import ModelConfig
from engine.quant.fp8 import scale_shape
from engine.quant.grouped import num_groups
from engine.quant.int4 import packed_columns
from engine.weights.names import (
    EMBEDDING,
    HEAD,
    SCALE_SUFFIX,
    Kind,
    TensorSpec,
    group_scale_name,
    is_harmless,
    is_mtp_mark,
    layer_of,
    scale_name,
    zero_name,
)
from engine.weights.quantization import StoredFormat
from engine.weights.safetensors_header import TensorInfo
from engine.weights.shards import some

_FLOATS = frozenset({"F32", "F16", "BF16"})
_FP8 = "F8_E4M3"
_FLOAT = StoredFormat("float")
_CODES = {"int8": "I8", "int4": "U8"}


def check_tensors(
    config: ModelConfig,
    specs: Mapping[str, TensorSpec],
    tensors: Mapping[str, TensorInfo],
    where: str,
    formats: Mapping[str, StoredFormat] = {},
) -> tuple[str, ...]:
    """Notes on what is recognised and left out. Raises CheckpointError with every kind of misfit, the first few of each."""
    scales: set[str] = set()
    missing: list[str] = []
    misfits: list[str] = []
    for name, spec in specs.items():
        info = tensors.get(name)
        stored = formats.get(name, _FLOAT)
        if info is None:
            missing.append(name)
        elif stored.group_size and spec.kind.is_matrix:
            parts = _group_parts(spec, stored)
            scales |= parts.keys()
            missing += [part for part in parts if part not in tensors]
            misfits += _part_problems(parts | {name: _codes(spec, stored)}, tensors)
        elif info.shape != spec.shape:
            misfits.append(f"{name} is {list(info.shape)}, expected {list(spec.shape)}")
        elif (
            info.dtype == _FP8
            and spec.kind.is_matrix
            and (spec.kind is not Kind.EMBEDDING or stored.precision == "fp8")
        ):
            scales.add(scale_name(name))
            problem = _scale_problem(config, spec, tensors.get(scale_name(name)))
            if problem:
                misfits.append(problem)
        elif info.dtype not in _FLOATS:
            misfits.append(f"{name} is {info.dtype}, which a tensor for the {spec.kind.value} cannot be")
    extra, notes = _left_out(config, specs, scales, tensors)
    problems = [
        f"{title} ({len(names):,}): {some(names)}"
        for title, names in (("missing", missing), ("not as expected", misfits), ("not known", extra))
        if names
    ]
    if problems:
        raise CheckpointError(f"{where}: the tensors do not fit config.json; " + "; ".join(problems))
    return notes


def check_count(config: ModelConfig, num_tensors: int, where: str) -> None:
    """Refuse a config whose tensors need not even be listed to see that they are not there."""
    asked = config.num_hidden_layers * (9 + 3 * config.n_routed_experts)
    if asked > 100 * (num_tensors + 100):
        raise CheckpointError(
            f"{where}: config.json asks for {config.num_hidden_layers:,} layers with {config.n_routed_experts:,} experts, "
            f"the files hold {num_tensors:,} tensors"
        )


def _scale_problem(config: ModelConfig, spec: TensorSpec, scale: TensorInfo | None) -> str | None:
    block = config.weight_block_size
    if block is None:
        return f"{spec.name} is {_FP8}, but config.json has no quantization_config with a weight_block_size"
    if scale is None:
        return f"{scale_name(spec.name)} is missing beside its {_FP8} weight"
    rows, columns = spec.shape
    expected = scale_shape(rows, columns, block)
    if scale.shape != expected:
        return (
            f"{scale_name(spec.name)} is {list(scale.shape)}, expected {list(expected)} "
            f"({rows} x {columns} in blocks of {block[0]} x {block[1]})"
        )
    if scale.dtype not in _FLOATS:
        return f"{scale_name(spec.name)} is {scale.dtype}, expected F32"
    return None


def _codes(spec: TensorSpec, stored: StoredFormat) -> tuple[str, tuple[int, ...]]:
    """(dtype, shape) of an int8 or int4 matrix's values."""
    rows, columns = spec.shape
    width = packed_columns(columns) if stored.precision == "int4" else columns
    return _CODES[stored.precision], (rows, width)


def _group_parts(spec: TensorSpec, stored: StoredFormat) -> dict[str, tuple[str, tuple[int, ...]]]:
    """(dtype, shape) of its scales, and of an int4 matrix's zero points, by name."""
    rows, columns = spec.shape
    groups = (rows, num_groups(columns, stored.group_size))
    parts: dict[str, tuple[str, tuple[int, ...]]] = {group_scale_name(spec.name): ("BF16", groups)}
    if stored.precision == "int4":
        parts[zero_name(spec.name)] = ("F16", groups)
    return parts


def _part_problems(
    parts: Mapping[str, tuple[str, tuple[int, ...]]], tensors: Mapping[str, TensorInfo]
) -> list[str]:
    return [
        f"{name} is {info.dtype} {list(info.shape)}, expected {dtype} {list(shape)}"
        for name, (dtype, shape) in parts.items()
        if (info := tensors.get(name)) is not None and (info.dtype, info.shape) != (dtype, shape)
    ]


def _left_out(
    config: ModelConfig, specs: Mapping[str, TensorSpec], scales: set[str], tensors: Mapping[str, TensorInfo]
) -> tuple[list[str], tuple[str, ...]]:
    """(unknown tensors, notes on the known ones that the engine does not use)."""
    unused = [n for n in tensors if n not in specs and n not in scales and not is_harmless(n)]
    marked = {layer_of(name) for name in unused if is_mtp_mark(name)}
    first_mtp = config.num_hidden_layers
    mtp_bytes: Counter[int] = Counter()
    extra: list[str] = []
    notes: list[str] = []
    for name in unused:
        layer = layer_of(name)
        announced = layer is not None and layer < first_mtp + config.num_nextn_predict_layers
        if layer is not None and layer >= first_mtp and (announced or layer in marked):
            mtp_bytes[layer] += tensors[name].nbytes
        elif name == HEAD and tensors[name].shape == specs[EMBEDDING].shape:  # not in specs: the head is tied
            notes.append(f"{HEAD} is left out: config.json ties the head to the embedding")
        elif name.endswith(SCALE_SUFFIX) and name.removesuffix(SCALE_SUFFIX) in specs:
            weight = tensors.get(name.removesuffix(SCALE_SUFFIX))
            extra.append(f"{name} (its weight is {weight.dtype if weight else 'absent'})")
        else:
            extra.append(name)
    notes += [
        f"MTP layer {layer} ({nbytes / 1e6:.1f} MB) is recognised and left out"
        for layer, nbytes in sorted(mtp_bytes.items())
    ]
    return extra, tuple(notes)
