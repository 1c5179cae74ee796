"""A whole file, or the hunks of its diff, as chunks within the limits. Knows no grammar's details.

Every line of a whole file that is not blank is in exactly one chunk, and a chunk ends inside a statement only where
that statement alone exceeds the limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

from dsv3chat.review.chunks.budget import Budget, ChunkLimits
from dsv3chat.review.chunks.outline import IndentationOutline, Outline, Unit, clip
from dsv3chat.review.chunks.python import PythonOutline
from dsv3chat.review.chunks.widen import Window, windows
from dsv3chat.review.values import Chunk, SourceFile

Strategy: TypeAlias = Literal["auto", "hunk", "file"]


def split(
    file: SourceFile,
    limits: ChunkLimits,
    count_tokens: Callable[[str], int],
    strategy: Strategy = "auto",
) -> tuple[Chunk, ...]:
    """The chunks of a file, in order of lines.

    "auto" and "hunk" give the widened hunks of a diff, and the whole file where there is no diff; "file" gives the
    whole file in both cases, with the changed lines marked. A file of which only hunks are known gives those.
    `count_tokens` counts a text without special tokens and never more of them than the text has bytes.
    """
    if not file.lines:
        return ()
    budget = Budget(file.lines, limits, count_tokens)
    outline: Outline = (
        PythonOutline(file.lines)
        if file.language == "python" and not file.partial
        else IndentationOutline(file.lines)
    )
    if file.hunks and (strategy != "file" or file.partial):
        return tuple(
            chunk
            for window in windows(file, outline, budget)
            for chunk in _of_window(file, window, outline, budget)
        )
    runs = pack(outline.units(), budget)
    return tuple(_chunk(file, budget, start, end, file.changed) for start, end in runs)


def pack(units: Sequence[Unit], budget: Budget) -> Iterator[tuple[int, int]]:
    """The units as runs of lines that fit, each as long as it gets; a unit that does not fit is expanded.

    Runs neither begin nor end with a blank line.
    """
    by_indentation = IndentationOutline(budget.lines)  # for a statement that alone exceeds the limits
    waiting = list(reversed(units))
    while waiting:
        unit = waiting[-1]
        start = _filled(budget, unit.start, unit.end, 1)
        if start is None:
            waiting.pop()
            continue
        ends = [following.end for following in waiting[: -budget.limits.max_lines - 1 : -1]]
        last = budget.longest(start, ends)
        if last >= 0:
            del waiting[len(waiting) - last - 1 :]
            end = _filled(budget, ends[last], start, -1)
            yield start, end or start
        elif start == unit.end:
            waiting.pop()
            yield start, start
        else:
            waiting.pop()
            inner = unit.expand() or by_indentation.within(start, unit.end)
            waiting.extend(reversed(clip(inner, start, unit.end)))


def _filled(budget: Budget, start: int, end: int, step: int) -> int | None:
    """The first line from `start` to `end`, both included, that is not blank."""
    return next((n for n in range(start, end + step, step) if budget.lines[n - 1].strip()), None)


def _of_window(file: SourceFile, window: Window, outline: Outline, budget: Budget) -> Iterator[Chunk]:
    """A window as one chunk, or as those of its parts that hold a change."""
    for start, end in pack(clip(outline.units(), window.start, window.end), budget):
        changed = window.changed & frozenset(range(start, end + 1))
        removed = tuple(
            line for anchor, lines in window.deletions if start <= anchor <= end for line in lines
        )
        if changed or removed:
            yield _chunk(file, budget, start, end, changed, removed)


def _chunk(
    file: SourceFile,
    budget: Budget,
    start: int,
    end: int,
    changed: frozenset[int] | None,
    removed: tuple[str, ...] = (),
) -> Chunk:
    lines = budget.lines[start - 1 : end] if budget.fits(start, end) else (budget.cut_line(start),)
    inside = changed if changed is None else changed & frozenset(range(start, end + 1))
    return Chunk(file.path, file.language, start, lines, inside, removed)
