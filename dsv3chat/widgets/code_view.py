"""A file's lines with numbers, the changed ones and the finding's marked. Knows no reviewer and reads no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content

from dsv3chat.review.values import Finding, Severity, SourceFile
from dsv3chat.sanitize import clean
from dsv3chat.widgets.highlight import highlight
from dsv3chat.widgets.lines import LineView, padded
from dsv3chat.widgets.rows import MUTED, Row
from dsv3chat.widgets.severity import SHORT, STYLES

_LONGEST = 2000  # characters of a line that are shown
_MOST = 100_000  # characters of a file that are coloured; of a longer one it is the part around the finding
_PAN = 8
_GAP = 0  # in place of a line's number: lines that are not known


def coloured(source: SourceFile, around: int = 1) -> dict[int, Content]:
    """Line number -> coloured line, for the whole file or, where it is long, what lies around a line. Takes 4 us a
    character: to be called on a thread."""
    first, last = 1, len(source.lines)
    size = sum(map(len, source.lines))
    if size > _MOST:
        reach = max(20, _MOST * len(source.lines) // size // 2)
        first, last = max(1, around - reach), min(last, around + reach)
    lines = [_shown(line) for line in source.lines[first - 1 : last]]
    found = highlight("\n".join(lines), source.language).split("\n", allow_blank=True)
    return dict(enumerate(found, first)) if len(found) == len(lines) else {}


def _shown(line: str) -> str:
    """A line as it is drawn: what would break it into several is one character, tabs are spaces."""
    cut = line if len(line) <= _LONGEST else line[:_LONGEST] + "…"
    return clean(cut).replace("\n", "␤").expandtabs(4)


class CodeView(LineView):
    """The lines of one file; the arrow keys scroll, left and right too."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "pan(-1)", "code to the left or right", show=False, id="code.left"),
        Binding("right,l", "pan(1)", "code to the left or right", show=False, id="code.right"),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.source: SourceFile | None = None
        self.finding: Finding | None = None
        self._numbers: Sequence[int] = ()
        self._places: dict[int, int] = {}  # line number -> index, where not every line is shown
        self._colours: Mapping[int, Content] = {}
        self._others: Mapping[int, Severity] = {}
        self._pan = 0
        self._number = 1

    def show(
        self, source: SourceFile | None, finding: Finding | None, others: Mapping[int, Severity] | None = None
    ) -> None:
        """Show a file and the line of a finding in it; `others` are the lines of its other findings."""
        if source is not self.source:
            self.source, self._colours, self._pan = source, {}, 0
            self._numbers = _numbers(source)
            self._places = {number: i for i, number in enumerate(self._numbers) if number != _GAP}
        self.finding, self._others = finding, others or {}
        self.show_lines(len(self._numbers))
        if finding is not None:
            self.go_to(finding.line)

    def paint(self, source: SourceFile, colours: Mapping[int, Content]) -> None:
        """The colours of a file have come."""
        if source is self.source:
            self._colours = colours
            self.show_lines(self.num_lines)

    def is_coloured(self, number: int) -> bool:
        """Whether the colours of a line are there."""
        return number in self._colours

    def go_to(self, number: int) -> None:
        """Bring a line into sight, in the upper third."""
        self._number = number
        place = self._places.get(number)
        if place is not None:
            shown = max(1, self.scrollable_content_region.height)
            self.scroll_to(y=max(0, place - shown // 3), animate=False, force=True)

    def on_resize(self, event: events.Resize) -> None:
        """The line that was shown stays in sight."""
        number = self._number
        super().on_resize(event)
        self.go_to(number)

    @property
    def shown_number(self) -> int:
        """The line that `go_to` went to, or where the person has scrolled on, the one in the upper third."""
        top, shown = self.scroll_offset.y, max(1, self.scrollable_content_region.height)
        in_sight = self._numbers[top : top + shown]
        if self._number in in_sight or not in_sight:
            return self._number
        third = in_sight[min(shown // 3, len(in_sight) - 1)]
        return third if third != _GAP else next(n for n in in_sight if n != _GAP)

    def action_pan(self, step: int) -> None:
        """Move the code sideways."""
        self._pan = max(0, min(self._pan + step * _PAN, _LONGEST))
        self.show_lines(self.num_lines)

    def line(self, index: int, width: int) -> Row:
        """Number, sign of a change, bar of the finding, code, and its severity at the end of the line."""
        number = self._numbers[index]
        if number == _GAP or self.source is None:
            return Row(Content.styled("    ⋮", MUTED))
        changed, finding = self.source.changed, self.finding
        inside = finding is not None and finding.line <= number <= max(finding.line, finding.end_line)
        sign = ("+", "$text-success") if changed is not None and number in changed else " "
        if inside and finding is not None:
            bar, style = "┃", STYLES[finding.severity].replace("reverse ", "")
        elif number in self._others:
            bar, style = "╎", STYLES[self._others[number]].replace("reverse ", "")
        else:
            bar, style = " ", ""
        left = Content.assemble((f"{number:5} ", "bold" if inside else MUTED), sign, " ", (bar, style), " ")
        code = self._colours.get(number)
        if code is None:
            code = Content(_shown(self.source.lines[number - 1]))
        plain_end = len(code.plain)
        code = code[self._pan :] if self._pan else code
        tail = Content("")
        if finding is not None and number == finding.line and width > 60:
            tail = Content.styled(
                f" ◀ {SHORT[finding.severity]} {finding.confidence:.2f}", STYLES[finding.severity]
            )
        room = width - left.cell_length - tail.cell_length
        start = len(left.plain)
        return Row(left + padded(code, room) + tail, start, start + min(plain_end, room))


def _numbers(source: SourceFile | None) -> Sequence[int]:
    if source is None:
        return ()
    if not source.partial:
        return range(1, len(source.lines) + 1)
    numbers: list[int] = []
    for hunk in source.hunks:
        if numbers:
            numbers.append(_GAP)
        numbers += range(hunk.start, min(hunk.end, len(source.lines)) + 1)
    return numbers
