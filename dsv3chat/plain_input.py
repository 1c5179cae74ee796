"""The question of plain mode: -p and standard input, joined. Knows no model and writes no answer."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

from dsv3chat.file_text import NotTextError, decode

PATIENCE_SECONDS = 2.0
LIMIT_BYTES = 16 << 20  # at four bytes a token 4 million tokens: no context holds that
SIGNAL_SECONDS = 0.5  # a signal that comes just before a blocking call is served after this time at most
WAITING = "waiting for standard input to end; ctrl+c stops. If nothing comes from there: {}, or </dev/null at the end"


class InputError(Exception):
    """There is no usable question; the message says what to do."""


def read_stdin(descriptor: int, say: Callable[[str], None], patience: float = PATIENCE_SECONDS) -> str:
    r"""All of a descriptor as text, \n line ends. InputError when it is no text, and as `read_bytes`."""
    try:
        text, encoding = decode(read_bytes(descriptor, say, patience))
    except NotTextError as error:
        raise InputError(f"standard input {error}; give text, or --no-stdin") from error
    if encoding != "UTF-8":
        say(f"standard input is not UTF-8; it is read as {encoding}")
    return text


def read_bytes(
    descriptor: int,
    say: Callable[[str], None],
    patience: float = PATIENCE_SECONDS,
    otherwise: str = "--no-stdin",
) -> bytes:
    """All of a descriptor. After `patience` seconds without its end, says once what it waits for.

    `otherwise` is what a person can do instead, for the messages.
    No thread and no buffer of Python's own: a signal is served while it waits, and nothing is held at exit.
    InputError when it cannot be read, or is longer than any context (reading then ends: it may never).
    """
    data = bytearray()
    deadline: float | None = time.monotonic() + patience
    try:
        while True:
            left = SIGNAL_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            if select.select([descriptor], [], [], left)[0]:
                part = os.read(descriptor, 1 << 16)
                if not part:
                    break
                data += part
                if len(data) > LIMIT_BYTES:
                    raise InputError(
                        f"standard input holds more than {LIMIT_BYTES >> 20} MiB, the most that is read; "
                        f"give less, or {otherwise}"
                    )
            if deadline is not None and time.monotonic() >= deadline:
                say(WAITING.format(otherwise))
                deadline = None
    except OSError as error:
        raise InputError(
            f"standard input cannot be read: {error.strerror}; {otherwise} goes on without it"
        ) from error
    return bytes(data)


def question(prompt: str | None, stdin: str | None) -> str:
    """-p first, then standard input, a blank line between them; InputError when both are empty."""
    parts = [part for part in (prompt or "", (stdin or "").strip("\n")) if part.strip()]
    if not parts:
        where = "-p is empty" if prompt is not None else "there is no -p"
        raise InputError(
            f"there is no question: {where} and standard input holds no text; try dsv3chat -p 'What is MLA?'"
        )
    return "\n\n".join(parts)
