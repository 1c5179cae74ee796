"""One message as rows: who and when, attachments, thinking, text, how it ended. Knows no screen and no scrolling."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from textual.content import Content

from dsv3chat.conversation import Attachment, ChatMessage
from dsv3chat.sanitize import clean, clean_line
from dsv3chat.widgets.layout import Document
from dsv3chat.widgets.rows import MUTED, Row, text_rows, wrap

MARGIN = 2  # cells left of an answer's text; the bar of the picked message stands there
MAX_TEXT_WIDTH = 120
_WIDER = ", w takes 8-bit attention"
_BLANK = Content("")
_BAR = Content.styled("┃ ", "$text-primary")
_ENDINGS = {
    "stopped": "■ stopped",
    "length": "■ cut at the token limit",
    "looping": "■ looping, so it was stopped · alt+↑: g goes on, r regenerates",
    "failed": "✗ failed",
}


def grouped(number: int) -> str:
    """A count with thin groups: 9 216."""
    return f"{number:,}".replace(",", " ")


def attachment_line(attachment: Attachment) -> str:
    """`@path  ≡ 51 lines · 612 tok`."""
    lines = f"{grouped(attachment.num_lines)} line{'s' if attachment.num_lines != 1 else ''}"
    return f"@{clean_line(attachment.label)}  ≡ {lines} · {grouped(attachment.num_tokens)} tok"


@dataclass(slots=True)
class Look:
    """What decides how all messages are shown, besides their text."""

    width: int = 80
    show_thinking: bool = False
    offers_wider: bool = False  # the attention is below 8 bit: a looping answer offers to change that


@dataclass(slots=True, eq=False)
class Entry:
    """A message in the transcript. `position` of `num_siblings` tells which of several answers or edits this is.

    A live entry grows by `append` and shows a cursor; `expanded` overrides the look's `show_thinking`.
    """

    message: ChatMessage
    position: int = 1
    num_siblings: int = 1
    live: bool = False
    expanded: bool | None = None
    body: Document = field(default_factory=lambda: Document(margin=MARGIN))
    _cached: tuple[object, list[Row]] | None = None

    def __post_init__(self) -> None:
        if self.message.role == "assistant":
            self.body = Document(self.message.text, MARGIN)

    def append(self, message: ChatMessage, new_text: str) -> None:
        """The live message grew by `new_text`."""
        self.message = message
        self.body.append(new_text)
        self._cached = None

    def finish(self, message: ChatMessage) -> None:
        """The live message is complete: from here on its rows are laid out once a width."""
        self.message, self.live, self._cached = message, False, None

    def forget(self) -> None:
        """Lay out anew at the next call of `rows`."""
        self._cached = None

    def rows(self, look: Look) -> list[Row]:
        """The rows at this look, a blank one at the end."""
        key = (
            (look.width, look.show_thinking, look.offers_wider),
            self.expanded,
            self.position,
            self.num_siblings,
        )
        if self._cached is None or self._cached[0] != key:
            width = min(look.width, MAX_TEXT_WIDTH)
            rows = self._user(width) if self.message.role == "user" else self._answer(width, look)
            self._cached = (key, rows)
        return self._cached[1]

    def _siblings(self) -> str:
        return f"‹ {self.position}/{self.num_siblings} ›" if self.num_siblings > 1 else ""

    def _user(self, width: int) -> list[Row]:
        message = self.message
        clock = time.strftime("%H:%M", time.localtime(message.created)) if message.created else ""
        parts = [("you", "bold"), (f"  {clock}", MUTED)]
        if siblings := self._siblings():
            parts.append((f"  {siblings}", MUTED))
        rows = [Row(_BAR + Content.assemble(*parts), 999, 0, "", "next" if siblings else "")]
        if message.text:
            rows += text_rows(Content(clean(message.text)), width, _BAR, _BAR)
        for attachment in message.attachments:
            line = Content.styled(attachment_line(attachment), "$text-secondary")
            rows += text_rows(line, width, _BAR, _BAR)
        return [*rows, Row(_BLANK)]

    def _answer(self, width: int, look: Look) -> list[Row]:
        message = self.message
        margin = Content(" " * MARGIN)
        rows: list[Row] = []
        if message.is_summary:
            rows.append(Row(Content.styled("  ┄┄ earlier turns, summarised ┄┄", MUTED), 999, 0, ""))
        if message.thinking or message.thinking_tokens:
            rows += self._thinking(width, look)
        rows += self.body.rows(width)
        if self.live:
            rows = _with_cursor(rows, margin)
        if note := self._ending(look):
            rows += [Row(_BLANK)] if message.text and message.status == "failed" else []
            for line, glue in wrap(note, width - MARGIN):
                rows.append(Row(margin + line, MARGIN, None, glue, "next" if self.num_siblings > 1 else ""))
        return [*rows, Row(_BLANK)]

    def _thinking(self, width: int, look: Look) -> list[Row]:
        message = self.message
        opened = look.show_thinking if self.expanded is None else self.expanded
        active = self.live and not message.text
        label = "thinking" if active else "thought"
        mark = "▾" if opened else "▸"
        hint = "F2 hides" if opened else "F2 shows"
        line = f"{mark} {label} · {grouped(message.thinking_tokens)} tok   ({hint})"
        rows = [Row(Content.styled(line, MUTED), 999, 0, "", "thinking")]
        if opened and message.thinking:
            bar = Content.styled("┆ ", MUTED)
            text = Content(clean(message.thinking.strip("\n"))).stylize(f"italic {MUTED}")
            rows += [Row(r.content, 2, r.end, r.glue) for r in text_rows(text, width, bar, bar)]
        return [*rows, Row(_BLANK)] if message.text or not self.live else rows

    def _ending(self, look: Look) -> Content | None:
        message, parts = self.message, []
        if self.live:
            return None
        ending = _ENDINGS.get(message.status, "")
        if message.status == "looping" and look.offers_wider:
            ending += _WIDER
        if ending:
            words = f"{ending}: {clean(message.note)}" if message.note else ending
            parts.append((words, "bold $text-error" if message.status == "failed" else "bold $text-warning"))
        usage = message.usage
        if usage is not None:
            figures = f"{grouped(usage.completion_tokens)} tok"
            if usage.decode_tokens_per_s is not None:
                figures += f" · {usage.decode_tokens_per_s:.1f} tok/s"
            parts.append((figures, MUTED))
        if siblings := self._siblings():
            parts.append((siblings, "bold"))
        if not parts:
            return None
        return Content.styled("  ·  ", MUTED).join([Content.styled(text, style) for text, style in parts])


def _with_cursor(rows: list[Row], margin: Content) -> list[Row]:
    cursor = Content.styled("▌", "$primary")
    if not rows or rows[-1].end is not None or rows[-1].action:
        return [*rows, Row(margin + cursor, 999, 0, "")]
    last = rows[-1]
    return [*rows[:-1], Row(last.content + cursor, last.start, len(last.content.plain), last.glue)]
