"""The lower panes of the review: the code around a finding, and the finding in full. Knows the review's state, no key."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual.content import Content

from dsv3chat.review.values import SourceFile
from dsv3chat.sanitize import clean_line
from dsv3chat.screens.review_state import FileState, Item
from dsv3chat.widgets.bars import Bar
from dsv3chat.widgets.code_view import CodeView, coloured
from dsv3chat.widgets.finding_detail import FindingDetail
from dsv3chat.widgets.rows import MUTED

if TYPE_CHECKING:
    from dsv3chat.screens.review import ReviewScreen

_SOON_COLOURED = 3000  # characters that are coloured at once, in 10 ms; more are on a thread
_SETTLE_S = 0.05  # a key that is held down passes many files


class ReviewView:
    """`show` for a finding, `show_file` for a file without one, `show_nothing`."""

    def __init__(self, screen: ReviewScreen) -> None:
        self._screen = screen
        self.code, self.detail, self.head = (
            CodeView(id="code"),
            FindingDetail(id="detail"),
            Bar(id="codehead"),
        )

    def show(self, item: Item) -> None:
        """The code around a finding, and its words."""
        session, finding = self._screen.session, item.finding
        self._show_code(session.state.sources.get(finding.path), item)
        self.detail.show(finding, session.lines_of(finding), item.state)

    def show_file(self, file: FileState) -> None:
        """A file without findings: its code, and why it has none."""
        self._show_code(self._screen.session.state.sources.get(file.path), None)
        words = f"{file.path}\n{file.status}" + (f": {file.reason}" if file.reason else "")
        self.detail.show(None, (), "", words)

    def show_nothing(self, words: str) -> None:
        """There is no finding; why."""
        self.code.show(None, None)
        self.head.show(Content(""))
        self.detail.show(None, (), "", words)

    def _show_code(self, source: SourceFile | None, item: Item | None) -> None:
        items = self._screen.session.state.items_of(source.path) if source is not None else ()
        others = {i.finding.line: i.finding.severity for i in items if i is not item}
        finding = item.finding if item is not None else None
        self.code.show(source, finding, others)
        number = finding.line if finding is not None else 1
        self.show_place(number)
        if source is None or self.code.is_coloured(number) or not source.lines:
            return
        if sum(map(len, source.lines)) <= _SOON_COLOURED:
            self.code.paint(source, coloured(source))
        else:
            self._screen.run_worker(self._colour(source, number), exclusive=True, group="colour")

    async def _colour(self, source: SourceFile, number: int) -> None:
        await asyncio.sleep(_SETTLE_S)
        self.code.paint(source, await asyncio.to_thread(coloured, source, number))

    def show_place(self, number: int) -> None:
        """Above the code: its path, and the hunk of a line."""
        source = self.code.source
        if source is None:
            self.head.show(Content.styled("the file is not at hand", MUTED))
            return
        where = ""
        if source.hunks:
            at = sum(hunk.start <= number for hunk in source.hunks)
            where = f"hunk {max(at, 1)}/{len(source.hunks)}  [ ]"
        self.head.show(Content(clean_line(source.path)), Content.styled(where, MUTED))
