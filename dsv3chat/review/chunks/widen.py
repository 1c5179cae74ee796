"""The hunks of a diff widened to what a reader needs around them, and joined where they meet. Knows no disk."""

from __future__ import annotations

from dataclasses import dataclass

from dsv3chat.review.chunks.budget import Budget
from dsv3chat.review.chunks.outline import Outline
from dsv3chat.review.values import Hunk, SourceFile

LINES_BEFORE = 5
LINES_AFTER = 1


@dataclass(frozen=True, slots=True)
class Window:
    """Lines [start, end] of the new side around one or more hunks.

    `deletions`: (a line beside the place, the deleted lines), of hunks that only delete.
    """

    start: int
    end: int
    changed: frozenset[int]
    deletions: tuple[tuple[int, tuple[str, ...]], ...] = ()


def windows(file: SourceFile, outline: Outline, budget: Budget) -> list[Window]:
    """The file's hunks, widened, in order; those that overlap or touch are one."""
    joined: list[Window] = []
    for window in sorted(
        (_widened(file, hunk, outline, budget) for hunk in file.hunks), key=lambda w: w.start
    ):
        if joined and window.start <= joined[-1].end + 1:
            last = joined.pop()
            window = Window(
                last.start,
                max(last.end, window.end),
                last.changed | window.changed,
                last.deletions + window.deletions,
            )
        joined.append(window)
    return joined


def _widened(file: SourceFile, hunk: Hunk, outline: Outline, budget: Budget) -> Window:
    """Up to the first line of the function around the first change, else LINES_BEFORE; LINES_AFTER below.

    Both ends then move to the borders of statements. What makes the window too large for one chunk is left out.
    """
    num_lines = len(file.lines)
    start, end = min(max(hunk.start, 1), num_lines), min(max(hunk.end, 1), num_lines)
    middle = _filled_near(budget, (start + end) // 2)
    first, last = min(hunk.changed, default=middle), max(hunk.changed, default=middle)
    if not hunk.changed and not start <= middle <= end:
        start = end = middle
    elif not file.partial:
        below = min(num_lines, max(end, last + LINES_AFTER))
        end = _end_of_statement(below, last, outline, budget, first)
        above = max(1, min(start, first - LINES_BEFORE))
        head = outline.head(first)
        if head is not None and budget.fits(head, max(head, end)):
            start = head
        else:
            begin = _start_of_statement(above, first, outline)
            start = begin if budget.fits(begin, max(begin, end)) else above
    deletions = () if hunk.changed or not hunk.removed else ((middle, hunk.removed),)
    return Window(start, max(end, last), hunk.changed, deletions)


def _filled_near(budget: Budget, line: int) -> int:
    """The nearest line that is not blank, so that a chunk, which has no blank edges, holds it."""
    num_lines = len(budget.lines)
    for distance in range(num_lines):
        for number in (line - distance, line + distance):
            if 1 <= number <= num_lines and budget.lines[number - 1].strip():
                return number
    return line


def _start_of_statement(line: int, first_change: int, outline: Outline) -> int:
    """The line itself where a statement begins there, else where the statement around it begins or the next one does."""
    units = outline.units()
    while units:
        unit = next((unit for unit in units if unit.start <= line <= unit.end), None)
        if unit is None or unit.start == line:
            break
        if unit.end < first_change and unit is not units[-1]:
            return unit.end + 1  # the tail of something that ends above the change says little
        units = unit.expand()
        if not units:
            return unit.start
    return line


def _end_of_statement(line: int, last_change: int, outline: Outline, budget: Budget, first: int) -> int:
    """`line` moved down to the end of its statement, or up where a statement begins below the last change."""
    units, end = outline.units(), line
    while units:
        unit = next((unit for unit in units if unit.start <= line <= unit.end), None)
        if unit is None or unit.end == line:
            break
        if unit.start > last_change:
            return max(last_change, unit.start - 1)
        inner = unit.expand()
        if not inner and budget.fits(first, unit.end):
            return unit.end
        units = inner
    return end
