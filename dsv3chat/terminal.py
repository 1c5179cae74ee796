"""Leaves the terminal as it was, however the program dies. Knows the app only as something that runs and can be ended.

Mouse reporting, bracketed paste, focus events, the keyboard protocol and the alternate screen are off and the cursor is
on afterwards; every step is tried even if one before it failed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

RESETS = (
    "\x1b[?2004l",  # bracketed paste
    "\x1b[?7h",  # line wrap
    "\x1b[?2048l",  # in-band resize
    "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1016l",  # mouse
    "\x1b[?1004l",  # focus events
    "\x1b[<u",  # keyboard protocol; before the alternate screen is left
    "\x1b[?2026l",  # synchronised output
    "\x1b[?1049l",  # alternate screen
    "\x1b[?25h",  # cursor
    "\x1b[0m",
)
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_GRACE_S = 3.0


def saved_attributes(descriptor: int) -> list[Any] | None:
    """The line discipline's state, None when this is no terminal."""
    try:
        return termios.tcgetattr(descriptor)
    except (termios.error, OSError, ValueError):
        return None


def restore(output: int, attributes: list[Any] | None, input_: int = 0) -> None:
    """Write every reset and put the line discipline back. Never raises."""
    for sequence in RESETS:
        with contextlib.suppress(OSError):
            os.write(output, sequence.encode())
    if attributes is not None:
        with contextlib.suppress(termios.error, OSError):
            termios.tcsetattr(input_, termios.TCSANOW, attributes)


@contextlib.contextmanager
def guarded(end: Callable[[int], None], left_cleanly: Callable[[], bool]) -> Iterator[None]:
    """Run the body with SIGTERM, SIGHUP and SIGINT turned into `end(128 + number)`.

    Where the body does not end within three seconds of a signal, or ends without leaving the terminal in order
    (`left_cleanly`), the terminal is put back from here; after a signal the process then ends at once.
    """
    output = sys.__stderr__.fileno() if sys.__stderr__ is not None else 2
    attributes = saved_attributes(0)
    done = threading.Event()

    def last_resort(code: int) -> None:
        if not done.wait(_GRACE_S):
            restore(output, attributes)
            os._exit(code)

    def on_signal(number: int, frame: FrameType | None) -> None:
        code = 128 + number
        threading.Thread(target=last_resort, args=(code,), name="last-resort", daemon=True).start()
        end(code)

    previous = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        done.set()
        if not left_cleanly():
            restore(output, attributes)
        elif attributes is not None:
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(0, termios.TCSANOW, attributes)
        for number, handler in previous.items():
            signal.signal(number, handler)
