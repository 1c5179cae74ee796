"""What is seen while the model loads. Knows no backend; it is shown progress."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Center, Middle
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from dsv3chat.sanitize import clean_line
from dsv3chat.widgets.rows import MUTED
from engine import LoadProgress

_BAR_CELLS = 40


class LoadingScreen(Screen[None]):
    """Stage, bytes and a bar."""

    DEFAULT_CSS = """
    LoadingScreen { align: center middle; }
    LoadingScreen Static { width: auto; }
    """

    def compose(self) -> ComposeResult:
        """One text in the middle."""
        with Middle(), Center():
            yield Static(Content("loading"), id="progress")

    def show_progress(self, progress: LoadProgress) -> None:
        """Show where the loading is."""
        lines = [Content.styled(clean_line(progress.stage), "bold")]
        if progress.total_bytes:
            share = progress.done_bytes / progress.total_bytes
            done = round(share * _BAR_CELLS)
            lines.append(Content.assemble("█" * done, ("░" * (_BAR_CELLS - done), MUTED), f" {share:4.0%}"))
        lines += [Content.styled(clean_line(progress.detail), MUTED), Content.styled("ctrl+c stops", MUTED)]
        self.query_one("#progress", Static).update(Content("\n").join(lines))
