"""F1: the keys, as they are bound now, and the commands. Knows no screen but through its bindings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from dsv3chat.commands import COMMANDS
from dsv3chat.widgets.rows import MUTED

_COLUMN = 24


class HelpScreen(ModalScreen[None]):
    """`sections` are (heading, bindings); bindings with the same action share a line."""

    DEFAULT_CSS = """
    HelpScreen {
        align: center middle;
        & > VerticalScroll {
            width: 84; max-width: 95%; height: auto; max-height: 90%;
            background: $surface; border: round $panel; padding: 0 2; border-title-color: $text-primary;
        }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1,q", "close", "close", priority=True, id="help.close")
    ]

    def __init__(self, sections: Iterable[tuple[str, Iterable[Binding]]]) -> None:
        super().__init__()
        self._sections = [(heading, list(bindings)) for heading, bindings in sections]

    def compose(self) -> ComposeResult:
        """One scrolling text."""
        with VerticalScroll() as frame:
            frame.border_title = "Help"
            frame.border_subtitle = "esc closes"
            yield Static(Content("\n").join(self._lines()))

    def _lines(self) -> list[Content]:
        lines: list[Content] = []
        for heading, bindings in self._sections:
            lines += [Content(""), Content.styled(heading, "bold $text-primary")]
            keys: dict[str, list[str]] = {}
            for binding in bindings:
                if binding.description:
                    keys.setdefault(binding.tooltip or binding.description, []).append(self._key(binding))
            lines += [_line(" ".join(dict.fromkeys(k)), text) for text, k in keys.items()]
        lines += [Content(""), Content.styled("Commands", "bold $text-primary")]
        lines += [_line(f"/{c.name} {c.usage}".strip(), c.help) for c in COMMANDS]
        lines += [_line("@path", "attach a file, lines of it (@a.py:10-40) or a folder's listing")]
        lines += [
            Content(""),
            Content.styled("Drag with the mouse to select, ^c copies. Every key can be remapped in the settings.", MUTED),
        ]
        return lines

    def _key(self, binding: Binding) -> str:
        return self.app.get_key_display(binding)

    def action_close(self) -> None:
        """Back to the chat."""
        self.dismiss(None)


def _line(key: str, text: str) -> Content:
    gap = " " * max(1, _COLUMN - len(key))
    return Content.assemble(("  " + key, "bold"), gap + text)
