"""SIGINT, SIGTERM and SIGHUP in plain mode: the first ends the work in order, the second the process. Knows no model."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ONE_WISH_SECONDS = 0.3  # timeout(1) signals the process and then its group: that is one wish to end, not two


class Interrupts:
    """While entered on the main thread, a signal is remembered in `number` and calls what `stop` was set to.

    A second signal before `clear`, more than a moment later, ends the process at once: no work can make it unstoppable. With `raising` set, a
    signal raises KeyboardInterrupt out of a blocking read instead.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.stop: Callable[[], None] = lambda: None
        self.raising = False
        self._first_at = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            if time.monotonic() - self._first_at < _ONE_WISH_SECONDS:
                return
            with suppress(OSError):
                os.write(2, b"\n")
            os._exit(128 + number)
        self._first_at = time.monotonic()  # before `number`: the next signal may come between these lines
        self.number = number
        self.stop()
        if self.raising:
            raise KeyboardInterrupt

    def clear(self) -> None:
        """Forget the signal: the chat goes on."""
        self.number = None

    @property
    def exit_code(self) -> int | None:
        """128 + the signal's number, None when none came."""
        return None if self.number is None else 128 + self.number
