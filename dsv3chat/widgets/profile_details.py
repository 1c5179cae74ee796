"""The profile switcher's texts below the list: the marked profile, what a switch does, the step that runs. Knows no screen."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from dsv3chat.profile_choices import Catalogue, Choice, differences
from dsv3chat.sanitize import clean_line
from dsv3chat.widgets.charts import bar, gib
from dsv3chat.widgets.message import grouped
from dsv3chat.widgets.profile_rows import WIDE, Situation
from dsv3chat.widgets.rows import MUTED, wrap
from engine import LoadProgress, Plan, SwitchPlan

STOPPING = "stop the answer"
_DIFFERENCES = 6  # lines
_FREEING, _READING, _CACHE = "freeing what changes", "reading weights", "preparing the cache"  # the engine's
_STEPS = {_FREEING: "free what changes", _READING: "read what changes", _CACHE: "build the cache"}


def detail_lines(
    choice: Choice,
    catalogue: Catalogue,
    switch: SwitchPlan | None,
    refusal: str,
    situation: Situation,
    width: int,
) -> list[Content]:
    """The file, the difference to the loaded profile, bars of memory, what a switch does; with `refusal`, why not."""
    title = Content.assemble(
        (clean_line(choice.name), "bold"), (f"  {choice.origin} · {clean_line(choice.description)}", MUTED)
    )
    lines = [title.truncate(width, ellipsis=True)]
    if refusal:
        return [*lines, *_wrapped(f"✗ cannot be chosen: {clean_line(refusal)}", width, "$text-warning")]
    assert choice.profile is not None
    if choice.profile.model and choice.profile.model != catalogue.model and not choice.loaded:
        written = (
            f"written for {clean_line(choice.profile.model)}; {clean_line(catalogue.model)} stays loaded"
        )
        lines += _wrapped(written, width, MUTED)
    if not choice.loaded:
        lines += _difference_lines(choice, catalogue, width)
    lines += _bars(choice.plan, width)
    if not choice.loaded:
        lines += _wrapped(_effect(choice, switch, situation), width)
    return lines


def _difference_lines(choice: Choice, catalogue: Catalogue, width: int) -> list[Content]:
    assert choice.profile is not None
    found = [clean_line(line) for line in differences(catalogue.current, choice.profile)]
    current = clean_line(catalogue.current.name)
    if not found:
        return [Content.styled(f"says the same as {current}", MUTED)]
    more = [f"… and {len(found) - _DIFFERENCES + 1} more"] if len(found) > _DIFFERENCES else []
    shown = found[: _DIFFERENCES - 1] if more else found
    head = Content.styled(f"difference to {current}", MUTED)
    return [head, *(Content(f"  {line}").truncate(width, ellipsis=True) for line in (*shown, *more))]


def _bars(plan: Plan | None, width: int) -> list[Content]:
    """A bar a device: the need, what there is, and the two largest kinds in it."""
    if plan is None:
        return []
    lines = []
    for device, kinds in plan.need.devices.items():
        have = plan.machine.capacity(device)
        if have is None or not have.value:
            continue
        need = plan.need.bytes_on(device)
        cells = max(10, min(30, width - 48))
        name = "RAM" if device == "cpu" else device
        largest = sorted(kinds.items(), key=lambda item: -item[1])[:2]
        parts = " · ".join(f"{kind} {gib(nbytes)}" for kind, nbytes in largest)
        figures = f"{gib(need)}/{gib(int(have.value))} GiB"
        lines.append(
            Content(f"{name} {bar(need / have.value, cells)} {figures}  {parts}").truncate(
                width, ellipsis=True
            )
        )
    return lines


def _effect(choice: Choice, switch: SwitchPlan | None, situation: Situation) -> str:
    """What a switch does to answer, weights and cache, and what it would mean if it failed."""
    parts = ["stops the running answer, keeps its text"] if situation.answering else []
    if switch is None:
        return " · ".join([*parts, "…"])
    if switch.keeps_cache:
        return " · ".join([*parts, "keeps the weights and the cache"])
    if switch.read_bytes:
        parts.append(f"keeps {_size(switch.kept_bytes)} of weights, reads {_size(switch.read_bytes)}")
    else:
        parts.append("keeps all weights")
    parts.append(_reread(choice, situation.used_tokens))
    if switch.free_first:
        parts.append(
            f"frees {_size(switch.freed_bytes)} first, since both do not fit at a time: should it fail, they are read back"
        )
    return " · ".join(parts)


def _reread(choice: Choice, used_tokens: int) -> str:
    if not used_tokens:
        return "rebuilds the cache"
    words = f"rebuilds the cache: {grouped(used_tokens)} tokens are read again"
    if choice.plan is None or isinstance(choice.plan.speed, str):
        return words
    low, high = choice.plan.speed.prefill
    slow = used_tokens / low
    return (
        f"{words}, about {used_tokens / high:.0f}–{slow:.0f} s" if slow >= 1.5 else f"{words}, about a second"
    )


def _size(nbytes: int) -> str:
    return f"{nbytes / 2**30:.1f} GiB" if nbytes >= 1 << 30 else f"{nbytes / 2**20:.0f} MiB"


def _wrapped(text: str, width: int, style: str = "") -> list[Content]:
    return [line for line, _ in wrap(Content.styled(text, style) if style else Content(text), width)]


def steps_of(switch: SwitchPlan, answering: bool) -> list[str]:
    """The steps' names, in order."""
    steps = [STOPPING] if answering else []
    if switch.keeps_cache:
        return steps
    freeing = [_STEPS[_FREEING]] if switch.free_first else []
    return [*steps, *freeing, _STEPS[_READING], _STEPS[_CACHE]]


def step_line(
    progress: LoadProgress, steps: Sequence[str], seconds: float, stopping: bool, width: int
) -> Content:
    """`step 2/3  read what changes  ████░░ 31%  layer 12 of 30  4 s · esc cancels`."""
    name = _STEPS.get(progress.stage, progress.stage)
    place = f"step {steps.index(name) + 1}/{len(steps)}  " if name in steps else ""
    text = f"{place}{clean_line(name)}"
    if progress.total_bytes:
        share = min(1.0, progress.done_bytes / progress.total_bytes)
        detail = f"  {clean_line(progress.detail)}" if width >= WIDE else ""
        text += f"  {bar(share, max(8, min(30, width - 66)))} {share:.0%}{detail}"
    end = "stopping" if stopping else "esc cancels"
    return Content.assemble((text, "bold"), (f"  {seconds:.0f} s · {end}", MUTED)).truncate(
        width, ellipsis=True
    )


def outcome_lines(text: str, width: int) -> Content:
    """How a switch ended that did not succeed."""
    return Content("\n").join(_wrapped(f"✗ {clean_line(text)}", width, "bold $text-warning"))
