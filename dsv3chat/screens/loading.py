"""What is seen while the model loads: the progress, and an input for what is typed early. Knows no backend."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Center, Horizontal, Middle
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from dsv3chat.sanitize import clean_line
from dsv3chat.screens.status_line import queue_line
from dsv3chat.widgets.bars import Bar
from dsv3chat.widgets.prompt import Prompt
from dsv3chat.widgets.rows import MUTED
from engine import LoadProgress

_BAR_CELLS = 40


class LoadingScreen(Screen[None]):
    """Stage, bytes and a bar. What is typed meanwhile waits: `sent` and `draft` are for the chat that comes next."""

    DEFAULT_CSS = """
    LoadingScreen {
        & #middle { height: 1fr; }
        & #middle Static { width: auto; }
        & #queued { display: none; color: $text-warning; }
        & #inputrow { height: auto; max-height: 10; border-top: solid $foreground 20%; }
        & #sigil { width: 3; height: 1; color: $text-primary; text-style: bold; }
    }
    """
    AUTO_FOCUS = "#prompt"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "drop", "drop the queued prompt", show=False, id="loading.drop")
    ]

    def __init__(self, draft: str = "") -> None:
        super().__init__()
        self.prompt = Prompt(id="prompt")
        self._first = draft
        self.sent: list[str] = []
        self._queued = Bar(id="queued")

    def compose(self) -> ComposeResult:
        """One text in the middle, the input below."""
        with Middle(id="middle"), Center():
            yield Static(Content("loading"), id="progress")
        yield self._queued
        with Horizontal(id="inputrow"):
            yield Static(Content(" ›"), id="sigil")
            yield self.prompt

    def on_mount(self) -> None:
        """The draft that the chat is opened with."""
        if self._first:
            self.prompt.set_draft(self._first)

    @property
    def draft(self) -> str:
        """What stands in the input."""
        return self.prompt.expanded_text

    def show_progress(self, progress: LoadProgress) -> None:
        """Show where the loading is."""
        lines = [Content.styled(clean_line(progress.stage), "bold")]
        if progress.total_bytes:
            share = progress.done_bytes / progress.total_bytes
            done = round(share * _BAR_CELLS)
            lines.append(Content.assemble("█" * done, ("░" * (_BAR_CELLS - done), MUTED), f" {share:4.0%}"))
        lines += [Content.styled(clean_line(progress.detail), MUTED), Content.styled("ctrl+c stops", MUTED)]
        self.query_one("#progress", Static).update(Content("\n").join(lines))

    @on(Prompt.Submitted)
    def _queue(self, event: Prompt.Submitted) -> None:
        text = event.text.strip("\n")
        if text.strip():
            self.sent.append(text)
            self.prompt.clear_draft()
            self._show_queue()

    def action_drop(self) -> None:
        """Take the last queued prompt back into the input."""
        if self.sent and not self.prompt.text:
            self.prompt.set_draft(self.sent.pop())
            self._show_queue()

    def _show_queue(self) -> None:
        self._queued.display = bool(self.sent)
        if self.sent:
            self._queued.show(*queue_line(self.sent))
