"""Need against machine: does it fit, if not by how much and what would make it fit. Loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.errors import EngineError
from engine.planner.machine import Machine
from engine.planner.need import CACHE, EXPERTS, PAGE_TOKENS, Need, RuleNeed, compute_need, gpu_of
from engine.planner.shape import ModelShape
from engine.planner.speed import Speed, expected_speed
from engine.profile.values import Profile


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A device that cannot hold what the profile puts there. `have` None: the device is not there, `reason` says why."""

    device: str
    need: int
    have: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """`speed` is the range, or in words why there is none. `expert_cache_bytes`: RAM left for experts that lie on disk."""

    shape: ModelShape
    profile: Profile
    machine: Machine
    need: Need
    shortfalls: tuple[Shortfall, ...]
    expert_cache_bytes: int
    resident_expert_bytes: int  # of `gpu_resident: auto`: VRAM left for experts
    speed: Speed | str

    @property
    def fits(self) -> bool:
        return not self.shortfalls


@dataclass(frozen=True, slots=True)
class Remedies:
    """What would make a plan fit. `costliest` is the rule with most bytes on a short device; `cache_lens` the largest pool
    that fits, None where a smaller one does not help; `nearest` the profile that fits and changes least."""

    costliest: RuleNeed | None
    cache_lens: int | None
    nearest: Plan | None


def make_plan(shape: ModelShape, profile: Profile, machine: Machine) -> Plan:
    """Raises PlacementError for rules that cannot have their way in this model."""
    need = compute_need(shape, profile)
    shortfalls = []
    for device in need.devices:
        if device == "disk":
            continue
        needed, capacity = need.bytes_on(device), machine.capacity(device)
        if capacity is None:
            reason = machine.no_gpu_reason if not machine.vram else f"there are {len(machine.vram)} GPUs"
            shortfalls.append(Shortfall(device, needed, None, reason))
        elif capacity.value is not None and needed > capacity.value:
            shortfalls.append(Shortfall(device, needed, capacity.value, capacity.origin))
    spare_ram = int((machine.ram.value or 0) - need.bytes_on("cpu"))
    gpu = gpu_of(need.tensors)
    capacity = machine.capacity(gpu)
    spare_vram = int((capacity.value if capacity and capacity.value else 0) - need.bytes_on(gpu))
    on_disk = sum(t.nbytes for t in need.tensors if t.category == EXPERTS and t.assignment.device == "disk")
    automatic = sum(t.nbytes for t in need.tensors if t.assignment.gpu_resident == "auto")
    return Plan(
        shape,
        profile,
        machine,
        need,
        tuple(shortfalls),
        max(0, min(spare_ram, on_disk)),
        max(0, min(spare_vram, automatic)),
        expected_speed(shape.config, profile, need, machine, spare_ram, spare_vram),
    )


def remedies(plan: Plan, candidates: Sequence[Profile]) -> Remedies:
    """For a plan that does not fit. `candidates` whose rules this model cannot take are passed by."""
    short = {shortfall.device for shortfall in plan.shortfalls}
    costs = {
        index: sum(rule.bytes_by_device.get(device, 0) for device in short)
        for index, rule in enumerate(plan.need.rules)
    }
    worst = max(costs, key=lambda index: costs[index], default=None)
    costliest = plan.need.rules[worst] if worst is not None and costs[worst] else None
    return Remedies(costliest, _smaller_cache(plan), _nearest(plan, candidates))


def _smaller_cache(plan: Plan) -> int | None:
    """The largest cache_lens with which everything fits, not below max_batch_size * max_new_tokens."""
    profile = plan.profile
    pages = profile.cache_lens // PAGE_TOKENS
    for shortfall in plan.shortfalls:
        cache = plan.need.devices[shortfall.device].get(CACHE, 0)
        if shortfall.have is None or not cache:
            return None
        per_token = cache / (-(-profile.cache_lens // PAGE_TOKENS) * PAGE_TOKENS)
        excess_tokens = (shortfall.need - shortfall.have) / per_token
        pages = min(pages, int((profile.cache_lens - excess_tokens) // PAGE_TOKENS))
    tokens = pages * PAGE_TOKENS
    if tokens < profile.max_batch_size * profile.max_new_tokens:
        return None
    fitting = make_plan(plan.shape, replace(profile, cache_lens=tokens), plan.machine)
    return tokens if fitting.fits else None


def _nearest(plan: Plan, candidates: Sequence[Profile]) -> Plan | None:
    """The fitting profile that leaves most weights on their device and in their precision; then the faster one."""
    fitting = []
    for profile in candidates:
        try:
            other = make_plan(plan.shape, profile, plan.machine)
        except EngineError:
            continue
        if other.fits:
            fitting.append((_unchanged(plan.need, other.need), _low_decode(other), other))
    return max(fitting, key=lambda found: found[:2])[2] if fitting else None


def _unchanged(first: Need, second: Need) -> float:
    """Share of the weights with the same device and the same precision, each counting half."""
    others = {t.assignment.spec.name: t for t in second.tensors}
    same = total = 0.0
    for tensor in first.tensors:
        total += tensor.values
        other = others.get(tensor.assignment.spec.name)
        if other is not None:
            equal = (tensor.assignment.device == other.assignment.device) + (
                tensor.precision == other.precision
            )
            same += tensor.values * equal / 2
    return same / total


def _low_decode(plan: Plan) -> float:
    return 0.0 if isinstance(plan.speed, str) else plan.speed.decode[0]
