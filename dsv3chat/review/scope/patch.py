"""A unified diff as changed files and their hunks on the new side. Knows no git and no disk.

Read by counting the lines that each hunk announces, on bytes: a removed line that begins with "-- " is no header, a
carriage return after a header is no part of a name, and one file that is not understood does not hide the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from dsv3chat.review.scope.names import DEV_NULL, candidates, halves, readable, side, unquote

_HUNK = re.compile(rb"@@ -(\d{1,15})(?:,(\d{1,15}))? \+(\d{1,15})(?:,(\d{1,15}))? @@")
_COLOUR = re.compile(rb"\x1b\[[0-9;:]*[mK]")
_COLOURED = re.compile(rb"^(?:\x1b\[[0-9;:]*[mK])+(?:diff --|--- |@@ )", re.MULTILINE)
_INDEX = re.compile(rb"index [0-9a-f]+\.\.([0-9a-f]+)(?: (\d+))?$")
_BINARY = re.compile(rb"Binary files (.{1,5000}) and (.{1,5000}) differ$")
_SUBMODULE, _SYMLINK = b"160000", b"120000"
_EMPTY_BLOBS = (  # under SHA-1, under SHA-256
    b"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
    b"473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813",
)
_DAMAGED = "its diff is damaged"


@dataclass(frozen=True, slots=True)
class PatchHunk:
    """Lines [start, start + len(lines)) of the new side, as bytes without line ends; `removed` are lines of the old."""

    start: int
    lines: tuple[bytes, ...]
    changed: frozenset[int]
    removed: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class FileDiff:
    """One changed file. `paths`: what it may be called, the likeliest first. `reason`: why it has nothing to review."""

    paths: tuple[str, ...]
    reason: str = ""
    blob: str = ""  # id of the new side's contents, where the diff tells it
    hunks: tuple[PatchHunk, ...] = ()

    @property
    def path(self) -> str:
        return self.paths[0]

    @property
    def is_damaged(self) -> bool:
        """Whether there was something to review that cannot be made out."""
        return self.reason.startswith(_DAMAGED)


@dataclass(slots=True)
class _Section:
    """What the headers of one file have said so far."""

    header: tuple[bytes, bytes] | None = None
    old: bytes = b""
    new: bytes = b""
    moved_to: bytes = b""
    mode: bytes = b""
    blob: bytes = b""
    deleted: bool = False
    binary: bool = False
    mode_changed: bool = False
    wrong: str = ""
    hunks: list[PatchHunk] = field(default_factory=list)

    def file(self) -> FileDiff | None:
        names = candidates(self.header, self.old, self.new, self.moved_to)
        if not names:
            return None
        return FileDiff(
            tuple(map(readable, names)), self._reason(), self.blob.decode("ascii"), tuple(self.hunks)
        )

    def _reason(self) -> str:
        if self.wrong:
            return self.wrong
        if self.mode == _SUBMODULE:
            return "a submodule"
        if self.deleted or self.new == DEV_NULL:
            return "deleted"
        if self.mode == _SYMLINK:
            return "a symbolic link"
        if self.binary:
            return "binary, or marked so for git"
        if not self.hunks and self.blob and not any(blob.startswith(self.blob) for blob in _EMPTY_BLOBS):
            return f"{_DAMAGED}: it ends before the first hunk"
        if not self.hunks:
            return (
                "renamed without a change"
                if self.moved_to
                else "only its mode changed"
                if self.mode_changed
                else "empty"
            )
        return ""


def parse(data: bytes) -> list[FileDiff]:
    """The changed files in the order of the diff; text around them is passed over. [] where there is none."""
    if _COLOURED.search(data):  # not only where nothing is found: git leaves "Binary files ... differ" plain
        data = _COLOUR.sub(b"", data)
    return list(_Parser(data).files())


class _Parser:
    def __init__(self, data: bytes) -> None:
        self._lines = data.split(b"\n")
        self._next = 0  # index of the line to read
        self._section: _Section | None = None

    def files(self) -> Iterator[FileDiff]:
        while self._next < len(self._lines):
            line = self._lines[self._next].removesuffix(b"\r")
            self._next += 1
            if (begun := self._begins(line)) is not None:
                yield from self._finished()
                self._section = begun
            elif self._section is not None:
                if line.startswith(b"@@"):
                    self._hunk(line)
                elif not self._section.hunks:
                    _extended_header(self._section, line)
        yield from self._finished()

    def _finished(self) -> Iterator[FileDiff]:
        if self._section is not None and (file := self._section.file()) is not None:
            yield file
        self._section = None

    def _begins(self, line: bytes) -> _Section | None:
        """The section that this line opens, None where it opens none."""
        if line.startswith(b"diff --git "):
            return _Section(header=halves(line[11:]))
        for start in (b"diff --cc ", b"diff --combined "):
            if line.startswith(start):
                return _Section(
                    moved_to=unquote(line[len(start) :]), wrong="a merge diff (@@@), which has two old sides"
                )
        if line.startswith(b"* Unmerged path "):
            return _Section(moved_to=unquote(line[16:]), wrong="unmerged: its conflict is not solved")
        if line.startswith(b"--- ") and self._peek().startswith(b"+++ "):
            within_header = self._section is not None and self._section.header is not None
            if (
                within_header
                and self._section is not None
                and not self._section.hunks
                and not self._section.new
            ):
                return None  # restates the file of `diff --git`
            if self._section is not None and self._section.wrong and not self._section.new:
                return None  # restates the file of `diff --cc`
            new = side(self._peek().removesuffix(b"\r")[4:])
            self._next += 1
            return _Section(old=side(line[4:]), new=new)
        if self._section is None and (both := _BINARY.match(line)):
            return _Section(old=unquote(both[1]), new=unquote(both[2]), binary=True)
        return None

    def _peek(self) -> bytes:
        return self._lines[self._next] if self._next < len(self._lines) else b""

    def _hunk(self, header: bytes) -> None:
        """Read as many lines as the hunk announces; where it ends early, the file is not understood."""
        section = self._section
        if section is None or section.wrong:
            return
        announced = _HUNK.match(header)
        if announced is None:
            section.wrong = (
                "a merge diff (@@@), which has two old sides"
                if header.startswith(b"@@@")
                else f"{_DAMAGED}: line {self._next} is no hunk header"
            )
            return
        first = self._next
        old_left, new_left = (int(announced[i]) if announced[i] is not None else 1 for i in (2, 4))
        start = int(announced[3])
        lines: list[bytes] = []
        changed: list[int] = []
        removed: list[bytes] = []
        while old_left > 0 or new_left > 0:
            if self._next >= len(self._lines):
                break
            line = self._lines[self._next]
            kind, text = line[:1], line[1:].removesuffix(b"\r")
            if kind in (b" ", b"", b"\r") and not (kind == b"" and self._next == len(self._lines) - 1):
                old_left, new_left = old_left - 1, new_left - 1
                lines.append(text)
            elif kind == b"+":
                new_left -= 1
                changed.append(start + len(lines))
                lines.append(text)
            elif kind == b"-":
                old_left -= 1
                removed.append(text)
            elif kind != b"\\":
                break
            self._next += 1
        is_off = old_left != 0 or new_left != 0
        swallowed = (is_off or len(lines) > len(changed)) and self._swallowed_header(first)
        if swallowed:
            self._next -= 2
        if swallowed or is_off or (lines and start == 0):
            section.wrong = f"{_DAMAGED}: the hunk in line {first} is not what its header says"
            return
        section.hunks.append(PatchHunk(start, tuple(lines), frozenset(changed), tuple(removed)))

    def _swallowed_header(self, first: int) -> bool:
        """Whether the last two lines, read as a removed and an added one, are the next file's names before its first hunk.

        A whole hunk can end so only without context: with it, lines that did not change follow, unless it is the file's last.
        """
        at = self._next
        return (
            at >= first + 2
            and self._lines[at - 2].startswith(b"--- ")
            and self._lines[at - 1].startswith(b"+++ ")
            and self._peek().startswith(b"@@ ")
        )


def _extended_header(section: _Section, line: bytes) -> None:
    """One line between `diff --git` and the first hunk."""
    word, _, rest = line.partition(b" ")
    if word == b"---":
        section.old = side(rest)
    elif word == b"+++":
        section.new = side(rest)
    elif line.startswith((b"rename to ", b"copy to ")):
        section.moved_to = unquote(line.partition(b" to ")[2])
    elif line.startswith(b"deleted file mode "):
        section.deleted, section.mode = True, line[18:]
    elif line.startswith(b"new file mode "):
        section.mode = line[14:]
    elif line.startswith(b"new mode "):
        section.mode, section.mode_changed = line[9:], True
    elif (index := _INDEX.match(line)) is not None:
        section.blob = index[1]
        section.mode = index[2] or section.mode
    elif line.startswith(b"GIT binary patch") or _BINARY.match(line):
        section.binary = True
