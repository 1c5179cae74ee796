"""The schema of the store and how values become rows and come back. Knows no connection."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dsv3chat.conversation import Attachment, ChatMessage, Conversation
from engine import Usage

# One tuple of statements for each schema version, applied in order to whatever is older; never edited once released.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE conversations (
            id TEXT PRIMARY KEY, title TEXT NOT NULL, system TEXT, model TEXT NOT NULL, profile TEXT NOT NULL,
            created REAL NOT NULL, updated REAL NOT NULL, leaf_id TEXT)""",
        """CREATE TABLE messages (
            id TEXT PRIMARY KEY,
            conversation_id TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
            parent_id TEXT, role TEXT NOT NULL, text TEXT NOT NULL, thinking TEXT NOT NULL,
            thinking_tokens INTEGER NOT NULL, status TEXT NOT NULL, note TEXT NOT NULL, attachments TEXT NOT NULL,
            created REAL NOT NULL, usage TEXT, is_summary INTEGER NOT NULL)""",
        "CREATE INDEX messages_of ON messages (conversation_id, created)",
        "CREATE INDEX conversations_by_time ON conversations (updated)",
        "CREATE TABLE history (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL, created REAL NOT NULL)",
    ),
)

UPSERT_CONVERSATION = """
    INSERT INTO conversations (id, title, system, model, profile, created, updated, leaf_id)
    VALUES (:id, :title, :system, :model, :profile, :created, :updated, :leaf_id)
    ON CONFLICT (id) DO UPDATE SET title = excluded.title, system = excluded.system, model = excluded.model,
        profile = excluded.profile, updated = excluded.updated, leaf_id = excluded.leaf_id"""

_MESSAGE_COLUMNS = "id, parent_id, role, text, thinking, thinking_tokens, status, note, attachments, created, usage, is_summary"

UPSERT_MESSAGE = f"""
    INSERT INTO messages (conversation_id, {_MESSAGE_COLUMNS})
    VALUES (:conversation_id, :id, :parent_id, :role, :text, :thinking, :thinking_tokens, :status, :note,
        :attachments, :created, :usage, :is_summary)
    ON CONFLICT (id) DO UPDATE SET text = excluded.text, thinking = excluded.thinking,
        thinking_tokens = excluded.thinking_tokens, status = excluded.status, note = excluded.note,
        attachments = excluded.attachments, usage = excluded.usage, is_summary = excluded.is_summary"""

LIST = """
    SELECT c.id, c.title, c.model, c.profile, c.updated, count(m.id)
    FROM conversations c JOIN messages m ON m.conversation_id = c.id
    WHERE :query = '' OR instr(folded(c.title), :query) > 0 OR EXISTS (
        SELECT 1 FROM messages s WHERE s.conversation_id = c.id AND instr(folded(s.text), :query) > 0)
    GROUP BY c.id ORDER BY c.updated DESC, c.rowid DESC LIMIT :limit"""

SELECT_CONVERSATION = (
    "SELECT id, title, system, model, profile, created, leaf_id FROM conversations WHERE id = ?"
)

SELECT_MESSAGES = f"SELECT {_MESSAGE_COLUMNS} FROM messages WHERE conversation_id = ? ORDER BY created, rowid"


def conversation_row(conversation: Conversation, now: float) -> dict[str, Any]:
    """The parameters of UPSERT_CONVERSATION."""
    names = ("id", "title", "system", "model", "profile", "created", "leaf_id")
    return {name: getattr(conversation, name) for name in names} | {"updated": now}


def message_row(conversation_id: str, message: ChatMessage) -> dict[str, Any]:
    """The parameters of UPSERT_MESSAGE."""
    row = asdict(message) | {"conversation_id": conversation_id}
    row["attachments"] = json.dumps(row["attachments"])
    row["usage"] = None if message.usage is None else json.dumps(row["usage"])
    return {key: _storable(value) for key, value in row.items()}


def _storable(value: Any) -> Any:
    """Lone surrogates (of undecodable input) cannot be stored as UTF-8: they become question marks."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


def conversation_of(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> Conversation:
    """The conversation that the rows of SELECT_CONVERSATION and SELECT_MESSAGES describe."""
    conversation = Conversation(*head[:6])
    for row in rows:
        message = _message_of(row)
        conversation.messages[message.id] = message
    leaf = head[6]
    if leaf in conversation.messages:
        conversation.leaf_id = leaf
    elif leaf is not None and conversation.messages:  # the process ended between two writes
        conversation.leaf_id = max(conversation.messages.values(), key=lambda m: m.created).id
    return conversation


def _message_of(row: Sequence[Any]) -> ChatMessage:
    names = [name.strip() for name in _MESSAGE_COLUMNS.split(",")]
    fields: dict[str, Any] = dict(zip(names, row, strict=True))
    fields["attachments"] = tuple(_known(Attachment, a) for a in json.loads(fields["attachments"]))
    fields["usage"] = None if fields["usage"] is None else _known(Usage, json.loads(fields["usage"]))
    fields["is_summary"] = bool(fields["is_summary"])
    return ChatMessage(**fields)


def _known(cls: Any, fields: Mapping[str, Any]) -> Any:
    """`cls` from those of the fields that it has: a newer version may have written more."""
    return cls(**{name: value for name, value in fields.items() if name in cls.__dataclass_fields__})
