"""The words of the status line and the queue line. Knows what is going on, not where it is shown."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from dsv3chat.sanitize import clean_line
from dsv3chat.screens.answering import Answering
from dsv3chat.screens.session import DraftSize
from dsv3chat.widgets.message import grouped
from dsv3chat.widgets.rows import MUTED


def status_line(
    answering: Answering, draft: DraftSize | None, going_on_from: bool, width: int
) -> tuple[Content, Content]:
    """Left: what runs and which key ends it. Right: what the draft would cost, and the context.

    What does not fit into `width` cells gives way: the context's figures first, then the context.
    """
    if answering.running:
        key = "" if answering.stopping else " · esc stop"
        left = Content.assemble((answering.status, "bold"), (key, MUTED))
    elif going_on_from:
        left = Content.assemble(
            ("✎ going on from an earlier message", "bold $text-warning"), (" · esc back", MUTED)
        )
    else:
        left = Content.styled(answering.status, MUTED)
    sent = _draft(answering, draft)
    for context in (answering.context_line(), answering.context_line(short=True), Content("")):
        right = Content("   ").join([part for part in (sent, context) if part])
        if left.cell_length + right.cell_length + 3 <= width:
            break
    return left, right


def _draft(answering: Answering, draft: DraftSize | None) -> Content:
    if draft is None:
        return Content("")
    session = answering.session
    attached = f" + {grouped(draft.attached_tokens)} attached" if draft.attached_tokens else ""
    after = session.used_tokens + draft.text_tokens + draft.attached_tokens
    share = f" → {round(100 * after / session.context_tokens)}% of context" if session.context_tokens else ""
    return Content.styled(f"{grouped(draft.text_tokens)} tok{attached}{share}", MUTED)


def queue_line(queue: Sequence[str]) -> tuple[Content, Content]:
    """The prompt that esc would drop, and how many wait."""
    count = f"{len(queue)} queued" if len(queue) > 1 else "queued"
    return Content(f"◌ {count}: {clean_line(queue[-1])}"), Content.styled("esc drops it", MUTED)
