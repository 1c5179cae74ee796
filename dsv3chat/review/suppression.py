"""Comments that let a finding be: `# dsv3: ignore` and `# dsv3: ignore[security, off-by-one]`. Knows no reviewer.

On the line itself or alone on the line above; any comment sign (#, //, --, /* */, ;, %, <!-- -->). In brackets stand
categories or rules. In Python only real comments count, so that a string that holds one suppresses nothing.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dsv3chat.review.rules import RULES

_COMMENT = re.compile(r"(?:#|//|--|/\*|;|%|<!--)\s*dsv3:\s*ignore(?:\[(?P<names>[^\]]*)\]|(?![\w\[-]))")


@dataclass(frozen=True, slots=True)
class Suppression:
    """One comment. `names` are categories or rules; empty: everything."""

    line: int
    names: tuple[str, ...]
    alone: bool  # nothing but the comment is on its line: it speaks of the line below

    def covers(self, line: int, end_line: int, rule: str) -> bool:
        """Whether it speaks of a finding on lines [line, end_line] by `rule`."""
        if not (line <= self.line <= end_line or (self.alone and line == self.line + 1)):
            return False
        known = RULES.get(rule)
        category = known.category if known is not None else rule
        return not self.names or rule in self.names or category in self.names


def find_suppressions(lines: Sequence[str], language: str) -> tuple[Suppression, ...]:
    """Every suppressing comment of a file, in order."""
    if not any("dsv3:" in line for line in lines):
        return ()
    comments = _python_comments(lines) if language == "python" else None
    found = []
    for number, line in enumerate(lines, start=1):
        begin = 0
        if comments is not None:
            if number not in comments:
                continue
            begin = comments[number]
        if match := _COMMENT.search(line, begin):
            names = tuple(name.strip() for name in (match["names"] or "").split(",") if name.strip())
            found.append(Suppression(number, names, not line[: match.start()].strip()))
    return tuple(found)


def _python_comments(lines: Sequence[str]) -> dict[int, int] | None:
    """Line -> column of its comment; None where the file is not Python that can be read."""
    try:
        return {token.start[0]: token.start[1] for token in _tokens(lines) if token.type == tokenize.COMMENT}
    except (tokenize.TokenError, SyntaxError):
        return None


def _tokens(lines: Sequence[str]) -> Iterator[tokenize.TokenInfo]:
    return tokenize.generate_tokens(io.StringIO("".join(f"{line}\n" for line in lines)).readline)
