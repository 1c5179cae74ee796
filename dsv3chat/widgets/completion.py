"""The popup above the input: commands after a /, files after an @. Knows neither list; it is given the choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from dsv3chat.sanitize import clean, clean_line
from dsv3chat.widgets.rows import MUTED, columns

MAX_CHOICES = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """`insert` replaces the fragment; `label` and `detail` are shown."""

    insert: str
    label: str
    detail: str
    complete: bool = True  # False: typing goes on inside it (a folder, a command with an argument)


class Completion(Widget):
    """Up to eight choices, one of them marked; hidden while there is none."""

    DEFAULT_CSS = """
    Completion {
        height: auto;
        display: none;
        background: $surface;
        padding: 0 1;
        &.-open { display: block; }
    }
    """
    can_focus = False

    class Picked(Message):
        """A choice was clicked."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.choices: list[Choice] = []
        self._index = 0

    def show(self, choices: Sequence[Choice]) -> None:
        """Offer choices; none hides the popup."""
        if not choices and not self.choices:
            return  # on every key press: laying out the screen for nothing is what typing would wait for
        self.choices = list(choices)[:MAX_CHOICES]
        self._index = 0
        self.set_class(bool(self.choices), "-open")
        self.refresh(layout=True)

    @property
    def choice(self) -> Choice | None:
        """The marked choice."""
        return self.choices[self._index] if self.choices else None

    def move(self, step: int) -> None:
        """Mark the next or the previous choice, around the ends."""
        if self.choices:
            self._index = (self._index + step) % len(self.choices)
            self.refresh()

    def render(self) -> Content:
        """One line a choice; the marked one carries an arrow, not only a colour."""
        lines = []
        width = max(self.size.width, 10)
        label_width = min(width // 2, 2 + max((len(clean_line(c.label)) for c in self.choices), default=0))
        for index, choice in enumerate(self.choices):
            marked = index == self._index
            label = Content(clean_line(choice.label)).truncate(label_width, ellipsis=True, pad=True)
            detail = Content.styled(clean(choice.detail), MUTED).truncate(
                width - label_width - 9, ellipsis=True
            )
            line = columns(
                Content.assemble(
                    "▸ " if marked else "  ", label.stylize("bold") if marked else label, "  ", detail
                ),
                Content.styled("tab" if marked else "", MUTED),
                width,
            )
            lines.append(line)
        return Content("\n").join(lines)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """A line a choice."""
        return len(self.choices)

    def on_click(self, event: events.Click) -> None:
        """Mark the choice under the pointer and take it."""
        if 0 <= event.y < len(self.choices):
            self._index = event.y
            self.refresh()
            self.post_message(self.Picked())
