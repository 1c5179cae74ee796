"""One-line bars: the header, the status of the answer, the draft, the keys. They know values, not where these come from."""

from __future__ import annotations

from textual.binding import Binding
from textual.content import Content
from textual.widget import Widget

from dsv3chat.sanitize import clean_line
from dsv3chat.widgets.rows import MUTED, columns

_EMPTY = Content("")


class Bar(Widget):
    """Two texts at the ends of a line; the left one gives way."""

    DEFAULT_CSS = """
    Bar { height: 1; padding: 0 1; }
    """
    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._left, self._right = Content(""), Content("")

    def show(self, left: Content, right: Content = _EMPTY) -> None:
        """Show two texts; nothing is drawn when neither changed."""
        if not (left.is_same(self._left) and right.is_same(self._right)):
            self._left, self._right = left, right
            self.refresh()

    @property
    def text(self) -> str:
        """What is shown, left then right."""
        return f"{self._left.plain}  {self._right.plain}".strip()

    def render(self) -> Content:
        """The line."""
        return columns(self._left, self._right, max(1, self.size.width))


class Header(Bar):
    """Program, model and profile; the conversation's title."""

    DEFAULT_CSS = """
    Header { background: $surface; }
    """

    def set(self, model: str, profile: str, title: str, state: str) -> None:
        """Show these; any of them may be foreign text."""
        left = Content.assemble(
            ("dsv3chat", "bold $text-primary"),
            f"  {clean_line(model)}",
            (f" · {clean_line(profile)}" if profile else "", MUTED),
        )
        tail = Content.styled(f" · {state}" if state else "", MUTED)
        room = max(10, self.size.width - 2 - left.cell_length - tail.cell_length)
        name = Content(clean_line(title) or "new conversation")
        self.show(left, (name.truncate(room, ellipsis=True) if name.cell_length > room else name) + tail)


class FollowBar(Bar):
    """Over the transcript's last row while the reader is not at its end."""

    def show_following(self, unseen: int, follow: bool, width: int) -> None:
        """`unseen` rows came below; `width` cells has the transcript."""
        self.display = not follow
        if not follow:
            count = f"↓ {unseen} new line{'s' if unseen != 1 else ''} (end) ↓" if unseen else "↓ end ↓"
            cells = len(count) + 2
            self.styles.width = cells
            self.styles.offset = (max(0, width - cells - 4), 0)
            self.show(Content(count))


class KeyBar(Bar):
    """The keys that do something now, as many as fit."""

    DEFAULT_CSS = """
    KeyBar { color: $text-muted; }
    """

    def refresh_keys(self) -> None:
        """Read the screen's active bindings, remapped keys included."""
        seen: set[str] = set()
        parts: list[Content] = []
        room = self.size.width - 2
        for active in self.screen.active_bindings.values():
            binding: Binding = active.binding
            if not binding.show or not active.enabled or binding.action in seen:
                continue
            seen.add(binding.action)
            key = self.app.get_key_display(binding)
            part = Content.assemble((key, "bold $text"), f" {binding.description}")
            if sum(p.cell_length + 2 for p in parts) + part.cell_length > room:
                break
            parts.append(part)
        self.show(Content("  ").join(parts))

    def on_resize(self) -> None:
        """More or fewer keys fit."""
        self.refresh_keys()
