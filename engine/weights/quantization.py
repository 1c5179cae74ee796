"""quantization_config of config.json: DeepSeek's FP8 blocks, and this program's own formats. Knows no tensors.

DeepSeek's  {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
Own         {"quant_method": "dsv3chat", "version": 1, "weight_block_size": [128, 128], "fit": "hqq", "formats":
             [{"modules": "model.layers.3-60.mlp.experts.*.gate_proj", "format": "int4", "group_size": 64}, ...]}

`modules` is written in the grammar of a profile's rules and the first entry that covers a tensor describes it; what no
entry covers is stored in a float format, which its dtype says. weight_block_size is there where a format is fp8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import ProfileError, UnsupportedModelError
from engine.profile.rules import RuleMatcher
from engine.weights.json_fields import Fields
from engine.weights.names import layer_of, layer_prefix

KEY = "quantization_config"
METHOD = "dsv3chat"
VERSION = 1
DEEPSEEK = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8"}

_FORMATS = ("fp8", "int8", "int4")
_GROUP_SIZES = (32, 64, 128)
_WEIGHT = ".weight"


@dataclass(frozen=True, slots=True)
class StoredFormat:
    """How a tensor lies in the files. `precision` is "fp8", "int8" or "int4"; `group_size` is 0 for fp8."""

    precision: str
    group_size: int = 0


def is_converted(raw: Mapping[str, object]) -> bool:
    """Whether config.json describes formats of this program's own."""
    quantization = raw.get(KEY)
    return isinstance(quantization, dict) and quantization.get("quant_method") == METHOD


def weight_block_size(fields: Fields) -> tuple[int, int] | None:
    """(rows, columns) of an FP8 block, None where nothing is FP8. `fields`: all of config.json.

    UnsupportedModelError for another quantization or a newer version of the own one, CheckpointError for a wrong value.
    """
    quantization = fields.nested(KEY)
    if quantization is None:
        return None
    method = quantization.text("quant_method")
    if method == METHOD:
        _check_version(quantization)
        return _block(quantization) if quantization.has("weight_block_size") else None
    if method != "fp8":
        raise UnsupportedModelError(
            f"{quantization.where}: quant_method is {method!r}; the engine reads fp8 blocks, what `dsv3chat convert` "
            "writes, and unquantized weights"
        )
    for key in ("fmt", "activation_scheme"):
        if quantization.has(key) and quantization.values[key] != DEEPSEEK[key]:
            raise UnsupportedModelError(
                f"{quantization.where}: {key} is {quantization.values[key]!r}; the engine reads {DEEPSEEK[key]!r} only"
            )
    return _block(quantization)


def read_formats(
    raw: Mapping[str, object], names: Iterable[str], where: str = "config.json"
) -> dict[str, StoredFormat]:
    """The tensors among `names` that an entry covers; empty unless the folder was converted. CheckpointError."""
    if not is_converted(raw):
        return {}
    quantization = Fields(raw, where).nested(KEY)
    assert quantization is not None
    entries = quantization.values.get("formats")
    if not isinstance(entries, list):
        raise quantization.error("formats", "a list of modules and their formats")
    read = [_entry(entry, f"{quantization.where}: formats[{i}]") for i, entry in enumerate(entries)]
    known: dict[str, StoredFormat | None] = {}
    found: dict[str, StoredFormat] = {}
    for name in names:
        path = _without_expert(name)
        if path not in known:
            known[path] = next((stored for matcher, stored in read if matcher.covers(path)), None)
        stored = known[path]
        if stored is not None:
            found[name] = stored
    return found


def describe(
    formats: Mapping[str, StoredFormat], block: tuple[int, int] | None, fit: str | None
) -> dict[str, Any]:
    """The own quantization_config of tensors in these formats, as few entries as neighbouring layers allow.

    The routed experts of a layer must be of one format per projection.
    """
    layers: dict[tuple[str, StoredFormat], set[int]] = {}  # what follows the layer -> the layers
    entries: list[tuple[str, StoredFormat]] = []
    for name, stored in formats.items():
        module = _without_expert(name).removesuffix(_WEIGHT)
        layer = layer_of(name)
        if layer is None:
            entries.append((module, stored))
        else:
            rest = module.removeprefix(layer_prefix(layer) + ".")
            layers.setdefault((rest, stored), set()).add(layer)
    for (rest, stored), numbers in layers.items():
        entries += [(f"model.layers.{run}.{rest}", stored) for run in _runs(sorted(numbers))]
    described: dict[str, Any] = {"quant_method": METHOD, "version": VERSION}
    if block is not None:
        described["weight_block_size"] = list(block)
    if fit is not None:
        described["fit"] = fit
    described["formats"] = [
        {"modules": modules, "format": stored.precision}
        | ({"group_size": stored.group_size} if stored.group_size else {})
        for modules, stored in entries
    ]
    return described


def _runs(numbers: list[int]) -> list[str]:
    """[1, 2, 3, 7] -> ["1-3", "7"]."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]


def _without_expert(name: str) -> str:
    """The name with `*` for the expert's number, which the grammar reads as any number; all experts share a format."""
    before, separator, after = name.partition(".mlp.experts.")
    if not separator:
        return name
    return f"{before}{separator}*.{after.partition('.')[2]}"


def _check_version(quantization: Fields) -> None:
    version = quantization.integer("version", 1)
    if version > VERSION:
        raise UnsupportedModelError(
            f"{quantization.where}: version is {version}, this program reads up to {VERSION}; update it, or convert again"
        )


def _block(quantization: Fields) -> tuple[int, int]:
    size = quantization.values.get("weight_block_size")
    if (
        isinstance(size, list)
        and len(size) == 2
        and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in size)
    ):
        return size[0], size[1]
    raise quantization.error("weight_block_size", "two block sizes such as [128, 128]")


def _entry(entry: object, where: str) -> tuple[RuleMatcher, StoredFormat]:
    fields = Fields(entry if isinstance(entry, dict) else {}, where)
    modules, precision = fields.text("modules"), fields.text("format")
    if precision not in _FORMATS:
        raise fields.error("format", f"one of {', '.join(_FORMATS)}")
    group = 0 if precision == "fp8" else fields.integer("group_size", 1)
    if group and group not in _GROUP_SIZES:
        raise fields.error("group_size", f"one of {', '.join(map(str, _GROUP_SIZES))}")
    try:
        return RuleMatcher(modules or ""), StoredFormat(precision, group)
    except ProfileError as error:
        raise fields.error("modules", f"module paths in the grammar of profile rules ({error})") from error
