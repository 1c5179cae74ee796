"""Rates over the last seconds, from what each step reports. Knows no scheduler and no thread."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Step:
    end: float
    seconds: float
    prefill_tokens: int
    decode_tokens: int


class Telemetry:
    """Remembers the steps of the last `window` seconds.

    decode tok/s = tokens of answers, sampled or forced by a grammar / seconds of the steps that held any; prefill tok/s
    likewise with the tokens of prompts. Both are None when no such step lies in the window.
    """

    def __init__(self, window: float = 5.0) -> None:
        self._window = window
        self._steps: deque[_Step] = deque()
        self.num_steps = 0
        self.last_seconds: float | None = None

    def record(self, seconds: float, prefill_tokens: int, decode_tokens: int) -> None:
        """One step has ended just now."""
        now = time.monotonic()
        self._steps.append(_Step(now, seconds, prefill_tokens, decode_tokens))
        self.num_steps += 1
        self.last_seconds = seconds
        while self._steps[0].end < now - self._window:
            self._steps.popleft()

    def rates(self) -> tuple[float | None, float | None]:
        """(decode tok/s, prefill tok/s) over the window. May be called from any thread: copying a deque is one step."""
        horizon = time.monotonic() - self._window
        recent = [s for s in tuple(self._steps) if s.end >= horizon]
        decode = [s for s in recent if s.decode_tokens]
        prefill = [s for s in recent if s.prefill_tokens]
        return (
            _rate(sum(s.decode_tokens for s in decode), sum(s.seconds for s in decode)),
            _rate(sum(s.prefill_tokens for s in prefill), sum(s.seconds for s in prefill)),
        )


def _rate(tokens: int, seconds: float) -> float | None:
    return tokens / seconds if tokens and seconds > 0 else None
