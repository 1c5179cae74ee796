"""F1: the keys, as they are bound now, and the commands. Knows no screen but through its bindings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import Static

from dsv3chat.commands import COMMANDS
from dsv3chat.widgets.rows import MUTED, text_rows, wrap

_COLUMN = 14
_WIDE_COLUMN = 26
_MAX_WIDTH = 76
_MIN_TEXT = 16


class HelpScreen(ModalScreen[None]):
    """`sections` are (heading, bindings); bindings with the same action share a line."""

    DEFAULT_CSS = """
    HelpScreen {
        align: center middle;
        & > VerticalScroll {
            width: 84; max-width: 95%; height: auto; max-height: 90%;
            background: $surface; border: round $foreground 30%; padding: 0 2;
            border-title-color: $text-primary; border-subtitle-color: $text-muted; scrollbar-size-vertical: 1;
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
            yield Static(id="text")

    def on_resize(self, event: Resize) -> None:
        """Wrap to the width that the frame has."""
        width = min(_MAX_WIDTH, event.size.width * 95 // 100 - 7)  # border, padding and scrollbar
        self.query_one("#text", Static).update(Content("\n").join(self._lines(width)))

    def _lines(self, width: int) -> list[Content]:
        lines: list[Content] = []
        for heading, bindings in self._sections:
            lines += [Content(""), Content.styled(heading, "bold $text-primary")]
            keys: dict[str, list[str]] = {}
            for binding in bindings:
                if binding.description:
                    keys.setdefault(binding.tooltip or binding.description, []).append(self._key(binding))
            for text, names in keys.items():
                lines += _lines_of(" ".join(dict.fromkeys(names)), text, _COLUMN, width)
        lines += [Content(""), Content.styled("Commands", "bold $text-primary")]
        for command in COMMANDS:
            lines += _lines_of(f"/{command.name} {command.usage}".strip(), command.help, _WIDE_COLUMN, width)
        lines += _lines_of(
            "@path", "attach a file, lines of it (@a.py:10-40), or a folder's listing", _WIDE_COLUMN, width
        )
        last = "Drag with the mouse to select, ^c copies. Every key can be remapped in the settings."
        return [*lines, Content(""), *(line for line, _ in wrap(Content.styled(last, MUTED), width))]

    def _key(self, binding: Binding) -> str:
        if binding.key_display:
            return binding.key_display
        keys = [Binding(key, binding.action) for key in binding.key.split(",")]
        return " ".join(self.app.get_key_display(key) for key in keys)

    def action_close(self) -> None:
        """Back to the chat."""
        self.dismiss(None)


def bindings_of(owner: type, keymap: Mapping[str, str]) -> list[Binding]:
    """A class's own bindings, with the keys that the settings give them."""
    found = []
    for binding in owner.__dict__.get("BINDINGS", []):
        keys = keymap.get(binding.id or "")
        text = binding.tooltip or binding.description
        found.append(Binding(keys, binding.action, text) if keys else binding)
    return found


def _lines_of(key: str, text: str, column: int, width: int) -> list[Content]:
    """The text behind the column of keys; where that leaves little room, below its key."""
    if width < column + _MIN_TEXT:
        line = Content.styled(f"  {key}", "bold").truncate(width, ellipsis=True)
        return [line, *(Content("    ") + part for part, _ in wrap(Content(text), width - 4))]
    first = Content.styled(f"  {key}".ljust(column), "bold")
    return [row.content for row in text_rows(Content(text), width, first, Content(" " * column))]
