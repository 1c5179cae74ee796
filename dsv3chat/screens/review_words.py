"""A finding in words: for the clipboard, and as a question for the chat. Knows no widget.

What model and files say stands in a fence, where an @ names no file and nothing is taken for a command.
"""

from __future__ import annotations

import re
from pathlib import Path

from dsv3chat.review.values import Finding, SourceFile

_AROUND = 12  # lines before and after the finding
_BACKTICKS = re.compile(r"`{3,}")


def place(finding: Finding) -> str:
    """`src/kv.py:120-121`."""
    end = f"-{finding.end_line}" if finding.end_line > finding.line else ""
    return f"{finding.path}:{finding.line}{end}"


def as_text(finding: Finding) -> str:
    """The whole finding as text."""
    head = f"{place(finding)} {finding.severity.label} {finding.rule} ({finding.confidence:.2f})"
    parts = [head, finding.title]
    if finding.message.strip() and finding.message.strip() != finding.title.strip():
        parts.append(finding.message.strip())
    if finding.suggestion:
        parts += ["suggested change:", finding.suggestion]
    return "\n".join(part for part in parts if part)


def question(finding: Finding, root: Path, source: SourceFile | None, chat_root: Path) -> str:
    """A draft for the chat's input. The code is attached by its name where the chat may read it, else it is quoted."""
    num = len(source.lines) if source is not None else finding.end_line
    first = max(1, finding.line - _AROUND)
    last = max(finding.line, min(num, max(finding.line, finding.end_line) + _AROUND))
    label = _attached(root / finding.path, chat_root, first, last)
    if label is None:
        code = source.lines[first - 1 : last] if source is not None else finding.line_text.split("\n")
        numbered = "\n".join(f"{number}| {line}" for number, line in enumerate(code, first))
        about = f"Is this review finding right, and what is the best change?\n\n{fenced(numbered)}"
    else:
        about = f"Is this review finding right, and what is the best change? {label}"
    return f"{about}\n\n{fenced(as_text(finding))}\n"


def _attached(path: Path, chat_root: Path, first: int, last: int) -> str | None:
    """`@path:10-30` for a file below the chat's folder whose name can be written so; None for any other."""
    try:
        name = path.resolve().relative_to(chat_root.resolve()).as_posix()
        num = path.read_bytes().count(b"\n") + 1
    except (OSError, RuntimeError, ValueError):
        return None
    if any(not c.isprintable() or c == '"' for c in name) or num < last:
        return None
    lines = f"{first}-{last}"
    return f'@"{name}":{lines}' if re.search(r"[\s`]", name) or name.startswith("~") else f"@{name}:{lines}"


def fenced(text: str) -> str:
    """`text` in a fence that nothing in it closes."""
    longest = max(map(len, _BACKTICKS.findall(text)), default=2)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
