"""A finding's fingerprint: the same defect keeps it while code around it moves. Knows no message and no line number."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_DIGITS = 32  # of SHA-256's 64: 128 bits


def fingerprint(path: str, rule: str, lines: Sequence[str], line: int) -> str:
    """Hex, of path, rule, the code of line `line` (1-based) and how many lines above it have the same code.

    White space does not count. The occurrence is counted over the file's lines, not over findings, so that a review of a
    diff, with another threshold, or of another model gives the same defect the same fingerprint.
    """
    code = normalised(lines[line - 1])
    occurrence = sum(normalised(above) == code for above in lines[: line - 1])
    parts = "\0".join((path, rule, code, str(occurrence)))
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def normalised(line: str) -> str:
    """Code without regard to indentation and spacing."""
    return " ".join(line.split())
