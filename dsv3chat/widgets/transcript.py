"""The transcript: every message as rows of one scrolling widget, so that its cost is that of the rows in sight.

Knows no backend and no store. A widget a message (let alone one a paragraph) makes each key press dearer with every
answer; here a conversation of any length costs what one screen of it costs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style

from dsv3chat.widgets.message import Entry, Look
from dsv3chat.widgets.rows import Row, copy_rows

_GUTTER = 1  # cells left of every row: the bar of the picked message


class Transcript(ScrollView, can_focus=True):
    """Rows of messages. Follows the end until the reader scrolls up; one message can be picked."""

    DEFAULT_CSS = """
    Transcript {
        scrollbar-size-vertical: 1;
        overflow-x: hidden;
        overflow-y: scroll;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "message('copy')", "copy", id="message.copy", tooltip="copy the message"),
        Binding(
            "c",
            "message('code')",
            "copy code",
            id="message.code",
            tooltip="copy a code block; again for the next one",
        ),
        Binding(
            "e",
            "message('edit')",
            "edit",
            id="message.edit",
            tooltip="edit your message and ask again; both are kept",
        ),
        Binding(
            "r,ctrl+r",
            "message('regenerate')",
            "regenerate",
            id="message.regenerate",
            tooltip="answer again; both answers are kept",
        ),
        Binding(
            "b",
            "message('branch')",
            "branch",
            id="message.branch",
            tooltip="go on from here; what follows stays as a branch",
        ),
        Binding(
            "g",
            "message('go_on')",
            "go on",
            show=False,
            id="message.go_on",
            tooltip="go on with an answer that was stopped because it looped, the loop guard off",
        ),
        Binding(
            "w",
            "message('widen')",
            "wider attention",
            show=False,
            id="message.widen",
            tooltip="after a loop: the nearest profile whose attention is at 8 bit or wider",
        ),
        Binding(
            "enter", "message('thinking')", "open or close its thinking", show=False, id="message.thinking"
        ),
        Binding(
            "left",
            "message('previous')",
            "other answer",
            id="message.previous",
            key_display="←→",
            tooltip="show its other versions",
        ),
        Binding(
            "right",
            "message('next')",
            "show its other versions",
            show=False,
            key_display="←→",
            id="message.next",
        ),
        Binding("up,k", "pick(-1)", "message above or below", show=False, id="message.up"),
        Binding("down,j", "pick(1)", "message above or below", show=False, id="message.down"),
    ]

    picked: reactive[str | None] = reactive(None)
    follow: reactive[bool] = reactive(True)
    unseen: reactive[int] = reactive(0)  # rows that came below the reader while not following

    class Acted(Message):
        """The reader wants something done with a message: copy, code, edit, regenerate, branch, go_on, widen,
        previous, next."""

        def __init__(self, action: str, message_id: str, argument: int | None = None) -> None:
            super().__init__()
            self.action, self.message_id, self.argument = action, message_id, argument

    class NotLaidOut(Message):
        """Messages above wait to be laid out; whoever drives the transcript calls `lay_out_older`."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.look = Look()
        self.entries: list[Entry] = []
        self.welcome: list[Content] = []  # shown while there is no message
        self._rows: list[list[Row]] = []  # of entries[-len(_rows):]: the newest messages are laid out first
        self._tops: list[int] = [0]
        self._strips: dict[tuple[int, int], Strip] = {}
        self._adjusting = False
        self._last_code = ("", 0)

    # -- messages -------------------------------------------------------------------------------------------------

    def show(self, entries: Sequence[Entry], keep_position: bool = False) -> None:
        """Replace every message. The newest are laid out at once, the older ones by `lay_out_older`."""
        self.entries = list(entries)
        if self.picked not in {e.message.id for e in entries}:
            self.picked = None
        if not keep_position:
            self.follow = True
        self.lay_out()

    def add(self, entry: Entry) -> None:
        """Append a message."""
        self.entries.append(entry)
        self._rows.append(entry.rows(self.look))
        self._grown(len(self._rows) - 1)

    def entry(self, message_id: str) -> Entry | None:
        """The entry of a message, None when it is not shown."""
        return next((e for e in self.entries if e.message.id == message_id), None)

    def changed(self, entry: Entry) -> None:
        """An entry's message or look changed: lay it out again."""
        index = self.entries.index(entry) - self._num_waiting
        if index >= 0:
            before = self._rows[index]
            self._rows[index] = rows = entry.rows(self.look)
            same = 0
            while same < len(before) and same < len(rows) and before[same] is rows[same]:
                same += 1
            self._grown(index, from_row=same)

    def lay_out(self) -> None:
        """Lay out anew: the newest two screens now, the rest as `lay_out_older` is called."""
        self._rows = []
        needed = 2 * max(self.size.height, 10)
        while self._num_waiting and sum(map(len, self._rows)) < needed:
            self._rows.insert(0, self.entries[self._num_waiting - 1].rows(self.look))
        self._grown(0)
        if self._num_waiting:
            self.post_message(self.NotLaidOut())

    @property
    def _num_waiting(self) -> int:
        return len(self.entries) - len(self._rows)

    def waiting_entries(self, limit: int) -> list[Entry]:
        """The newest entries that are not laid out yet, oldest first. Laying them out may be done on a thread."""
        end = self._num_waiting
        return self.entries[max(0, end - limit) : end]

    def lay_out_older(self, entries: Sequence[Entry]) -> None:
        """Put the rows of `waiting_entries` above the others; what is in sight stays where it is."""
        end = self._num_waiting
        if list(entries) != self.entries[max(0, end - len(entries)) : end]:
            return
        above = [entry.rows(self.look) for entry in entries]
        added = sum(map(len, above))
        self._rows[:0] = above
        self._grown(0, moved=added)

    def _grown(self, first: int, moved: int = 0, from_row: int = 0) -> None:
        """Rows from the `from_row`-th of the `first` message on are new; `moved` rows came above what is in sight."""
        before = self._tops[-1]
        self._tops = [0, *accumulate(map(len, self._rows))]
        height = self._tops[-1]
        for key in [k for k in self._strips if k >= (first, from_row)]:
            del self._strips[key]
        self._adjusting = True
        position = self.scroll_offset.y
        size = Size(self._inner_width, height)
        if size != self.virtual_size:
            # Not by assignment: that lays out the whole screen, thirty times as dear as a repaint of the new rows.
            self.set_reactive(Transcript.virtual_size, size)
            self._scroll_update(size)
        if self.follow:
            self.scroll_to(y=self.max_scroll_y, animate=False, force=True)
        elif moved:
            self.scroll_to(y=position + moved, animate=False, force=True)
        elif height > before and first == len(self._rows) - 1:
            self.unseen += height - before
        self._adjusting = False
        changed = self._tops[min(first, len(self._rows))] + from_row - self.scroll_offset.y
        shown = self.scrollable_content_region.height
        if changed <= 0 or moved:
            self.refresh()
        elif changed < shown:
            self.refresh(Region(0, changed, self._inner_width, shown - changed))

    # -- what is drawn --------------------------------------------------------------------------------------------

    @property
    def _inner_width(self) -> int:
        return max(1, self.scrollable_content_region.width)

    def on_resize(self, event: events.Resize) -> None:
        """Wrap to the new width; the row in the middle of the screen stays in sight."""
        width = self._inner_width - _GUTTER - 1
        if width != self.look.width:
            self.look.width = width
            self.screen.clear_selection()
            anchor = self._locate(self.scroll_offset.y) if not self.follow else None
            self.lay_out()
            if anchor is not None and anchor[0] < len(self._rows):
                self.scroll_to(y=self._tops[anchor[0]], animate=False, force=True)
        elif self.follow:
            self._grown(len(self._rows))

    def notify_style_update(self) -> None:
        """The theme changed: draw anew with its colours."""
        super().notify_style_update()
        self._strips.clear()

    def _locate(self, y: int) -> tuple[int, int] | None:
        index = bisect_right(self._tops, y) - 1
        if not 0 <= index < len(self._rows):
            return None
        return index, y - self._tops[index]

    def render_line(self, y: int) -> Strip:
        """The strip of the y-th row in sight."""
        y += self.scroll_offset.y
        width = self.scrollable_content_region.width
        place = self._locate(y)
        base = self.visual_style
        if place is None:
            if not self.entries and 1 <= y <= len(self.welcome):
                line_of_welcome = self._strip(self.welcome[y - 1], y, base, None)
                return line_of_welcome.adjust_cell_length(width, base.rich_style)
            return Strip.blank(width, base.rich_style)
        index, line = place
        selection = self.text_selection
        picked = self.entries[self._num_waiting + index].message.id == self.picked
        strip = self._strips.get(place) if selection is None else None
        if strip is None:
            strip = self._strip(self._rows[index][line].content, y, base, selection)
            if selection is None:
                self._strips[place] = strip
        is_last = line == len(self._rows[index]) - 1
        bar = self.app.stylesheet.parse_style("bold $accent") if picked and not is_last else Style.null()
        gutter = Segment("▌" if picked and not is_last else " ", (base + bar).rich_style)
        line_strip = Strip([gutter, *strip.apply_offsets(0, y)], strip.cell_length + _GUTTER)
        return line_strip.adjust_cell_length(width, base.rich_style)

    def _strip(self, content: Content, y: int, base: Style, selection: Selection | None) -> Strip:
        if selection is not None and (span := selection.get_span(y)) is not None:
            start, end = span
            style = self.screen.get_component_styles("screen--selection")
            chosen = Style(background=style.background)
            content = content.stylize(chosen, start, len(content.plain) if end == -1 else end)
        parse = self.app.stylesheet.parse_style
        parts = content.render(base, end="", parse_style=parse)
        return Strip([Segment(text, (base + style).rich_style) for text, style in parts], content.cell_length)

    # -- selecting and picking ------------------------------------------------------------------------------------

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text without bars, borders and wrapping."""
        return copy_rows(self._selected(selection)), "\n"

    def _selected(self, selection: Selection) -> Iterator[tuple[Row, int, int | None]]:
        y = 0
        for rows in self._rows:
            for row in rows:
                span = selection.get_span(y)
                if span is not None:
                    yield row, span[0], None if span[1] == -1 else span[1]
                y += 1

    def selection_updated(self, selection: Selection | None) -> None:
        """Draw the selection."""
        self.refresh()

    def watch_picked(self) -> None:
        """Draw the bar of the picked message and bring it into sight."""
        self.refresh()
        index = next((i for i, e in enumerate(self.entries) if e.message.id == self.picked), None)
        if index is None or index < self._num_waiting:
            return
        index -= self._num_waiting
        top, bottom = self._tops[index], self._tops[index + 1]
        shown = self.scrollable_content_region.height
        if top < self.scroll_offset.y or bottom - top > shown:
            self.scroll_to(y=top, animate=False)
        elif bottom > self.scroll_offset.y + shown:
            self.scroll_to(y=bottom - shown, animate=False)

    def action_pick(self, step: int) -> None:
        """Pick the message above or below; the last one at first."""
        ids = [e.message.id for e in self.entries[self._num_waiting :]]
        if not ids:
            return
        if self.picked not in ids:
            self.picked = ids[-1]
            return
        place = ids.index(self.picked) + step
        self.picked = ids[max(0, min(place, len(ids) - 1))]

    def action_message(self, action: str) -> None:
        """Do something with the picked message; with the last answer when none is picked."""
        chosen = self.picked or next(
            (e.message.id for e in reversed(self.entries) if e.message.role == "assistant"), None
        )
        if chosen is not None:
            self._act(action, chosen)

    def _act(self, action: str, message_id: str, argument: int | None = None) -> None:
        if action == "thinking":
            entry = self.entry(message_id)
            if entry is not None:
                entry.expanded = not (self.look.show_thinking if entry.expanded is None else entry.expanded)
                self.changed(entry)
            return
        self.post_message(self.Acted(action, message_id, argument))

    def on_click(self, event: events.Click) -> None:
        """Pick the message under the pointer; a thinking line, a copy label or a sibling counter does its work."""
        place = self._locate(event.y + self.scroll_offset.y)
        if place is None or self.text_selection is not None:
            return
        entry = self.entries[self._num_waiting + place[0]]
        name, _, number = self._rows[place[0]][place[1]].action.partition(":")
        if name:
            self._act(name, entry.message.id, int(number) if number else None)
        else:
            self.picked = entry.message.id

    def next_code(self, message_id: str, count: int) -> int:
        """Which code block `c` copies next: the first, at the next press the second, and around."""
        last_id, last = self._last_code
        number = (last + 1) % count if last_id == message_id else 0
        self._last_code = (message_id, number)
        return number

    # -- scrolling ------------------------------------------------------------------------------------------------

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Leaving the end by hand stops following it, coming back starts it again."""
        super().watch_scroll_y(old_value, new_value)
        if not self._adjusting:
            self.follow = round(new_value) >= self.max_scroll_y

    def watch_follow(self, follow: bool) -> None:
        """At the end nothing is unseen."""
        if follow:
            self.unseen = 0

    def to_end(self) -> None:
        """Go to the end and follow it."""
        self.follow = True
        self._grown(len(self._rows))
