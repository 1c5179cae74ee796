"""The saved conversations: open, rename, delete, search. Knows the store's list and no message."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList

from dsv3chat.sanitize import clean, clean_line
from dsv3chat.screens.picker import Picker
from dsv3chat.store import Store, StoreError
from dsv3chat.widgets.rows import MUTED, columns

_T = TypeVar("_T")


class RenameScreen(ModalScreen[str | None]):
    """Asks for a title; dismisses with it, or None."""

    DEFAULT_CSS = """
    RenameScreen {
        align: center middle;
        & > Vertical { width: 64; height: 3; background: $surface; border: round $foreground 30%; border-title-color: $text-primary; }
        & Input, & Input:focus { border: none; height: 1; padding: 0 1; background: $surface; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "close", priority=True, id="rename.close")
    ]

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def compose(self) -> ComposeResult:
        """One line of input in a frame."""
        with Vertical() as frame:
            frame.border_title = "New title"
            title = Input(self._title)
            title.cursor_blink = False
            yield title

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the title unless it is empty."""
        self.dismiss(clean_line(event.value) or None)

    def action_cancel(self) -> None:
        """Keep the old title."""
        self.dismiss(None)


class SessionsScreen(Picker):
    """Dismisses with the id of the conversation to open."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+t", "rename", "rename", priority=True, id="sessions.rename"),
        Binding("ctrl+d,delete", "delete", "delete", priority=True, id="sessions.delete"),
    ]
    TITLE_TEXT: ClassVar[str] = "Sessions"
    EMPTY_TEXT: ClassVar[str] = "no saved conversation"
    KEYS_TEXT: ClassVar[str] = "⏎ open  ^t rename  ^d delete  esc close"

    def __init__(self, store: Store, current_id: str) -> None:
        super().__init__()
        self._store = store
        self._current_id = current_id
        self._doomed: str | None = None  # the conversation whose deletion waits for a second key press

    def lines(self, query: str) -> list[tuple[str, Content]]:
        """Title, model, number of messages and time; the open conversation carries a dot."""
        found = []
        for summary in self._attempt(lambda: self._store.list(query=query)) or []:
            mark = "● " if summary.id == self._current_id else "  "
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(summary.updated))
            title = Content(mark + (clean_line(summary.title) or "untitled"))
            detail = f"{clean_line(summary.model)} · {summary.num_messages} msgs · {when}"
            if summary.id == self._doomed:
                title = title.stylize("strike bold $text-error")
                detail = "^d again deletes it"
            width = min(92, max(40, self.app.size.width * 9 // 10 - 8))
            found.append((summary.id, columns(title, Content.styled(detail, MUTED), width)))
        return found

    def _attempt(self, work: Callable[[], _T]) -> _T | None:
        """What `work` returns; where the database fails, the reason is shown and it is None."""
        try:
            return work()
        except StoreError as error:
            self.notify(clean(str(error)), severity="error", markup=False)
            return None

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Another line is marked: nothing waits for its deletion any more."""
        if self._doomed is not None and event.option_id != self._doomed:
            self._doomed = None
            self.call_later(self.refill)

    def action_delete(self) -> None:
        """The first press asks, the second deletes."""
        chosen = self.marked_id
        if chosen is None:
            return
        if chosen == self._current_id:
            self.notify("this conversation is open; begin another one before you delete it", markup=False)
        elif chosen == self._doomed:
            self._attempt(lambda: self._store.delete(chosen))
            self._doomed = None
            self.refill()
        else:
            self._doomed = chosen
            self.refill()

    def action_rename(self) -> None:
        """Ask for another title."""
        chosen = self.marked_id
        if chosen is None:
            return
        known = self._attempt(self._store.list) or []
        title = next((s.title for s in known if s.id == chosen), "")

        def rename(new: str | None) -> None:
            if new is not None:
                self._attempt(lambda: self._store.rename(chosen, new))
                self.refill()

        self.app.push_screen(RenameScreen(clean_line(title)), rename)
