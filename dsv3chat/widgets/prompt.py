"""The input: several lines, a history, folded pastes, what stands before the cursor. Knows no backend and no store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.actions import SkipAction
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import TextArea

from dsv3chat.sanitize import clean

FOLD_LINES = 12  # a paste of more lines, or of more characters than this, is folded to one line
FOLD_CHARACTERS = 3000
_FRAGMENT = re.compile(r'(?:^|(?<=\s))@("[^"\n]*|[^\s"]*)$')
_COMMAND = re.compile(r"/([A-Za-z-]*)$")


class Prompt(TextArea):
    """Enter sends, up and down at the edges walk through the history, a large paste is folded until it is sent."""

    DEFAULT_CSS = """
    Prompt {
        height: auto;
        max-height: 10;
        border: none;
        padding: 0 1 0 0;
        background: $background;
        &:focus { border: none; background: $background; }
        & .text-area--cursor-line { background: $background; }
        & .text-area--placeholder { color: $text-muted; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "send", key_display="⏎", id="prompt.send", tooltip="send"),
        Binding("ctrl+j,shift+enter", "newline", "newline", key_display="^j", id="prompt.newline"),
        Binding(
            "up", "older", "earlier and later inputs, at the edge of the text", show=False, id="prompt.older"
        ),
        Binding(
            "down",
            "newer",
            "earlier and later inputs, at the edge of the text",
            show=False,
            id="prompt.newer",
        ),
        Binding("tab", "complete", "take the marked completion", show=False, id="prompt.complete"),
        Binding("ctrl+r", "search_history", "search what you asked before", show=False, id="prompt.search"),
        Binding("pageup", "scroll(-1)", "scroll the chat", show=False, id="prompt.page_up"),
        Binding("pagedown", "scroll(1)", "scroll the chat", show=False, id="prompt.page_down"),
        Binding("ctrl+end", "to_end", "to the end of the chat", show=False, id="prompt.to_end"),
        Binding(
            "end",
            "end",
            "to the end of the line; of the chat when the input is empty",
            show=False,
            id="prompt.end",
        ),
    ]

    class Submitted(Message):
        """The reader wants to send the text; it stays in the input until `clear_draft`."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Moved(Message):
        """A key that belongs to something else: move (the popup), accept, search, scroll, end."""

        def __init__(self, what: str, step: int = 0) -> None:
            super().__init__()
            self.what, self.step = what, step

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(
            id=id,
            soft_wrap=True,
            show_line_numbers=False,
            compact=True,
            highlight_cursor_line=False,
            placeholder=Content("Ask something. / for commands, @ for files, F1 for help"),
        )
        self.cursor_blink = False  # a blinking cursor is a timer that never ends
        self.popup_open = False
        self._history: list[str] = []
        self._place = 0  # in the history; len(history) is the draft
        self._draft = ""
        self._folds: dict[str, str] = {}

    # -- text -----------------------------------------------------------------------------------------------------

    @property
    def expanded_text(self) -> str:
        """The text with folded pastes written out."""
        text = self.text
        for mark, paste in self._folds.items():
            text = text.replace(mark, paste, 1)
        return text

    def set_draft(self, text: str) -> None:
        """Put text into the input, the cursor at its end."""
        self.load_text(clean(text))
        self.move_cursor(self.document.end)

    def clear_draft(self) -> None:
        """Empty the input and stand at the end of the history."""
        self.load_text("")
        self._folds.clear()
        self._place = len(self._history)

    async def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        text = clean(event.text.replace("\r\n", "\n").replace("\r", "\n"))
        num_lines = text.count("\n") + 1
        if num_lines > FOLD_LINES or len(text) > FOLD_CHARACTERS:
            mark = base = f"[pasted {num_lines} line{'s' if num_lines > 1 else ''}]"
            number = 1
            while mark in self._folds or mark in self.text:
                number += 1
                mark = f"{base[:-1]} #{number}]"
            self._folds[mark] = text
            text = mark
        self.insert(text)
        self.scroll_cursor_visible()

    def add_to_history(self, text: str) -> None:
        """Remember what was sent."""
        if not self._history or self._history[-1] != text:
            self._history.append(text)
        self._place = len(self._history)

    def set_history(self, texts: Sequence[str]) -> None:
        """The inputs of earlier sessions, oldest first."""
        self._history = list(texts)
        self._place = len(self._history)

    @property
    def asked(self) -> list[str]:
        """Everything sent, oldest first."""
        return list(self._history)

    # -- completion -----------------------------------------------------------------------------------------------

    @property
    def fragment(self) -> tuple[str, str] | None:
        """("/", letters) at the beginning of a command, ("@", path) before the cursor in a file name, else None."""
        row, column = self.cursor_location
        before = self.document[row][:column]
        if row == 0 and (match := _COMMAND.fullmatch(before)):
            return "/", match[1]
        if match := _FRAGMENT.search(before):
            return "@", match[1].lstrip('"')
        return None

    def replace_fragment(self, text: str) -> None:
        """Put a completion in place of the fragment before the cursor."""
        row, column = self.cursor_location
        before = self.document[row][:column]
        match = (_COMMAND.fullmatch(before) if row == 0 else None) or _FRAGMENT.search(before)
        if match is not None:
            self.replace(text, (row, match.start()), (row, column), maintain_selection_offset=False)
            self.move_cursor((row, match.start() + len(text)))

    # -- keys -----------------------------------------------------------------------------------------------------

    async def _on_key(self, event: events.Key) -> None:
        """Run the input's bindings here and now, the text area's own too.

        By the usual way round a key's action runs after the letters typed behind it: in a fast burst, a paste without
        brackets or a slow machine, enter overtakes letters and ctrl+u deletes what came later.
        """
        if not event.is_printable:
            active = self.screen.active_bindings.get(event.key)
            if active is not None and active.node is self:
                handled = await self.app.run_action(active.binding.action, self)
                if handled:
                    event.stop()
                    event.prevent_default()
                    return
        await super()._on_key(event)

    def action_submit(self) -> None:
        """Send, or take the popup's choice."""
        if self.popup_open:
            self.post_message(self.Moved("accept_or_send"))
        else:
            self.post_message(self.Submitted(self.expanded_text))

    def action_newline(self) -> None:
        """Begin a new line."""
        self.insert("\n")
        self.scroll_cursor_visible()

    def action_complete(self) -> None:
        """Take the popup's choice; without one, tab moves the focus."""
        if not self.popup_open:
            raise SkipAction
        self.post_message(self.Moved("accept"))

    def action_older(self) -> None:
        """Up: in the popup, in the text, or from its first line into the history."""
        self._step(-1)

    def action_newer(self) -> None:
        """Down: in the popup, in the text, or from its last line back out of the history."""
        self._step(1)

    def _step(self, step: int) -> None:
        if self.popup_open:
            self.post_message(self.Moved("move", step))
            return
        line = self.wrapped_document.location_to_offset(self.cursor_location).y
        at_edge = line == 0 if step < 0 else line == self.wrapped_document.height - 1
        place = self._place + step
        if not at_edge or not 0 <= place <= len(self._history):
            self.action_cursor_up() if step < 0 else self.action_cursor_down()
            return
        if self._place == len(self._history):
            self._draft = self.text
        self._place = place
        self.load_text(self._draft if place == len(self._history) else clean(self._history[place]))
        self.move_cursor(self.document.end if step > 0 else (0, len(self.document[0])))

    def action_search_history(self) -> None:
        """Search the history."""
        self.post_message(self.Moved("search"))

    def action_scroll(self, step: int) -> None:
        """Scroll the transcript a page."""
        self.post_message(self.Moved("scroll", step))

    def action_to_end(self) -> None:
        """Scroll the transcript to its end."""
        self.post_message(self.Moved("end"))

    def action_end(self) -> None:
        """End of the line; in an empty input, the end of the transcript."""
        if self.text:
            self.action_cursor_line_end()
        else:
            self.post_message(self.Moved("end"))
