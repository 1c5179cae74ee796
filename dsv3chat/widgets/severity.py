"""How severities and the states of findings and files look: a word or a sign each, a colour beside it. Knows no widget."""

from __future__ import annotations

from textual.content import Content

from dsv3chat.review.values import Severity
from dsv3chat.widgets.rows import MUTED

SHORT = {Severity.CRITICAL: "CRIT", Severity.HIGH: "HIGH", Severity.MEDIUM: "MED", Severity.LOW: "LOW"}
STYLES = {
    Severity.CRITICAL: "bold reverse $text-error",
    Severity.HIGH: "bold $text-error",
    Severity.MEDIUM: "bold $text-warning",
    Severity.LOW: "$text-primary",
}
FILE_SIGNS = {
    "queued": "○",
    "running": "◌",
    "clean": "✓",
    "findings": "●",
    "failed": "✗",
    "stopped": "■",
    "skipped": "–",
}
FILE_STYLES = {
    "queued": MUTED,
    "running": "$text-primary",
    "clean": "$text-success",
    "findings": "$text-warning",
    "failed": "bold $text-error",
    "stopped": "$text-warning",
    "skipped": MUTED,
}


def severity_label(severity: Severity) -> Content:
    """`HIGH`, four cells wide."""
    return Content.styled(SHORT[severity], STYLES[severity]) + " " * (4 - len(SHORT[severity]))
