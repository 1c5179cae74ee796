"""Profile + checkpoint -> where each tensor goes and in which format, with its bytes. Reads no weights.

Rules are tried in the order of the file; for each tensor the first rule that covers it and has a key decides that key,
then the profile's defaults do. What a person wrote and this build cannot do is an error with the rule's text and line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from engine.errors import PlacementError, ProfileError
from engine.hardware import Hardware
from engine.profile.built import BUILT, NOT_BUILT
from engine.profile.rules import RuleMatcher
from engine.profile.values import Precision, Profile, Rule
from engine.quant.formats import FORMATS, nbytes
from engine.quant.matrix import Format
from engine.weights.checkpoint import Checkpoint
from engine.weights.names import HEAD, Kind, TensorSpec
from engine.weights.safetensors_file import TORCH_DTYPES

_Key = TypeVar("_Key")
_WIDE: dict[Precision, Format] = {"fp32": Format.FP32, "bf16": Format.BF16}


@dataclass(frozen=True, slots=True)
class TensorPlacement:
    """One tensor's place. `nbytes` counts FP8 scales; norms and routers are FP32 whatever the precision says."""

    spec: TensorSpec
    device: str
    format: Format
    nbytes: int


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


def place(checkpoint: Checkpoint, profile: Profile, hardware: Hardware | None = None) -> Placement:
    """Decide every tensor's device and format. With `hardware`, also that the bytes fit into its free memory.

    Raises PlacementError: a part of the profile that is not built, a rule that covers nothing or only tensors that
    cannot take its precision, routed experts of one layer in several formats, more bytes than are free.
    """
    where = str(profile.source or f"profile {profile.name}")
    _check_built(where, "defaults", Rule("", profile.device, profile.precision, profile.group_size))
    matchers = [(rule, _matcher(where, rule)) for rule in profile.rules]
    counts, sizes, matrices = (Counter[int]() for _ in range(3))
    tensors: dict[str, TensorPlacement] = {}
    for name, spec in checkpoint.specs.items():
        covering = [i for i, (_, matcher) in enumerate(matchers) if matcher.covers(name)]
        rules = [profile.rules[i] for i in covering]
        device = next((rule.device for rule in rules if rule.device is not None), profile.device)
        precision = next((rule.precision for rule in rules if rule.precision is not None), profile.precision)
        placed = _placed(checkpoint, spec, device, precision)
        tensors[name] = placed
        for i in covering:
            counts[i] += 1
            sizes[i] += placed.nbytes
            matrices[i] += spec.kind.is_matrix
    coverage = tuple(RuleCoverage(rule, counts[i], sizes[i]) for i, rule in enumerate(profile.rules))
    for i, covered in enumerate(coverage):
        _check_effect(where, covered, matrices[i], checkpoint.config.tie_word_embeddings)
    _check_stacks(where, tensors)
    placement = Placement(tensors, coverage)
    if hardware is not None:
        _check_memory(where, placement, hardware)
    return placement


def _placed(checkpoint: Checkpoint, spec: TensorSpec, device: str, precision: Precision) -> TensorPlacement:
    if not spec.kind.is_matrix:
        size = 4
        for count in spec.shape:
            size *= count
        return TensorPlacement(spec, device, Format.FP32, size)
    stored = FORMATS[TORCH_DTYPES[checkpoint.tensors[spec.name].dtype]]
    chosen = stored if precision == "native" else _WIDE[precision]
    rows, columns = spec.shape
    block = checkpoint.config.weight_block_size or (128, 128)  # counts for FP8 only, which has one
    return TensorPlacement(spec, device, chosen, nbytes(chosen, rows, columns, block))


def _matcher(where: str, rule: Rule) -> RuleMatcher:
    text = f"rule {rule.match!r}"
    _check_built(f"{where}:{rule.line}" if rule.line else where, text, rule)
    try:
        return RuleMatcher(rule.match)
    except ProfileError as error:
        raise PlacementError(f"{_at(where, rule)}: {error}") from error


def _at(where: str, rule: Rule) -> str:
    """FILE:LINE: rule 'MATCH', the beginning of every message about a rule."""
    line = f":{rule.line}" if rule.line else ""
    return f"{where}{line}: rule {rule.match!r}"


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
                f"{where}: {text}: {key}: {value} is {NOT_BUILT}; built are the device cpu and the precisions "
                f"{', '.join(sorted(BUILT.precisions))}"
            )


def _check_effect(where: str, covered: RuleCoverage, num_matrices: int, tied: bool) -> None:
    rule = covered.rule
    if not covered.num_tensors:
        hint = ""
        if tied and RuleMatcher(rule.match).covers(HEAD):
            hint = " (the head is tied: it is model.embed_tokens)"
        raise PlacementError(
            f"{_at(where, rule)} matches nothing in this model{hint}; expected module paths such as "
            "model.layers.0-3.mlp, model.embed_tokens or lm_head"
        )
    if not num_matrices and rule.precision not in (None, "native", "fp32"):
        raise PlacementError(
            f"{_at(where, rule)} covers only norms and routers, which are float32 always; "
            f"remove precision: {rule.precision}"
        )


def _check_stacks(where: str, tensors: Mapping[str, TensorPlacement]) -> None:
    """The routed experts of a layer lie in one allocation per projection, so they have one format."""
    first: dict[tuple[int | None, str], TensorPlacement] = {}
    for name, placed in tensors.items():
        if placed.spec.kind is not Kind.EXPERTS:
            continue
        other = first.setdefault((placed.spec.layer, name.rsplit(".", 2)[1]), placed)
        if (placed.format, placed.device) != (other.format, other.device):
            raise PlacementError(
                f"{where}: {other.spec.name} would be {other.format.value} and {name} {placed.format.value}; the routed "
                "experts of a layer are one stack: give them one precision with a rule for model.layers.*.mlp.experts"
            )


def _check_memory(where: str, placement: Placement, hardware: Hardware) -> None:
    needed = placement.bytes_by_tier.get("ram", 0)
    free = hardware.memory.available_bytes
    if needed > free:
        raise PlacementError(
            f"{where}: the weights need {needed / 2**30:.2f} GiB of RAM, {free / 2**30:.2f} GiB are free (limit: "
            f"{hardware.memory.limit_source}); close other programs, or take a profile with a smaller precision"
        )
