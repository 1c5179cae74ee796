"""The table of findings and its heading. Knows an item's finding and its state in a word, not where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from textual.content import Content

from dsv3chat.review.values import Finding
from dsv3chat.sanitize import clean_line
from dsv3chat.widgets.lines import LineView, padded
from dsv3chat.widgets.rows import MUTED, Row
from dsv3chat.widgets.severity import severity_label

_WIDE = 84  # cells from which on number and state have columns
_STATE = 10
_STATE_STYLES = {
    "new": "bold",
    "applied": "$text-success",
    "false+": "$text-warning",
    "ignored": "$text-warning",
}


class Listed(Protocol):
    """What the table shows of a finding."""

    @property
    def finding(self) -> Finding: ...
    @property
    def state(self) -> str: ...
    @property
    def is_new(self) -> bool: ...


class FindingList(LineView):
    """A line a finding. The cursor stays on its finding while others come and go."""

    HAS_CURSOR = True
    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.items: Sequence[Listed] = ()

    @property
    def current(self) -> Listed | None:
        """The finding under the cursor."""
        return self.items[self.cursor] if self.items else None

    def show(self, items: Sequence[Listed], current: Listed | None) -> None:
        """List these; `current` keeps the cursor, and its place on the screen, if it is among them."""
        place = self.cursor - round(self.scroll_offset.y)
        found = next((i for i, item in enumerate(items) if item is current), None)
        self.items = items
        self.cursor = self.cursor if found is None else found
        self.show_lines(len(items))
        if found is not None and place >= 0:
            self.scroll_to(y=max(0, found - place), animate=False, force=True)
        self.bring_into_sight(self.cursor)

    def line(self, index: int, width: int) -> Row:
        """Arrow, number, severity, confidence, place, title, state."""
        item = self.items[index]
        return Row(_line(item.finding, item.state, item.is_new, index, width, index == self.cursor))


def heading(width: int, order: str) -> Content:
    """The names of the columns, as many as leave room for the order."""
    number = " #    " if width >= _WIDE else " "
    sorted_by = f"by {order}" + ("  " + "STATE".ljust(_STATE) if width >= _WIDE else "")
    names = [f"{number}SEV  CONF  ", "WHERE".ljust(_where_width(width)), "  TITLE"]
    while names and len("".join(names).rstrip()) + 2 + len(sorted_by) > width - 1:
        names.pop()
    left = "".join(names).rstrip()
    return Content.styled(f"{left}{sorted_by:>{max(0, width - 1 - len(left))}}"[: width - 1], MUTED)


def _where_width(width: int) -> int:
    return max(12, min(30, width // 4))


def where(finding: Finding, width: int) -> str:
    """`kv.py:120-121`; a name too long for `width` loses its beginning."""
    name = clean_line(finding.path.rpartition("/")[2] or finding.path)
    lines = f":{finding.line}" if finding.end_line <= finding.line else f":{finding.line}-{finding.end_line}"
    room = width - len(lines)
    content = Content(name)
    while content.cell_length > max(room, 4):
        name = name[1:]
        content = Content(f"…{name}")
    return content.plain + lines


@lru_cache(maxsize=4096)
def _line(finding: Finding, state: str, is_new: bool, index: int, width: int, marked: bool) -> Content:
    place = _where_width(width)
    wide = width >= _WIDE
    arrow = "▸" if marked else " "
    number = f"{arrow}{index + 1:<5}" if wide else arrow
    left = Content.assemble(
        number,
        severity_label(finding.severity),
        f" {finding.confidence:.2f}  ",
        padded(where(finding, place), place),
        "  ",
    )
    tail = (
        Content.styled(f"  {state}".ljust(_STATE)[:_STATE], _STATE_STYLES.get(state, MUTED))
        if wide
        else Content("")
    )
    if not wide and state not in ("new", "seen"):
        tail = Content.styled(f" {state}", _STATE_STYLES.get(state, MUTED))
    title = Content(clean_line(finding.title) or clean_line(finding.message) or finding.rule)
    title = title if is_new else title.stylize(MUTED)
    return left + padded(title, width - left.cell_length - tail.cell_length) + tail
