"""The profile switcher's list as text: the machine, the columns' names, a line a profile. Knows no screen."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content

from dsv3chat.profile_choices import Catalogue, Choice
from dsv3chat.sanitize import clean_line
from dsv3chat.widgets.charts import gib, rate
from dsv3chat.widgets.rows import MUTED

WIDE = 96  # cells from which all columns are shown


@dataclass(frozen=True, slots=True)
class Situation:
    """What a switch meets: the measured tok/s of the loaded profile, whether an answer runs, the conversation's tokens."""

    measured: float | None = None
    answering: bool = False
    used_tokens: int = 0


def machine_line(catalogue: Catalogue) -> Content:
    """`9 profiles · no GPU · RAM 18.2 GiB for the model`."""
    parts = [f"{len(catalogue.choices)} profiles"]
    machine = catalogue.machine
    if machine is not None:
        free = [figure.value for figure in machine.vram if figure.value is not None]
        parts.append(f"VRAM {sum(free) / 2**30:.1f} GiB free" if free else "no GPU")
        if machine.ram.value is not None:
            parts.append(f"RAM {machine.ram.value / 2**30:.1f} GiB, the loaded model's included")
    return Content.styled(" · ".join(parts), MUTED)


def head_line(width: int) -> Content:
    """The columns' names."""
    names = ("   PROFILE", "WEIGHTS", "KV", "CTX", "VRAM", "RAM GiB", "tok/s est", "FIT")
    return Content.styled(_joined(names, width), MUTED)


def choice_line(choice: Choice, number: int, situation: Situation, width: int) -> Content:
    """One profile; a refused one is muted and says so."""
    digit = str(number) if number < 10 else " "
    cells = (
        f" {digit} {clean_line(choice.name)}",
        choice.weights,
        choice.kv,
        _context(choice),
        _gib(choice.vram_bytes),
        _gib(choice.ram_bytes),
        _speed(choice, situation),
        _fit(choice),
    )
    line = _joined(cells, width)
    if choice.refusal:
        return Content.styled(line, MUTED)
    return Content.styled(line, "bold") if choice.loaded else Content(line)


def _joined(cells: tuple[str, ...], width: int) -> str:
    name, weights, kv, context, vram, ram, speed, fit = cells
    if width >= WIDE:
        line = f"{_cut(name, 21)} {_cut(weights, 15)} {kv:4} {context:>5} {vram:>6} {ram:>7}  {_cut(speed, 10)} {fit}"
    else:
        line = f"{_cut(name, 19)} {_cut(weights, 15)} {ram:>7}  {_cut(speed, 9)} {fit}"
    return _cut(line, width).rstrip()


def _cut(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"


def _context(choice: Choice) -> str:
    if choice.profile is None:
        return ""
    tokens = choice.profile.cache_lens
    return f"{tokens // 1024}k" if tokens >= 1024 else str(tokens)


def _gib(nbytes: int | None) -> str:
    return "n/a" if nbytes is None else gib(nbytes) if nbytes else "0"


def _speed(choice: Choice, situation: Situation) -> str:
    if choice.loaded and situation.measured is not None:
        return f"{rate(situation.measured)} meas"
    if choice.plan is None or isinstance(choice.plan.speed, str):
        return "n/a"
    low, high = choice.plan.speed.decode
    return f"{low:.0f}–{high:.0f}" if low >= 3 else f"{low:.1f}–{high:.1f}"


def _fit(choice: Choice) -> str:
    if choice.loaded:
        return "● loaded"
    if choice.refusal:
        return "✗ refused"
    return "✓" if choice.ram_left is None else f"✓ {choice.ram_left / 2**30:.1f} free"
