"""A suggestion put into its file, and taken out again. Knows no finding's state and no screen.

A change holds on to text, not to line numbers alone: it is made only where the lines are still those that were reviewed,
and undone only where they are still those that it wrote. Mode, encoding, byte order mark and line ends stay.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dsv3chat.file_text import NotTextError, decode
from dsv3chat.review.values import Finding

_LINES = re.compile(r"([^\r\n]*)(\r\n|\r|\n|\Z)")
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_CODECS = {"UTF-8": "utf-8", "Latin-1": "latin-1", "Windows-1252": "cp1252"}


class ApplyError(Exception):
    """The file is as it was; the message says why."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Lines [line, line + len(old)) of the reviewed file that became `new`; line ends belong to the lines."""

    path: str
    line: int  # as reviewed, before any edit
    old: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def shift(self) -> int:
        """Lines that what follows moved down by."""
        return len(self.new) - len(self.old)


def apply_suggestion(
    root: Path, finding: Finding, reviewed: Sequence[str], edits: Sequence[Edit] = ()
) -> Edit:
    """Put the finding's suggestion in place of lines [line, end_line]; `reviewed` are these lines as they were reviewed.

    `edits` are those that were made to the file since, and stand. Raises ApplyError.
    """
    if not finding.suggestion:
        raise ApplyError("there is no suggestion to apply")
    path = _inside(root, finding.path)
    text = _Text.read(path)
    start = finding.line - 1 + _moved(finding.path, finding.line, edits)
    old = text.lines[start : start + len(reviewed)] if start >= 0 else []
    if not reviewed or [_bare(line) for line in old] != list(reviewed):
        raise ApplyError(f"{finding.path}:{finding.line} is no longer what was reviewed; nothing is changed")
    end = next((ending for line in (*old, *text.lines) if (ending := line[len(_bare(line)) :])), "\n")
    new = [line + end for line in re.split(r"\r\n|\r|\n", finding.suggestion.removesuffix("\n"))]
    new[-1] = _bare(new[-1]) + old[-1][len(_bare(old[-1])) :]
    if new == old:
        raise ApplyError(f"{finding.path}:{finding.line}: the suggestion is what stands there already")
    text.lines[start : start + len(old)] = new
    text.write(path)
    return Edit(finding.path, finding.line, tuple(old), tuple(new))


def undo(root: Path, edit: Edit, edits: Sequence[Edit] = ()) -> None:
    """Put the old lines back; `edits` are the others that stand. Raises ApplyError."""
    path = _inside(root, edit.path)
    text = _Text.read(path)
    start = edit.line - 1 + _moved(edit.path, edit.line, edits)
    if start < 0 or tuple(text.lines[start : start + len(edit.new)]) != edit.new:
        raise ApplyError(f"{edit.path}:{edit.line} was changed since; nothing is undone")
    text.lines[start : start + len(edit.new)] = edit.old
    text.write(path)


def _moved(path: str, line: int, edits: Sequence[Edit]) -> int:
    """How far down the edits above it moved a line."""
    return sum(edit.shift for edit in edits if edit.path == path and edit.line < line)


def _bare(line: str) -> str:
    return line.rstrip("\r\n")


def _inside(root: Path, name: str) -> Path:
    """The real file, links followed; it must lie below the reviewed folder."""
    try:
        real_root = root.resolve()
        path = (real_root / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ApplyError(f"{name}: cannot be reached: {error}") from error
    if not path.is_relative_to(real_root):
        raise ApplyError(f"{name}: lies outside {real_root}; nothing is changed")
    if not os.path.isfile(path):
        raise ApplyError(f"{name}: there is no such file any more")
    return path


@dataclass(slots=True)
class _Text:
    """A file's lines with their ends, and what turns them into its bytes again."""

    mark: bytes
    codec: str
    lines: list[str]

    @classmethod
    def read(cls, path: Path) -> _Text:
        try:
            data = path.read_bytes()
            mark, codec = next(((m, c) for m, c in _MARKS if data.startswith(m)), (b"", ""))
            codec = codec or _CODECS[decode(data)[1]]
            text = data[len(mark) :].decode(codec)
        except OSError as error:
            raise ApplyError(f"{path.name}: cannot be read: {error.strerror}") from error
        except (NotTextError, UnicodeDecodeError) as error:
            raise ApplyError(f"{path.name}: {error}") from error
        return cls(mark, codec, [m[0] for m in _LINES.finditer(text) if m[0]])

    def write(self, path: Path) -> None:
        """Whole or not at all, with the mode that the file had."""
        try:
            data = self.mark + "".join(self.lines).encode(self.codec)
        except UnicodeEncodeError as error:
            what = f"{path.name} is {self.codec}, which has no {error.object[error.start]!r}"
            raise ApplyError(f"{what}; nothing is changed") from error
        try:
            mode = path.stat().st_mode
            if not os.access(path, os.W_OK):
                raise ApplyError(f"{path.name}: is not writable; nothing is changed")
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fchmod(file.fileno(), mode & 0o7777)
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        except OSError as error:
            raise ApplyError(
                f"{path.name}: cannot be written: {error.strerror}; nothing is changed"
            ) from error
