"""Conversations and input history in one SQLite file. Knows no screen and no engine thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dsv3chat.conversation import ChatMessage, Conversation


class StoreError(Exception):
    """The database cannot be used; the message says why and what to do. The chat can go on without saving."""


@dataclass(frozen=True, slots=True)
class ConversationSummary:
    """One line of the list of sessions. `updated` is time.time() of the last change."""

    id: str
    title: str
    model: str
    profile: str
    updated: float
    num_messages: int


class Store:
    """Usable from several threads and by several processes at once. `notice` is what a person must be told, or ""."""

    notice: str

    def __init__(self, path: Path) -> None:
        """Open or create the file. A corrupt one is moved aside, never deleted, and `notice` says where."""
        raise NotImplementedError

    def save_conversation(self, conversation: Conversation) -> None:
        """Write the conversation and every message in it."""
        raise NotImplementedError

    def save_message(self, conversation_id: str, message: ChatMessage) -> None:
        """Write one message of a saved conversation; on disk when this returns."""
        raise NotImplementedError

    def set_leaf(self, conversation_id: str, leaf_id: str | None) -> None:
        """Remember the end of the active path."""
        raise NotImplementedError

    def list(self, limit: int = 200, query: str = "") -> list[ConversationSummary]:
        """Conversations with messages, the latest first; `query` is looked for in titles and messages."""
        raise NotImplementedError

    def load(self, conversation_id: str) -> Conversation:
        """StoreError when there is none with this id."""
        raise NotImplementedError

    def latest(self) -> str | None:
        """The id of the conversation changed last."""
        raise NotImplementedError

    def delete(self, conversation_id: str) -> None:
        """Remove a conversation and its messages."""
        raise NotImplementedError

    def rename(self, conversation_id: str, title: str) -> None:
        """Give it another title."""
        raise NotImplementedError

    def add_history(self, text: str) -> None:
        """Append to the inputs; the same text twice in a row counts once."""
        raise NotImplementedError

    def history(self, limit: int = 500) -> list[str]:
        """The latest inputs, oldest first."""
        raise NotImplementedError

    def close(self) -> None:
        """Idempotent."""
        raise NotImplementedError
