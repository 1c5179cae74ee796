"""Stop strings in a stream of text, wherever the chunks are cut. Knows no tokens.

Of several stop strings the one that is complete first ends the text; of those complete at the same character, the one
that began first. The result is therefore the same for every way of cutting the text into chunks.
"""

from __future__ import annotations

from engine.errors import RequestError


class StopFinder:
    """Passes text on up to the first stop string; holds back only what may still become one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        if "" in stops:
            raise RequestError(
                "a stop string is empty and would stop before the first character; leave it out"
            )
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self._stopped = False

    def push(self, text: str) -> tuple[str, bool]:
        """(text that is certain now, whether a stop string was met). After a stop nothing more is given out."""
        if self._stopped:
            return "", True
        text = self._held + text
        found = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if found:
            _, start = min(found)
            self._held = ""
            self._stopped = True
            return text[:start], True
        cut = len(text) - self._possible_prefix(text)
        self._held = text[cut:]
        return text[:cut], False

    def flush(self) -> str:
        """The end of the text: what was held back was no stop string."""
        held, self._held = self._held, ""
        return held

    def _possible_prefix(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            tail = text[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0
