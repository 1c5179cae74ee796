"""What a profile's rules decide about each tensor: device, precision, group size. Knows no files, no bytes, no torch.

Rules are tried in the order of the file; for each tensor the first rule that covers it and has a key decides that key,
then the profile's defaults do. Placement (of a checkpoint) and the planner (of a config alone) both stand on this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from engine.errors import PlacementError, ProfileError
from engine.profile.rules import RuleMatcher
from engine.profile.values import Precision, Profile, Rule
from engine.weights.names import HEAD, NORM, Kind, TensorSpec

_HOMES = (Kind.ATTENTION, Kind.EMBEDDING, Kind.HEAD)  # where norms are; a tied head is the embedding
QUANTIZED: frozenset[Precision] = frozenset({"fp8", "int8", "int4", "int3", "int2"})


@dataclass(frozen=True, slots=True)
class Assignment:
    """One tensor. `precision` is what the tensor takes: fp32 for norms and routers, bf16 for an embedding that a default
    or a wide rule would quantize (its rows are looked up, not multiplied). A rule for the embedding alone may quantize it,
    which pays where the head is tied to it."""

    spec: TensorSpec
    device: str
    precision: Precision
    group_size: int | None  # None: the format's own
    gpu_resident: int | Literal["auto"] | None  # routed experts of this layer that stay on the GPU
    covering: tuple[int, ...]  # indices of the rules that cover it, in the order of the file


def where_of(profile: Profile) -> str:
    """How messages name the profile: its file, else its name."""
    return str(profile.source or f"profile {profile.name}")


def at_rule(where: str, rule: Rule) -> str:
    """FILE:LINE: rule 'MATCH', the beginning of every message about a rule."""
    line = f":{rule.line}" if rule.line else ""
    return f"{where}{line}: rule {rule.match!r}"


def assign(specs: Iterable[TensorSpec], profile: Profile) -> list[Assignment]:
    """What the rules decide, one entry a tensor, in order. Norms are where their layer's attention is, the last one where
    the head is; so is a router that no rule gives a device. PlacementError for a `match` outside the grammar."""
    matchers = [_matcher(where_of(profile), rule) for rule in profile.rules]
    assigned = [_assigned(spec, profile, matchers) for spec in specs]
    home = {a.spec.layer: a.device for a in assigned if a.spec.kind in _HOMES}
    return [
        replace(a, device=home.get(a.spec.layer, a.device))
        if a.spec.kind is Kind.NORM or (a.spec.kind is Kind.ROUTER and not _decides_device(profile, a))
        else a
        for a in assigned
    ]


def _decides_device(profile: Profile, assignment: Assignment) -> bool:
    return any(profile.rules[i].device is not None for i in assignment.covering)


def check_rules(profile: Profile, assigned: Sequence[Assignment], tied: bool) -> None:
    """Refuse, with the rule's text and line, a rule that covers nothing or cannot have its way.

    `tied`: the head is the embedding. PlacementError.
    """
    where = where_of(profile)
    covered: list[list[Assignment]] = [[] for _ in profile.rules]
    for assignment in assigned:
        for index in assignment.covering:
            covered[index].append(assignment)
    for rule, tensors in zip(profile.rules, covered, strict=True):
        _check_effect(at_rule(where, rule), rule, [tensor.spec for tensor in tensors], tied)
        norms = all(tensor.spec.kind is Kind.NORM for tensor in tensors)
        if norms and rule.device is not None and any(tensor.device != rule.device for tensor in tensors):
            raise PlacementError(
                f"{at_rule(where, rule)} covers only norms, which are where their layer's attention or the head is; remove "
                f"device: {rule.device}"
            )
    _check_parts(profile, assigned)
    for assignment in assigned:
        if assignment.device == "disk" and assignment.spec.kind is not Kind.EXPERTS:
            rule = next(profile.rules[i] for i in assignment.covering if profile.rules[i].device is not None)
            raise PlacementError(
                f"{at_rule(where, rule)} puts {assignment.spec.name} on the disk, which holds routed experts only; "
                "match their modules alone, as in model.layers.*.mlp.experts"
            )


def _check_parts(profile: Profile, assigned: Sequence[Assignment]) -> None:
    """A layer's attention, its router, its MLP, its shared and its routed experts are each computed on one device."""
    first: dict[tuple[int | None, Kind], Assignment] = {}
    for assignment in assigned:
        spec = assignment.spec
        if spec.layer is None or spec.kind is Kind.NORM:
            continue
        other = first.setdefault((spec.layer, spec.kind), assignment)
        if other.device != assignment.device:
            deciding = [profile.rules[i] for i in assignment.covering if profile.rules[i].device is not None]
            at = at_rule(where_of(profile), deciding[0]) if deciding else f"{where_of(profile)}: defaults"
            raise PlacementError(
                f"{at} puts {spec.name} on {assignment.device}, and {other.spec.name} is on {other.device}; the "
                f"{spec.kind.value} of a layer is computed on one device: match all of it"
            )


def _assigned(spec: TensorSpec, profile: Profile, matchers: Sequence[RuleMatcher]) -> Assignment:
    covering = tuple(i for i, matcher in enumerate(matchers) if matcher.covers(spec.name))
    rules = [profile.rules[i] for i in covering]
    device = next((rule.device for rule in rules if rule.device is not None), profile.device)
    precision = next((rule.precision for rule in rules if rule.precision is not None), profile.precision)
    group = next((rule.group_size for rule in rules if rule.group_size is not None), profile.group_size)
    resident = next((rule.gpu_resident for rule in rules if rule.gpu_resident is not None), None)
    if not spec.kind.is_matrix:
        precision = "fp32"
    elif (
        spec.kind is Kind.EMBEDDING
        and precision in QUANTIZED
        and not _for_embedding(profile, covering, matchers)
    ):
        precision = "bf16"
    return Assignment(spec, device, precision, group, resident, covering)


def _for_embedding(profile: Profile, covering: Sequence[int], matchers: Sequence[RuleMatcher]) -> bool:
    """Whether the rule that decides the embedding's precision is meant for it: it does not cover the last norm too."""
    deciding = next((i for i in covering if profile.rules[i].precision is not None), None)
    return deciding is not None and not matchers[deciding].covers(NORM)


def _matcher(where: str, rule: Rule) -> RuleMatcher:
    try:
        return RuleMatcher(rule.match)
    except ProfileError as error:
        raise PlacementError(f"{at_rule(where, rule)}: {error}") from error


def _check_effect(at: str, rule: Rule, covered: Sequence[TensorSpec], tied: bool) -> None:
    if not covered:
        hint = ""
        if tied and RuleMatcher(rule.match).covers(HEAD):
            hint = " (the head is tied: it is model.embed_tokens)"
        raise PlacementError(
            f"{at} matches nothing in this model{hint}; expected module paths such as "
            "model.layers.0-3.mlp, model.embed_tokens or lm_head"
        )
    matrices = [spec for spec in covered if spec.kind.is_matrix]
    if not matrices and rule.precision not in (None, "native", "fp32"):
        raise PlacementError(
            f"{at} covers only norms and routers, which are float32 always; remove precision: {rule.precision}"
        )
    if rule.gpu_resident is not None and all(spec.kind is not Kind.EXPERTS for spec in covered):
        raise PlacementError(
            f"{at} covers no routed experts, which gpu_resident is about; remove gpu_resident: {rule.gpu_resident}"
        )
