"""The changed files of a diff as source files with hunks. Knows no git: the new side's bytes are handed in.

Where the bytes are not at hand, or are not those that the diff was made of, the hunks alone are reviewed: their line
numbers stay true, and the lines between them stay unknown.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from itertools import accumulate

from dsv3chat.review.scope.languages import language_of
from dsv3chat.review.scope.patch import FileDiff, PatchHunk
from dsv3chat.review.scope.reading import SkippedError, source_file
from dsv3chat.review.values import Hunk, SourceFile

_MAX_UNKNOWN_LINES = 1_000_000  # a hunk alone that claims to stand below these is not believed


def changed_file(diff: FileDiff, path: str, data: bytes | None, *, generated_too: bool = False) -> SourceFile:
    """The file with its hunks; `data` is the new side's contents, None where only the hunks are known.

    Raises SkippedError.
    """
    if data is None or not matches(diff.hunks, data):
        return _hunks_alone(diff, path)
    file = source_file(path, data, generated_too=generated_too)
    hunks = tuple(_on_lines(hunk, data, len(file.lines)) for hunk in diff.hunks)
    return _with_hunks(file, hunks)


def new_file(file: SourceFile) -> SourceFile:
    """A file that git does not know yet: every line of it is new."""
    every = frozenset(range(1, len(file.lines) + 1))
    return _with_hunks(file, (Hunk(1, len(file.lines), every),))


def joined(first: SourceFile, second: SourceFile) -> SourceFile | None:
    """One file that a diff names twice, None where its parts are not of the same contents."""
    if first.digest != second.digest or first.partial or second.partial:
        return None
    hunks = sorted({*first.hunks, *second.hunks}, key=lambda hunk: (hunk.start, hunk.end))
    return _with_hunks(first, tuple(hunks))


def matches(hunks: Sequence[PatchHunk], data: bytes) -> bool:
    """Whether the new side of every hunk stands in `data` where it says."""
    lines = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return all(
        hunk.start <= len(lines)
        and tuple(lines[hunk.start - 1 : hunk.start - 1 + len(hunk.lines)]) == hunk.lines
        for hunk in hunks
        if hunk.start > 0  # 0: nothing of the file is left
    )


def _with_hunks(file: SourceFile, hunks: tuple[Hunk, ...]) -> SourceFile:
    changed = frozenset[int]().union(*(hunk.changed for hunk in hunks))
    return dataclasses.replace(file, hunks=hunks, changed=changed)


def _on_lines(hunk: PatchHunk, data: bytes, num_lines: int) -> Hunk:
    """The hunk in lines as editors count them: to git a lone carriage return ends no line."""
    first, last = max(1, hunk.start), hunk.start + len(hunk.lines) - 1
    start, end, changed = first, max(first, last), hunk.changed
    if data.count(b"\r") != data.count(b"\r\n"):
        parts = (line.removesuffix(b"\r").count(b"\r") + 1 for line in data.split(b"\n"))
        ends = list(accumulate(parts, initial=0))  # [n]: the editor's last line of git's line n
        start, end = ends[start - 1] + 1, ends[end]
        changed = frozenset(m for n in changed for m in range(ends[n - 1] + 1, ends[n] + 1))
    # a place of deletion may lie below the last line
    return Hunk(min(start, num_lines), min(end, num_lines), changed, tuple(map(_text, hunk.removed)))


def _hunks_alone(diff: FileDiff, path: str) -> SourceFile:
    known = [hunk for hunk in diff.hunks if any(line.strip() for line in hunk.lines)]
    if not known:
        raise SkippedError("only deletes, and the file is not at hand to show what is around it")
    num_lines = max(hunk.start + len(hunk.lines) - 1 for hunk in known)
    if num_lines > _MAX_UNKNOWN_LINES:
        raise SkippedError(f"a hunk in line {num_lines:,}, and the file is not at hand")
    if any(b"\0" in line for hunk in known for line in hunk.lines):
        raise SkippedError("binary: a zero byte in its diff")
    lines, digest = [""] * num_lines, hashlib.sha256()
    for hunk in known:
        lines[hunk.start - 1 : hunk.start - 1 + len(hunk.lines)] = map(_text, hunk.lines)
        digest.update(b"%d\n%s\n" % (hunk.start, b"\n".join(hunk.lines)))
    hunks = tuple(
        Hunk(h.start, h.start + len(h.lines) - 1, h.changed, tuple(map(_text, h.removed))) for h in known
    )
    alone = SourceFile(path, language_of(path, lines[0]), tuple(lines), digest.hexdigest(), partial=True)
    return _with_hunks(alone, hunks)


def _text(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")
