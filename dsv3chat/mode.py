"""Full screen or plain lines: the choice and its reason. Knows no screen and opens none."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any


@dataclass(frozen=True, slots=True)
class Mode:
    """`reason` is words for a person."""

    plain: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Terminals:
    """Which of the three standard streams are terminals."""

    stdin: bool
    stdout: bool
    stderr: bool


def is_terminal(stream: IO[Any] | None) -> bool:
    """False for a stream that is closed or absent too."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def terminals() -> Terminals:
    """As of now."""
    return Terminals(is_terminal(sys.stdin), is_terminal(sys.stdout), is_terminal(sys.stderr))


def choose_mode(
    prompt: bool = False,
    machine: bool = False,
    found: Terminals | None = None,
    environ: Mapping[str, str] | None = None,
) -> Mode:
    """`prompt`: -p was given; `machine`: --json or --jsonl. The interface draws on stderr, so all three must be terminals."""
    found = terminals() if found is None else found
    environ = os.environ if environ is None else environ
    if machine:
        return Mode(True, "--json or --jsonl asks for data")
    if prompt:
        return Mode(True, "-p gives the question")
    for name in ("stdin", "stdout", "stderr"):
        if not getattr(found, name):
            return Mode(True, f"{name} is no terminal")
    why_lines = _why_lines(environ)
    return Mode(True, why_lines) if why_lines else Mode(False, "stdin, stdout and stderr are terminals")


def can_redraw(environ: Mapping[str, str] | None = None) -> bool:
    """Whether a line on a terminal may be drawn over: not for a screen reader, nor where the cursor cannot move."""
    return not _why_lines(os.environ if environ is None else environ)


def _why_lines(environ: Mapping[str, str]) -> str:
    """Why the environment wants line after line, "" when it does not."""
    if environ.get("ACCESSIBLE", "") not in ("", "0"):
        return "ACCESSIBLE asks for plain lines"
    if environ.get("TERM", "") in ("", "dumb", "unknown"):
        return f"TERM={environ.get('TERM', '')} cannot move the cursor"
    return ""
