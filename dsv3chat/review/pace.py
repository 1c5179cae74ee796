"""How fast a review goes and how long it still takes. Knows no model; times come from a clock that it is given.

Work is counted in prompt tokens, and a chunk is done when its answer is. While one runs, what is prefilled of it counts
PREFILL_SHARE, since the answer is still to come.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PREFILL_SHARE = 0.6  # of a chunk's time on nano and two cores: 700 tokens at 200/s, 30 at 12/s
_MIN_TOKENS = 64  # before so many are through, the last review's rate says more


class Pace:
    """The meter of one review; any thread may tell and ask."""

    def __init__(
        self, total_tokens: int, known_rate: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`known_rate`: tokens per second of an earlier review with the same model and profile."""
        self._total = total_tokens
        self._known_rate = known_rate
        self._clock = clock
        self._lock = threading.Lock()
        self._began: float | None = None
        self._done = 0
        self._running: dict[int, int] = {}  # task -> prefilled tokens

    def begin(self) -> None:
        """The model has its first question: time counts from here, without the loading. Later calls change nothing."""
        with self._lock:
            if self._began is None:
                self._began = self._clock()

    def prefilled(self, task: int, tokens: int) -> None:
        """`tokens` of the task's prompts are in the model, all passes together."""
        with self._lock:
            self._running[task] = tokens

    def done(self, task: int, tokens: int) -> None:
        """The task of so many tokens has its answers, or has failed."""
        with self._lock:
            self._running.pop(task, None)
            self._done += tokens

    def rate(self) -> float | None:
        """Prompt tokens per second since the beginning, answers included; None before anything is known."""
        with self._lock:
            return self._rate()

    def seconds_left(self) -> float | None:
        """None before anything is known."""
        with self._lock:
            progress = self._progress()
            rate = self._rate() if progress >= _MIN_TOKENS else self._known_rate
            if self._total <= self._done:
                return 0.0
            return None if rate is None else max(0.0, self._total - progress) / rate

    def _progress(self) -> float:
        return self._done + PREFILL_SHARE * sum(self._running.values())

    def _rate(self) -> float | None:
        if self._began is None:
            return None
        seconds, progress = self._clock() - self._began, self._progress()
        return progress / seconds if seconds > 0 and progress > 0 else None
