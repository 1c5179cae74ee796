"""What the loader will refuse about formats, refused by the plan in the same cases. Knows no bytes and no machine."""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import PlacementError
from engine.planner.sizes import DEFAULT_GROUP, GROUP_SIZES
from engine.profile.values import Profile
from engine.weights.assignment import Assignment, at_rule, where_of
from engine.weights.names import Kind


def check_formats(profile: Profile, tensors: Sequence[tuple[Assignment, str]]) -> None:
    """`tensors` with the precision that each has in memory. PlacementError with the rule's text and line for a group size
    that no format has or that nothing uses, and for routed experts of one layer that are not of one kind."""
    where = where_of(profile)
    for at, size in (
        (f"{where}: defaults", profile.group_size),
        *((at_rule(where, rule), rule.group_size) for rule in profile.rules),
    ):
        if size is not None and size not in GROUP_SIZES:
            sizes = ", ".join(map(str, GROUP_SIZES))
            raise PlacementError(f"{at}: group_size: {size}; int8 and int4 have groups of {sizes}")
    grouped = {
        i for assignment, precision in tensors if precision in DEFAULT_GROUP for i in assignment.covering
    }
    for index, rule in enumerate(profile.rules):
        if rule.group_size is not None and index not in grouped:
            raise PlacementError(
                f"{at_rule(where, rule)} has group_size: {rule.group_size}, but nothing that it covers is int8 or int4; "
                "remove group_size, or ask for one of the two"
            )
    _check_stacks(where, tensors)


def _check_stacks(where: str, tensors: Sequence[tuple[Assignment, str]]) -> None:
    """The routed experts of a layer lie in one allocation per projection."""
    first: dict[tuple[int | None, str], tuple[Assignment, str]] = {}
    for assignment, precision in tensors:
        if assignment.spec.kind is not Kind.EXPERTS:
            continue
        key = assignment.spec.layer, assignment.spec.name.rsplit(".", 2)[1]
        other, other_precision = first.setdefault(key, (assignment, precision))
        one = (other_precision, other.device, other.group_size, other.gpu_resident)
        if one != (precision, assignment.device, assignment.group_size, assignment.gpu_resident):
            raise PlacementError(
                f"{where}: {other.spec.name} would be {other_precision} on {other.device} and {assignment.spec.name} "
                f"{precision} on {assignment.device}; the routed experts of a layer are one stack: give them one precision "
                "with a rule for model.layers.*.mlp.experts"
            )
