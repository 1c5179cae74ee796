"""Profiles as a person chooses among them for the loaded model: need, fit, speed, difference. Knows no widget.

Everything here reads files and headers, and at the first use measures the machine's read rates: on a worker thread.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from dsv3chat.backend import ChatBackend
from dsv3chat.launch import plan_launch
from dsv3chat.profile_difference import changed_keys, rule_lines, shown_value
from engine import (
    EVERYTHING,
    EngineError,
    Figure,
    Machine,
    ModelShape,
    Plan,
    Profile,
    ProfileEntry,
    describe_machine,
    list_profiles,
    make_plan,
    probe,
    read_rates,
    read_shape,
    remedies,
)

_NARROW = frozenset({"int4", "int3", "int2"})
_KV = {"float32": "fp32", "bfloat16": "bf16"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One line. `refusal` says why it cannot be chosen, "" where it can; `profile` is None for a file that is wrong.

    `plan` is None where the model's shape is not known or the profile's rules do not go with the model.
    """

    name: str
    path: Path
    origin: str
    description: str
    profile: Profile | None = None
    refusal: str = ""
    plan: Plan | None = None
    loaded: bool = False

    @property
    def ram_bytes(self) -> int | None:
        return None if self.plan is None else self.plan.need.bytes_on("cpu")

    @property
    def vram_bytes(self) -> int | None:
        """Of all GPUs together."""
        if self.plan is None:
            return None
        return sum(self.plan.need.bytes_on(d) for d in self.plan.need.devices if d.startswith("cuda"))

    @property
    def ram_left(self) -> float | None:
        """Bytes that stay free beside it; below 0 what is missing."""
        if self.plan is None or self.plan.machine.ram.value is None:
            return None
        return self.plan.machine.ram.value - self.plan.need.bytes_on("cpu")

    @property
    def kv(self) -> str:
        if self.profile is None:
            return ""
        kind = self.profile.kv_precision
        return _KV[self.profile.compute] if kind == "auto" else kind

    @property
    def weights(self) -> str:
        """`int4`, or `int4, attn fp8`: the formats of the routed experts (else of the dense MLP) and of the attention, but for
        what holds less than a tenth of either: a single matrix that a rule spares."""
        if self.profile is None:
            return ""
        if self.plan is None:
            return self.profile.precision
        attention = _main_precisions(self.plan, "attention")
        rest = _main_precisions(self.plan, "routed experts") or _main_precisions(self.plan, "dense MLP")
        shown = "+".join(rest)
        return shown if attention == rest else f"{shown}, attn {'+'.join(attention)}"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All choices, in the order of their names, for the model and the profile that are loaded."""

    choices: tuple[Choice, ...]
    current: Profile
    model: str
    machine: Machine | None

    def named(self, name: str) -> Choice | None:
        return next((choice for choice in self.choices if choice.name == name), None)

    @property
    def loaded(self) -> Choice | None:
        return next((choice for choice in self.choices if choice.loaded), None)

    def wider_attention(self) -> Choice | None:
        """The nearest profile whose attention is at 8 bit or wider; None where the loaded one's is, or there is none."""
        loaded = self.loaded
        if loaded is None or loaded.plan is None or not _is_narrow(loaded.plan):
            return None
        usable = [c for c in self.choices if not c.refusal and c.plan is not None and not _is_narrow(c.plan)]
        nearest = remedies(loaded.plan, [c.profile for c in usable if c.profile is not None]).nearest
        return next((c for c in usable if nearest is not None and c.profile is nearest.profile), None)


def _main_precisions(plan: Plan, category: str) -> tuple[str, ...]:
    """The formats of at least a tenth of a kind's values, in the order of the layers."""
    values: Counter[str] = Counter()
    for tensor in plan.need.tensors:
        if tensor.category == category:
            values[tensor.precision] += tensor.values
    return tuple(precision for precision, count in values.items() if 10 * count >= values.total())


def _is_narrow(plan: Plan) -> bool:
    return any(t.category == "attention" and t.precision in _NARROW for t in plan.need.tensors)


def read_catalogue(backend: ChatBackend) -> Catalogue:
    """Read every profile's file and plan it for the loaded model on this machine. Blocking; what fails is a refusal."""
    info, current = backend.info, backend.profile
    shape, machine = None, None
    if info is not None and info.path:
        try:
            shape = read_shape(info.path)
            machine = _for_this_process(describe_machine(probe(), read_rates))
        except EngineError:
            shape = None
    choices = [_choice(entry, current, shape, machine) for entry in list_profiles()]
    if not any(choice.loaded for choice in choices):
        name = f"{current.name} (as started)"  # with --set, or from a file that no name finds
        source = current.source or Path(current.name)
        unlisted = Choice(name, source, "as started", current.description, current, loaded=True)
        choices.insert(0, _planned(unlisted, shape, machine))
    return Catalogue(tuple(choices), current, info.name if info is not None else "", machine)


def _for_this_process(machine: Machine) -> Machine:
    """A switch frees what is loaded: what this process holds counts as free."""
    own = psutil.Process(os.getpid()).memory_info().rss
    free = machine.ram.value
    return machine if free is None else replace(machine, ram=Figure(free + own, machine.ram.origin))


def _choice(
    entry: ProfileEntry, current: Profile, shape: ModelShape | None, machine: Machine | None
) -> Choice:
    choice = Choice(entry.name, entry.path, entry.origin, entry.description)
    missing = f"not in this version: {', '.join(entry.missing)}" if entry.missing else ""
    try:
        profile = plan_launch(profile=str(entry.path), built=EVERYTHING).profile
    except (EngineError, OSError) as error:
        return replace(choice, refusal=missing or entry.error or str(error))
    loaded = profile == current
    return _planned(replace(choice, profile=profile, refusal=missing, loaded=loaded), shape, machine)


def _planned(choice: Choice, shape: ModelShape | None, machine: Machine | None) -> Choice:
    if shape is None or machine is None or choice.profile is None:
        return choice
    try:
        plan = make_plan(shape, choice.profile, machine)
    except EngineError as error:
        return replace(choice, refusal=choice.refusal or str(error))
    if choice.loaded or choice.refusal:
        return replace(choice, plan=plan)
    refusal = ""
    for short in plan.shortfalls:
        if short.have is None:
            refusal = f"needs {short.device}: {short.reason}"
        else:
            lacks = (short.need - short.have) / 2**30
            refusal = f"needs {lacks:.1f} GiB more on {short.device} than there is ({short.reason})"
    return replace(choice, plan=plan, refusal=refusal)


def differences(before: Profile, after: Profile) -> list[str]:
    """What a switch changes, one line a key or rule: `kv_precision: auto → fp8`, `+ model.layers.*.mlp: precision int4`."""
    keys = changed_keys(before, after)
    keys.pop("model", None)  # the loaded model stays
    lines = [f"{key}: {shown_value(old)} → {shown_value(new)}" for key, (old, new) in keys.items()]
    return [*lines, *(line for line in rule_lines(before, after) if line[0] in "+-")]


def matches(choice: Choice, query: str) -> bool:
    """Whether the letters of the query stand in the name, or in the description, in this order."""
    return any(_in_order(query.lower(), text.lower()) for text in (choice.name, choice.description))


def _in_order(query: str, text: str) -> bool:
    letters = iter(text)
    return all(letter in letters for letter in query if letter != " ")
