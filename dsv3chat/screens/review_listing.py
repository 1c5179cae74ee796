"""Which findings are listed, and in which order. Knows no widget."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from dsv3chat.review.values import Severity
from dsv3chat.screens.review_state import Item

Order: TypeAlias = Literal["severity", "place", "confidence", "time"]
ORDERS: tuple[Order, ...] = ("severity", "place", "confidence", "time")
_KEYS: dict[Order, Callable[[Item], Any]] = {
    "severity": lambda i: (-i.finding.severity, -i.finding.confidence, i.finding.path, i.finding.line),
    "place": lambda i: (i.finding.path, i.finding.line, i.finding.rule),
    "confidence": lambda i: (-i.finding.confidence, i.finding.path, i.finding.line),
    "time": lambda i: i.number,
}
_SEVERITIES = {name: s for s in Severity for name in (s.label, s.label[:4], s.label[:3])}


@dataclass(frozen=True, slots=True)
class Query:
    """Words that a finding must have, all of them, in any case.

    `high` and `sev:high` mean high and above, `rule:sql` and `path:src/` look in one place, any other word looks in path,
    rule, title and message.
    """

    words: tuple[tuple[str, str], ...] = ()  # (place or "", word)
    at_least: Severity = Severity.LOW

    @classmethod
    def parse(cls, text: str) -> Query:
        words: list[tuple[str, str]] = []
        at_least = Severity.LOW
        for word in text.lower().split():
            place, colon, rest = word.partition(":")
            severity = _SEVERITIES.get(rest if colon and place in ("sev", "severity") else word)
            if severity is not None:
                at_least = max(at_least, severity)
            elif colon and place in ("sev", "severity"):
                continue  # being typed
            elif colon and place in ("rule", "path"):
                words.append((place, rest))
            else:
                words.append(("", word))
        return cls(tuple(words), at_least)

    def matches(self, item: Item) -> bool:
        """Whether the finding has all that is asked for."""
        finding = item.finding
        if finding.severity < self.at_least:
            return False
        for place, word in self.words:
            if place:
                text = finding.rule if place == "rule" else finding.path
            else:
                text = "\n".join((finding.path, finding.rule, finding.title, finding.message))
            if word not in text.lower():
                return False
        return True


def listed(items: Iterable[Item], query: Query, order: Order, show_hidden: bool) -> list[Item]:
    """The findings to show, in order. A finding that the person has just put aside stays in sight."""
    shown = [item for item in items if (show_hidden or item.finding.state == "new") and query.matches(item)]
    return sorted(shown, key=_KEYS[order])
