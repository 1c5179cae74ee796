"""What an empty chat says: the model, its size, where to begin. Knows the model's facts only."""

from __future__ import annotations

from textual.content import Content

from dsv3chat.nano import ABOUT, NAME
from dsv3chat.sanitize import clean_line
from dsv3chat.widgets.message import grouped
from dsv3chat.widgets.rows import MUTED, wrap
from engine import ModelInfo

_WIDTH = 72
_HINTS = (
    ("@path", "attach a file, lines of it or a folder"),
    ("/", "commands: sessions, export, compact, theme"),
    ("alt+↑", "pick a message: copy, edit, answer again, branch"),
    ("F1", "every key"),
)


def welcome(info: ModelInfo) -> list[Content]:
    """The lines of an empty transcript."""
    facts = (
        [f"{info.num_parameters / 1e6:,.0f} million parameters".replace(",", " ")]
        if info.num_parameters
        else []
    )
    facts += [f"{info.num_layers} layers"] if info.num_layers else []
    facts.append(f"context {grouped(info.context_tokens)} tokens")
    lines = [
        Content.styled(f"  {clean_line(info.name)}", "bold $text-primary"),
        Content.styled("  " + " · ".join(facts), MUTED),
        Content(""),
    ]
    if info.name == NAME:
        lines += [Content("  ") + line for line, _ in wrap(Content(ABOUT), _WIDTH)] + [Content("")]
    lines += [Content.styled(f"  {clean_line(note)}", MUTED) for note in info.notes]
    lines += [Content("")] if info.notes else []
    lines += [Content.assemble((f"  {key:<8}", "bold"), (text, MUTED)) for key, text in _HINTS]
    return lines
