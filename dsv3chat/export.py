"""A conversation as Markdown or JSON, for a file. Knows no screen and no database."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from dsv3chat.conversation import Conversation

Format: TypeAlias = Literal["md", "json"]


class ExportError(Exception):
    """The file could not be written; the message says why and what to do."""


def to_markdown(conversation: Conversation) -> str:
    """The active path as Markdown."""
    raise NotImplementedError


def to_json(conversation: Conversation) -> str:
    """The whole tree as JSON."""
    raise NotImplementedError


def write_export(conversation: Conversation, fmt: Format, path: Path | None, root: Path) -> Path:
    """Write to `path` (relative ones below `root`), or to a name made from the title in `root`; returns the path.

    Mode 0600. ExportError when `path` exists; a made name gets a number instead.
    """
    raise NotImplementedError
