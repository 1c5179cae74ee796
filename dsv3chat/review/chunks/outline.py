"""What stands together in a text, as nested runs of lines, by indentation and blank lines. Knows no language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

_CLOSERS = {"end", "else", "elif", "elsif", "catch", "except", "finally", "fi", "done", "esac"}
_REACH = 60  # lines above a place in which its function's first line is looked for


@dataclass(frozen=True, slots=True)
class Unit:
    """Lines [start, end] that should stay together. `expand` gives the units that it consists of, [] for a statement.

    Units of one level follow each other without a gap: comments and blank lines belong to what comes after them.
    """

    start: int
    end: int
    expand: Callable[[], list[Unit]]


class Outline(Protocol):
    """How a file is divided: where it may be cut, and where the function around a line begins."""

    def units(self) -> list[Unit]:
        """The outermost level, from the first line to the last; empty for an empty file."""
        ...

    def head(self, line: int) -> int | None:
        """The first line of the innermost function or class around the line, decorators included."""
        ...


def clip(units: Sequence[Unit], start: int, end: int) -> list[Unit]:
    """The parts of the units that lie within lines [start, end]."""

    def clipped(unit: Unit) -> Unit:
        if start <= unit.start and unit.end <= end:
            return unit
        return Unit(max(start, unit.start), min(end, unit.end), lambda: clip(unit.expand(), start, end))

    return [clipped(unit) for unit in units if unit.start <= end and unit.end >= start]


def _single_lines(start: int, end: int) -> list[Unit]:
    return [Unit(number, number, list) for number in range(start, end + 1)] if end > start else []


class IndentationOutline:
    """Paragraphs, then what begins at the smallest indentation, then what is indented below it."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines

    def units(self) -> list[Unit]:
        return self.within(1, len(self._lines))

    def within(self, start: int, end: int) -> list[Unit]:
        """Lines [start, end] as two or more units; one unit where there is one line, none where there is none."""
        if start >= end:
            return [Unit(start, end, list)] if start == end else []
        filled = [n for n in range(start, end + 1) if self._lines[n - 1].strip()]
        openers = [n for n in filled if not self._closes(n)]
        for candidates in (openers, [n for n in openers if n > start]):
            if not candidates:
                continue
            base = min(self._indent(n) for n in candidates)
            level = [n for n in candidates if self._indent(n) == base]
            paragraphs = [n for n in level if n == start or not self._lines[n - 2].strip()]
            for starts in (paragraphs, level):
                if units := self._partition(start, end, starts):
                    return units
        return _single_lines(start, end)

    def _partition(self, start: int, end: int, starts: Sequence[int]) -> list[Unit]:
        """Units that begin at `start` and at each of `starts`, blank lines before one included; [] if that is one."""
        bounds = [start]
        for number in starts:
            while number > bounds[-1] + 1 and not self._lines[number - 2].strip():
                number -= 1  # the blank lines above go with it
            if number > bounds[-1]:
                bounds.append(number)
        if len(bounds) == 1:
            return []
        ends = [bound - 1 for bound in bounds[1:]] + [end]
        return [self._unit(first, last) for first, last in zip(bounds, ends, strict=True)]

    def _unit(self, start: int, end: int) -> Unit:
        return Unit(start, end, lambda: self.within(start, end))

    def head(self, line: int) -> int | None:
        """The outermost less indented line above, within reach: a brace language's function or class."""
        indent, found = self._indent(line), None
        for number in range(line - 1, max(0, line - _REACH), -1):
            if not self._lines[number - 1].strip() or self._closes(number):
                continue
            if self._indent(number) < indent:
                indent, found = self._indent(number), number
            if indent == 0:
                break
        return found

    def _indent(self, number: int) -> int:
        return self._shapes[number - 1][0]

    def _closes(self, number: int) -> bool:
        return self._shapes[number - 1][1]

    @cached_property
    def _shapes(self) -> list[tuple[int, bool]]:
        """(columns of indentation, whether it belongs to what stands above at the same indentation) of every line."""
        shapes = []
        for line in self._lines:
            text = line.lstrip()
            indent = len(line[: len(line) - len(text)].expandtabs(4))
            closes = text.startswith(("}", ")", "]", "{")) or text.split(" ", 1)[0].rstrip(":;{") in _CLOSERS
            shapes.append((indent, closes))
        return shapes
