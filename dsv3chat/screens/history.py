"""Searching what was asked before. Knows no store; it is given the texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.content import Content

from dsv3chat.sanitize import clean_line
from dsv3chat.screens.picker import Picker

MAX_LINES = 200


class HistoryScreen(Picker):
    """Dismisses with the place of the chosen text in the history, as a number in a string."""

    TITLE_TEXT: ClassVar[str] = "History"
    EMPTY_TEXT: ClassVar[str] = "nothing like that was asked yet"

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__()
        self._texts = texts

    def lines(self, query: str) -> list[tuple[str, Content]]:
        """Texts that hold every word of the query, the latest first."""
        words = query.lower().split()
        found: list[tuple[str, Content]] = []
        for place in range(len(self._texts) - 1, -1, -1):
            text = self._texts[place]
            if all(word in text.lower() for word in words):
                found.append((str(place), Content(clean_line(text[:400])).truncate(92, ellipsis=True)))
                if len(found) == MAX_LINES:
                    break
        return found
