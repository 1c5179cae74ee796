"""Files named in a message with @: finds the names, reads the files, completes the paths. Knows no screen and no model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dsv3chat.conversation import Attachment


class AttachmentError(Exception):
    """The file cannot be attached; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class Reference:
    """`label` is what stands after the @; lines count from 1, None where none are given."""

    label: str
    path: str
    first_line: int | None = None
    last_line: int | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A completion; folders end in "/" and have no size."""

    path: str
    size_bytes: int | None
    num_tokens_estimate: int | None

    @property
    def insert_text(self) -> str:
        """What goes into the input in place of the fragment, the @ included: quoted where the path needs it."""
        raise NotImplementedError


def find_references(text: str, root: Path | None = None) -> list[Reference]:
    """The files that `text` names, in order, each once. `root` (the current folder if None) decides what exists."""
    raise NotImplementedError


def load_attachment(
    reference: Reference, root: Path, count_tokens: Callable[[str], int], limit: int | None = None
) -> Attachment:
    """Read the file, its lines, or the folder's listing. `limit`: the most tokens. Raises AttachmentError."""
    raise NotImplementedError


def complete_path(fragment: str, root: Path, limit: int = 8) -> list[Candidate]:
    """The best matches for what stands after the @, fuzzily, from the files below `root`."""
    raise NotImplementedError
