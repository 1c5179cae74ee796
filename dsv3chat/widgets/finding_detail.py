"""One finding in full: title, message, suggested change as a small diff. Knows no table and changes nothing."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from textual.content import Content

from dsv3chat.review.values import Finding
from dsv3chat.sanitize import clean, clean_line
from dsv3chat.widgets.lines import LineView
from dsv3chat.widgets.rows import MUTED, Row, columns, text_rows
from dsv3chat.widgets.severity import SHORT, STYLES

_INDENT = Content("  ")


class FindingDetail(LineView):
    """Scrolls where it is longer than its place."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._finding: Finding | None = None
        self._old: Sequence[str] = ()
        self._state = self._empty = ""
        self._rows: list[Row] = []
        self._width = 0

    def show(self, finding: Finding | None, old: Sequence[str], state: str, empty: str = "") -> None:
        """Show a finding; `old` are its lines as reviewed, `empty` what stands there without one."""
        same = finding is self._finding
        self._finding, self._old, self._state, self._empty = finding, old, state, empty
        self._width = 0
        self._lay_out()
        if not same:
            self.scroll_to(y=0, animate=False, force=True)

    def show_lines(self, num_lines: int) -> None:
        """Wrapped anew when the width is another one."""
        if self._width != self.inner_width and self.is_mounted:
            self._width = self.inner_width
            self._rows = self._laid_out()
            num_lines = len(self._rows)
        super().show_lines(num_lines)

    def _lay_out(self) -> None:
        self.show_lines(self.num_lines)

    def line(self, index: int, width: int) -> Row:
        """The index-th row."""
        return self._rows[index]

    def _laid_out(self) -> list[Row]:
        width, finding = self._width, self._finding
        if finding is None:
            return text_rows(Content.styled(clean(self._empty), MUTED), width, _INDENT, _INDENT)
        label = Content.styled(f" {SHORT[finding.severity]} ", STYLES[finding.severity])
        title = clean_line(finding.title) or clean_line(finding.message)
        rule = Content.styled(f"{clean_line(finding.rule)}  ", MUTED)
        rows = [Row(columns(Content.assemble(" ", label, " ", (title, "bold")), rule, width))]
        message = clean(finding.message).strip()
        if (message and clean_line(message) != title) or len(title) > width - 20:
            rows += text_rows(Content(message or title), width, _INDENT, _INDENT)
        if finding.suggestion:
            rows += self._change(finding, width)
        certain = f"confidence {finding.confidence:.2f}"
        state = "" if self._state in ("new", "seen") else f" · {self._state}"
        hint = {"applied": " (u undoes it)", "ignored": " (i takes it back)", "false+": " (f takes it back)"}
        rows.append(Row(Content("")))
        rows.append(Row(Content.styled(f"  {certain}{state}{hint.get(self._state, '')}", MUTED)))
        return rows

    def _change(self, finding: Finding, width: int) -> list[Row]:
        new = finding.suggestion.removesuffix("\n").split("\n")
        heading = Content.styled("  suggested change", MUTED)
        keys = Content.styled("a apply  c copy  ", MUTED)
        rows = [Row(Content("")), Row(columns(heading, keys, width))]
        if list(self._old) == new:
            return [*rows, Row(Content.styled("  (it is what stands there already)", MUTED))]
        for line in difflib.ndiff(list(self._old), new):
            sign = line[0]
            if sign == "?":
                continue
            style = {"-": "$text-error", "+": "$text-success"}.get(sign, MUTED)
            prefix, rest = Content.styled(f"  {sign} ", style), Content("    ")
            text = clean(line[2:]).replace("\n", "␤").expandtabs(4)
            rows += text_rows(Content.styled(text, style), width, prefix, rest)
        return rows
