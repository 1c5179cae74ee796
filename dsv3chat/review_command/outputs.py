"""Where a review's documents go: standard output, and files that are whole or not there. Knows no review and no flag."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from dsv3chat.plain_output import OutputError, write_out
from dsv3chat.review.formats import Document, Format
from dsv3chat.review.formats.jsonl import end_line, event_line
from dsv3chat.review.values import ReviewEvent
from dsv3chat.review_command.request import Target
from dsv3chat.sanitize import clean


class StandardOutput:
    """A document on standard output; JSON lines go out as things happen. `found` None: nothing goes there."""

    def __init__(self, out: BinaryIO, found: Format | None, is_terminal: bool) -> None:
        self._out = out
        self._format = found
        self._is_terminal = is_terminal
        self._streams = found is not None and found.name == "jsonl"

    def event(self, event: ReviewEvent) -> None:
        """Its line, where events have lines. BrokenPipeError when the reader has left, OutputError for a full disk."""
        if self._streams:
            self._write(event_line(event))

    def end(self, document: Document) -> None:
        """The document, or the last line of it."""
        if self._format is not None:
            self._write(end_line(document) if self._streams else self._format.write(document))

    def text(self, text: str) -> None:
        """Something that is no report: of a dry run."""
        self._write(text)

    def _write(self, text: str) -> None:
        if text:
            write_out(self._out, encoded(clean(text) if self._is_terminal else text))


def encoded(text: str) -> bytes:
    """UTF-8. Names that are not UTF-8 on the disk get their bytes back; other lone surrogates become a question mark."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def write_targets(targets: Sequence[Target], document: Document) -> None:
    """Every file; OutputError names those that could not be written, after the others are."""
    failures: list[str] = []
    for target in targets:
        try:
            write_atomically(target.path, encoded(target.format.write(document)))
        except OSError as error:
            failures.append(f"{target.path} cannot be written: {error.strerror or error}")
    if failures:
        raise OutputError("; ".join(failures))


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path`, a link's target, by a file that is complete and on the disk; what was there stays until then.

    What is no regular file, /dev/stderr or a pipe, is written to as it is. Raises OSError.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), _mode(path))
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _mode(path: Path) -> int:
    """Of the file that is there, else what a new file gets here."""
    try:
        return path.stat().st_mode & 0o7777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
