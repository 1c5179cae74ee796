"""A scrolling list of lines that are drawn when they come into sight: ten thousand cost what one screen of them costs.

Knows no finding and no file; a subclass says how many lines there are and what the n-th one is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style

from dsv3chat.widgets.rows import Row, copy_rows


class LineView(ScrollView, can_focus=True):
    """With a cursor (`HAS_CURSOR`) up and down move it; without one they scroll."""

    DEFAULT_CSS = """
    LineView { scrollbar-size-vertical: 1; overflow-x: hidden; overflow-y: auto; background: $background; }
    """
    HAS_CURSOR: ClassVar[bool] = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "step(-1)", "line above or below", show=False, id="lines.up", key_display="↑ k"),
        Binding("down,j", "step(1)", "line above or below", show=False, id="lines.down", key_display="↓ j"),
        Binding("pageup", "page(-1)", "a page", show=False, id="lines.page_up"),
        Binding("pagedown", "page(1)", "a page", show=False, id="lines.page_down"),
        Binding("home,g", "edge(-1)", "to the first line", show=False, id="lines.first"),
        Binding("end,G", "edge(1)", "to the last line", show=False, id="lines.last"),
    ]

    class Moved(Message):
        """The person moved the cursor of `view`."""

        def __init__(self, view: LineView) -> None:
            super().__init__()
            self.view = view

        @property
        def control(self) -> LineView:
            """The view."""
            return self.view

    class Taken(Moved):
        """The line under the cursor was clicked when it was marked already."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.num_lines = 0
        self.cursor = 0
        self._strips: dict[int, Strip] = {}

    @abstractmethod
    def line(self, index: int, width: int) -> Row:
        """The index-th line for `width` cells; a longer one is cut."""

    # -- what changes ---------------------------------------------------------------------------------------------

    @property
    def inner_width(self) -> int:
        """Cells of a line."""
        return max(1, self.scrollable_content_region.width)

    def show_lines(self, num_lines: int) -> None:
        """There are so many lines now, and any of them may have changed."""
        self.num_lines = num_lines
        self.cursor = max(0, min(self.cursor, num_lines - 1))
        self._strips.clear()
        size = Size(self.inner_width, num_lines)
        if size != self.virtual_size:
            # Not by assignment: that lays out the whole screen, many times as dear as a repaint.
            self.set_reactive(LineView.virtual_size, size)
            self._scroll_update(size)
        self.refresh()

    def line_changed(self, index: int) -> None:
        """Draw one line anew."""
        self._strips.pop(index, None)
        y = index - self.scroll_offset.y
        if 0 <= y < self.scrollable_content_region.height:
            self.refresh(Region(0, y, self.inner_width, 1))

    def on_resize(self, event: events.Resize) -> None:
        """Every line has another width."""
        self.show_lines(self.num_lines)
        if self.HAS_CURSOR:
            self.bring_into_sight(self.cursor)

    def notify_style_update(self) -> None:
        """The theme changed: draw anew with its colours."""
        super().notify_style_update()
        self._strips.clear()

    # -- moving ---------------------------------------------------------------------------------------------------

    def move_to(self, index: int) -> None:
        """Put the cursor on a line and bring it into sight; nobody is told."""
        before, self.cursor = self.cursor, max(0, min(index, self.num_lines - 1))
        self.line_changed(before)
        self.line_changed(self.cursor)
        self.bring_into_sight(self.cursor)

    def bring_into_sight(self, index: int, centre: bool = False) -> None:
        """Scroll so that the line is in sight; `centre` puts it into the upper third if it was not."""
        shown = max(1, self.scrollable_content_region.height)
        top = self.scroll_offset.y
        if centre and not top <= index < top + shown:
            self.scroll_to(y=max(0, index - shown // 3), animate=False, force=True)
        elif index < top:
            self.scroll_to(y=index, animate=False, force=True)
        elif index >= top + shown:
            self.scroll_to(y=index - shown + 1, animate=False, force=True)

    def go(self, index: int) -> None:
        """The person moves the cursor to a line, or as near to it as there is one."""
        if self.num_lines:
            self.move_to(index)
            self.post_message(self.Moved(self))

    def action_step(self, step: int) -> None:
        """The line above or below."""
        if self.HAS_CURSOR:
            self.go(self.cursor + step)
        else:
            self.scroll_relative(y=step, animate=False, force=True)

    def action_page(self, step: int) -> None:
        """A page up or down."""
        page = max(1, self.scrollable_content_region.height - 1)
        self.action_step(step * page)

    def action_edge(self, step: int) -> None:
        """The first or the last line."""
        self.action_step(step * self.num_lines)

    def on_click(self, event: events.Click) -> None:
        """Put the cursor under the pointer; a click on the marked line takes it."""
        index = event.y + self.scroll_offset.y
        if not self.HAS_CURSOR or index >= self.num_lines:
            return
        if index == self.cursor and event.chain > 1:
            self.post_message(self.Taken(self))
        else:
            self.go(index)

    # -- what is drawn --------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """The strip of the y-th line in sight."""
        index, width, base = y + self.scroll_offset.y, self.scrollable_content_region.width, self.visual_style
        if index >= self.num_lines:
            return Strip.blank(width, base.rich_style)
        selection = self.text_selection
        marked = self.HAS_CURSOR and index == self.cursor
        strip = self._strips.get(index) if selection is None and not marked else None
        if strip is None:
            if marked:
                base += self.app.stylesheet.parse_style("bold on $panel" if self.has_focus else "bold")
            strip = self._strip(index, width, base, selection)
            if selection is None and not marked:
                self._strips[index] = strip
        return strip

    def _strip(self, index: int, width: int, base: Style, selection: Selection | None) -> Strip:
        content = self.line(index, width).content
        if selection is not None and (span := selection.get_span(index)) is not None:
            chosen = Style(background=self.screen.get_component_styles("screen--selection").background)
            content = content.stylize(chosen, span[0], len(content.plain) if span[1] == -1 else span[1])
        parts = content.render(base, end="", parse_style=self.app.stylesheet.parse_style)
        segments = [Segment(text, (base + style).rich_style) for text, style in parts]
        strip = Strip(segments, content.cell_length).adjust_cell_length(width, base.rich_style)
        return strip.apply_offsets(0, index)

    def on_focus(self) -> None:
        """The cursor's line looks different with the focus."""
        self.line_changed(self.cursor)

    def on_blur(self) -> None:
        """And without."""
        self.line_changed(self.cursor)

    # -- selecting ------------------------------------------------------------------------------------------------

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text without margins and marks."""
        return copy_rows(self._selected(selection)), "\n"

    def _selected(self, selection: Selection) -> Iterator[tuple[Row, int, int | None]]:
        for index in range(self.num_lines):
            span = selection.get_span(index)
            if span is not None:
                yield self.line(index, self.inner_width), span[0], None if span[1] == -1 else span[1]

    def selection_updated(self, selection: Selection | None) -> None:
        """Draw the selection."""
        self.refresh()


def padded(text: Content | str, width: int) -> Content:
    """`text` in exactly `width` cells."""
    content = Content(text) if isinstance(text, str) else text
    return content.truncate(width, ellipsis=True, pad=True) if width > 0 else Content("")
