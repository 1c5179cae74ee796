"""Rows: the lines of a transcript as they stand on the screen, and how a text is wrapped into them. Knows no message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from textual.content import Content

MUTED = "$text-muted"
MIN_WIDTH = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the screen.

    `content.plain[start:end]` is text (the rest is decoration: borders, bars, margins) and `glue` joins it to the next
    row's text when rows are copied, so that a copied paragraph or code line comes out as it was written. `action` says
    what a click does ("thinking", "code:2", "previous", "next").
    """

    content: Content
    start: int = 0
    end: int | None = None
    glue: str = "\n"
    action: str = ""


def wrap(content: Content, width: int) -> list[tuple[Content, str]]:
    """Lines of at most `width` cells, each with the text that stood between it and the next one ("" inside a word)."""
    lines: list[tuple[Content, str]] = []
    for source in content.split("\n", allow_blank=True) or [content]:
        source = source.expand_tabs(4)
        if source.cell_length <= width:
            lines.append((source, "\n"))
            continue
        plain, position = source.plain, 0
        pieces = source.wrap(max(width, MIN_WIDTH))
        for piece, following in pairwise(pieces):
            end = plain.find(piece.plain, position) + len(piece.plain)
            position = plain.find(following.plain, end)
            lines.append((piece, plain[end:position]))
        lines.append((pieces[-1], "\n"))
    return lines


def text_rows(content: Content, width: int, first: Content, rest: Content) -> list[Row]:
    """`content` wrapped behind a prefix; a prefix is decoration up to its last bar, and text (a bullet) after it."""
    rows: list[Row] = []
    inner = width - max(first.cell_length, rest.cell_length)
    for line, glue in wrap(content, inner):
        prefix = rest if rows else first
        start = len(prefix.plain) if rows else _decoration(prefix.plain)
        rows.append(Row(prefix + line, start, None, glue))
    return rows


def _decoration(prefix: str) -> int:
    bars = max(prefix.rfind("┃"), prefix.rfind("▎"))
    blank = len(prefix) - len(prefix.lstrip())
    return min(len(prefix), bars + 2) if bars >= 0 else blank


def copy_rows(rows: Iterable[tuple[Row, int, int | None]]) -> str:
    """The text of rows, each cut to a range of characters of its `content`, without decoration."""
    parts: list[str] = []
    glue = ""
    for row, low, high in rows:
        plain = row.content.plain
        end = len(plain) if row.end is None else row.end
        begin, stop = max(low, row.start), end if high is None else min(high, end)
        parts += [glue, plain[begin:stop] if stop > begin else ""]
        glue = row.glue
    return "".join(parts)


def columns(left: Content, right: Content, width: int) -> Content:
    """`left` and `right` at the two ends of a line of `width` cells; the left one gives way."""
    room = width - right.cell_length - 1
    if room < MIN_WIDTH:
        return left.truncate(width, ellipsis=True)
    left = left.truncate(room, ellipsis=True)
    return left + " " * (width - left.cell_length - right.cell_length) + right
