"""Which diff a review is of, as a value. Knows no git."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

DiffKind: TypeAlias = Literal["revisions", "staged", "uncommitted", "commit", "text"]


@dataclass(frozen=True, slots=True)
class DiffRequest:
    """One of the five ways to say which changes are meant; the class methods make them."""

    kind: DiffKind
    revision: str = ""
    text: bytes = b""

    @classmethod
    def between(cls, revisions: str = "") -> DiffRequest:
        """ "" is what is not staged, `REV` everything since REV, `A..B` the difference, `A...B` what B did since it left A."""
        return cls("revisions", revisions)

    @classmethod
    def staged(cls) -> DiffRequest:
        """What the next commit would hold."""
        return cls("staged")

    @classmethod
    def uncommitted(cls) -> DiffRequest:
        """Everything since the last commit: staged, not staged, and new files that git does not know yet."""
        return cls("uncommitted")

    @classmethod
    def commit(cls, revision: str) -> DiffRequest:
        """What one commit changed; of a merge, what it changed in its first parent."""
        return cls("commit", revision)

    @classmethod
    def from_text(cls, text: bytes | str) -> DiffRequest:
        """A unified diff as it was read from standard input, preferably the bytes themselves."""
        return cls("text", text=text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text)

    @property
    def description(self) -> str:
        match self.kind:
            case "revisions":
                return f"git diff {self.revision}".rstrip()
            case "staged":
                return "git diff --staged"
            case "uncommitted":
                return "uncommitted changes"
            case "commit":
                return f"commit {self.revision}"
            case "text":
                return "a diff from standard input"
