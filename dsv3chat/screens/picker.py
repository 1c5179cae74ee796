"""A list with a filter above it, from which one thing is picked: history, sessions. Knows nothing of what is listed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from dsv3chat.widgets.rows import MUTED


class Picker(ModalScreen[str | None]):
    """Dismisses with the id of the picked line, or None."""

    DEFAULT_CSS = """
    Picker {
        align: center middle;
        & > #picker {
            width: 90%; max-width: 100; height: auto; max-height: 80%;
            background: $surface; border: round $foreground 30%; padding: 0 1;
            border-title-color: $text-primary;
        }
        & Input, & Input:focus { border: none; height: 1; padding: 0; background: $surface; margin: 0 0 1 0; }
        & OptionList, & OptionList:focus { border: none; padding: 0; background: $surface; height: auto; max-height: 20; }
        & #keys { color: $text-muted; height: 1; margin: 1 0 0 0; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "close", priority=True, id="picker.close"),
        Binding("up", "move(-1)", show=False, id="picker.up"),
        Binding("down", "move(1)", show=False, id="picker.down"),
    ]
    TITLE_TEXT: ClassVar[str] = ""
    PLACEHOLDER: ClassVar[str] = "type to search"
    EMPTY_TEXT: ClassVar[str] = "nothing found"
    KEYS_TEXT: ClassVar[str] = "⏎ take  esc close"

    @abstractmethod
    def lines(self, query: str) -> Sequence[tuple[str, Content]]:
        """(id, line) of everything that matches, the likeliest first."""

    def compose(self) -> ComposeResult:
        """A frame with the filter, the list and the keys."""
        with Vertical(id="picker") as frame:
            frame.border_title = self.TITLE_TEXT
            filter_input = Input(placeholder=self.PLACEHOLDER, id="filter")
            filter_input.cursor_blink = False
            yield filter_input
            yield OptionList(id="list")
            yield Static(Content(self.KEYS_TEXT), id="keys")

    def on_mount(self) -> None:
        """Show everything at first."""
        self.query_one(OptionList).can_focus = False
        self.query_one(Input).focus()
        self.refill()

    @on(Input.Changed)
    def refill(self) -> None:
        """List what matches the filter; the same line stays marked where it is still there."""
        listing = self.query_one(OptionList)
        kept = self.marked_id
        found = self.lines(self.query_one(Input).value)
        listing.clear_options()
        if found:
            listing.add_options([Option(line, id=line_id) for line_id, line in found])
            ids = [line_id for line_id, _ in found]
            listing.highlighted = ids.index(kept) if kept in ids else 0
        else:
            listing.add_option(Option(Content.styled(self.EMPTY_TEXT, MUTED), disabled=True))

    @property
    def marked_id(self) -> str | None:
        """The id of the marked line."""
        listing = self.query_one(OptionList)
        if listing.highlighted is None or not listing.option_count:
            return None
        return listing.get_option_at_index(listing.highlighted).id

    def action_move(self, step: int) -> None:
        """Mark another line."""
        listing = self.query_one(OptionList)
        if step < 0:
            listing.action_cursor_up()
        else:
            listing.action_cursor_down()

    @on(Input.Submitted)
    def take(self) -> None:
        """Close with the marked line."""
        if self.marked_id is not None:
            self.dismiss(self.marked_id)

    @on(OptionList.OptionSelected)
    def clicked(self, event: OptionList.OptionSelected) -> None:
        """A click picks."""
        self.dismiss(event.option_id)

    def action_cancel(self) -> None:
        """Close with nothing."""
        self.dismiss(None)
