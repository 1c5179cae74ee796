"""Profile + checkpoint -> where each tensor goes and in which format, with its bytes. Reads no weights.

What the rules decide is engine.weights.assignment's business. What a person wrote and this build cannot do is an error
with the rule's text and line.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from engine.errors import PlacementError
from engine.profile.built import BUILT, NOT_BUILT
from engine.profile.values import Fit, Precision, Profile, Rule
from engine.quant.formats import FORMATS, group_of, nbytes
from engine.quant.grouped import GROUP_SIZES
from engine.quant.matrix import Format
from engine.weights.assignment import Assignment, assign, at_rule, check_rules, where_of
from engine.weights.checkpoint import Checkpoint
from engine.weights.names import Kind, TensorSpec
from engine.weights.safetensors_file import TORCH_DTYPES

_Key = TypeVar("_Key")
_FORMATS: dict[Precision, Format] = {
    "fp32": Format.FP32,
    "bf16": Format.BF16,
    "fp8": Format.FP8,
    "int8": Format.INT8,
    "int4": Format.INT4,
}


@dataclass(frozen=True, slots=True)
class TensorPlacement:
    """One tensor's place. `nbytes` counts scales; norms and routers are FP32 whatever the precision says."""

    spec: TensorSpec
    device: str
    format: Format
    nbytes: int
    group: int = 0  # values of a row that share a scale; 0 for a format without groups
    fit: Fit | None = None  # how the scales of INT4 are found; None where none are


@dataclass(frozen=True, slots=True)
class RuleCoverage:
    """What a rule covers: tensors and their bytes as placed, also where an earlier rule decided a key."""

    rule: Rule
    num_tensors: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Every tensor's place, by name in the order of computation, and what each rule of the profile covers."""

    tensors: Mapping[str, TensorPlacement]
    rules: tuple[RuleCoverage, ...] = ()

    @property
    def total_bytes(self) -> int:
        return sum(placed.nbytes for placed in self.tensors.values())

    @property
    def bytes_by_tier(self) -> dict[str, int]:
        """Bytes per tier: "ram" for the device cpu, else the device's name."""
        return self._bytes_by(lambda placed: tier_of(placed.device))

    @property
    def devices(self) -> frozenset[str]:
        """Every device that holds a tensor."""
        return frozenset(placed.device for placed in self.tensors.values())

    @property
    def bytes_by_kind(self) -> dict[Kind, int]:
        return self._bytes_by(lambda placed: placed.spec.kind)

    @property
    def bytes_by_layer(self) -> dict[int | None, int]:
        """Bytes per layer; None holds the embedding, the last norm and the head."""
        return self._bytes_by(lambda placed: placed.spec.layer)

    def _bytes_by(self, key: Callable[[TensorPlacement], _Key]) -> dict[_Key, int]:
        counts: Counter[_Key] = Counter()
        for placed in self.tensors.values():
            counts[key(placed)] += placed.nbytes
        return dict(counts)


def tier_of(device: str) -> str:
    """How events and gauges call the memory of a device."""
    return "ram" if device == "cpu" else device


def place(checkpoint: Checkpoint, profile: Profile) -> Placement:
    """Decide every tensor's device and format. Whether the devices are there, and have room, is not asked.

    Raises PlacementError: a part of the profile that is not built, a rule that covers nothing or only tensors that
    cannot take its precision, a part of a layer on two devices, a group size that the formats lack or that nothing would
    use, routed experts of one layer in several formats.
    """
    where = where_of(profile)
    _check_built(where, "defaults", Rule("", profile.device, profile.precision, profile.group_size))
    for rule in profile.rules:
        _check_built(f"{where}:{rule.line}" if rule.line else where, f"rule {rule.match!r}", rule)
    assigned = assign(checkpoint.specs.values(), profile)
    check_rules(profile, assigned, checkpoint.config.tie_word_embeddings)
    counts, sizes = Counter[int](), Counter[int]()
    tensors: dict[str, TensorPlacement] = {}
    for assignment in assigned:
        placed = _placed(checkpoint, assignment, profile.fit)
        tensors[placed.spec.name] = placed
        for i in assignment.covering:
            counts[i] += 1
            sizes[i] += placed.nbytes
    coverage = tuple(RuleCoverage(rule, counts[i], sizes[i]) for i, rule in enumerate(profile.rules))
    _check_groups(profile, assigned, tensors)
    _check_stacks(where, tensors)
    return Placement(tensors, coverage)


def _placed(checkpoint: Checkpoint, assignment: Assignment, fit: Fit) -> TensorPlacement:
    spec, precision = assignment.spec, assignment.precision
    if not spec.kind.is_matrix:
        return TensorPlacement(spec, assignment.device, Format.FP32, 4 * math.prod(spec.shape))
    stored = FORMATS[TORCH_DTYPES[checkpoint.tensors[spec.name].dtype]]
    chosen = stored if precision == "native" else _FORMATS[precision]
    rows, columns = spec.shape
    block = checkpoint.config.weight_block_size or (128, 128)  # counts for FP8 only
    stored_group = checkpoint.formats[spec.name].group_size if spec.name in checkpoint.formats else None
    asked = assignment.group_size
    if chosen is stored and (asked is None or precision == "native"):
        asked = stored_group
    group = group_of(chosen, asked)
    size = nbytes(chosen, rows, columns, block, group)
    fitted = None if chosen is not Format.INT4 or (chosen is stored and group == stored_group) else fit
    return TensorPlacement(spec, assignment.device, chosen, size, group, fitted)


def _check_built(where: str, text: str, rule: Rule) -> None:
    asked = (
        ("device", rule.device, rule.device is None or rule.device.partition(":")[0] in BUILT.device_kinds),
        ("precision", rule.precision, rule.precision is None or rule.precision in BUILT.precisions),
        ("group_size", rule.group_size, rule.group_size is None or "group_size" in BUILT.keys),
        ("gpu_resident", rule.gpu_resident, rule.gpu_resident is None or "gpu_resident" in BUILT.keys),
    )
    for key, value, built in asked:
        if not built:
            raise PlacementError(
                f"{where}: {text}: {key}: {value} is {NOT_BUILT}; built are the devices cpu and cuda:N and the precisions "
                f"{', '.join(sorted(BUILT.precisions))}"
            )
    if rule.group_size is not None and rule.group_size not in GROUP_SIZES:
        raise PlacementError(
            f"{where}: {text}: group_size: {rule.group_size}; int8 and int4 have groups of "
            f"{', '.join(map(str, GROUP_SIZES))}"
        )


def _check_groups(
    profile: Profile, assigned: Sequence[Assignment], tensors: Mapping[str, TensorPlacement]
) -> None:
    """A rule's group_size must mean something for a tensor that it covers."""
    for index, rule in enumerate(profile.rules):
        covered = (tensors[a.spec.name] for a in assigned if index in a.covering)
        if rule.group_size is not None and not any(placed.group for placed in covered):
            raise PlacementError(
                f"{at_rule(where_of(profile), rule)} has group_size: {rule.group_size}, but nothing that it covers is int8 "
                "or int4; remove group_size, or ask for one of the two"
            )


def _check_stacks(where: str, tensors: Mapping[str, TensorPlacement]) -> None:
    """The routed experts of a layer lie in one allocation per projection, so they have one format."""
    first: dict[tuple[int | None, str], TensorPlacement] = {}
    for name, placed in tensors.items():
        if placed.spec.kind is not Kind.EXPERTS:
            continue
        other = first.setdefault((placed.spec.layer, name.rsplit(".", 2)[1]), placed)
        if (placed.format, placed.group, placed.device) != (other.format, other.group, other.device):
            raise PlacementError(
                f"{where}: {other.spec.name} would be {_described(other)} and {name} {_described(placed)}; the routed "
                "experts of a layer are one stack: give them one precision with a rule for model.layers.*.mlp.experts"
            )


def _described(placed: TensorPlacement) -> str:
    return f"{placed.format.value} in groups of {placed.group}" if placed.group else placed.format.value
