"""A conversation as a tree of messages with one active path. Knows no screen, no database and no engine thread."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from engine import Message, Usage

Role: TypeAlias = Literal["user", "assistant"]
Status: TypeAlias = Literal["complete", "stopped", "failed", "length", "looping"]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file's text that goes with a message. `label` is what the person typed after the @."""

    label: str
    text: str
    num_lines: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message as it is shown and stored. Regenerated answers are siblings: same parent, later `created`."""

    id: str
    parent_id: str | None
    role: Role
    text: str
    thinking: str = ""
    thinking_tokens: int = 0
    status: Status = "complete"
    note: str = ""  # why it failed, in words for a person
    attachments: tuple[Attachment, ...] = ()
    created: float = 0.0  # time.time()
    usage: Usage | None = None
    is_summary: bool = False  # written by /compact in place of older turns

    @property
    def prompt_text(self) -> str:
        """The text that goes to the model: attachments first, each fenced under its name, then what was typed."""
        parts = [f"File: {a.label}\n```\n{a.text}\n```" for a in self.attachments]
        return "\n\n".join([*parts, self.text]) if self.text else "\n\n".join(parts)


def new_id() -> str:
    """A fresh message or conversation id."""
    return uuid.uuid4().hex


@dataclass(slots=True)
class Conversation:
    """The one owner of a chat's messages. Every change is made by a method; `path` is what is shown."""

    id: str = field(default_factory=new_id)
    title: str = ""
    system: str | None = None
    model: str = ""
    profile: str = ""
    created: float = field(default_factory=time.time)
    messages: dict[str, ChatMessage] = field(default_factory=dict)
    leaf_id: str | None = None  # the end of the active path

    @property
    def path(self) -> list[ChatMessage]:
        """Messages from the first to the active leaf."""
        found: list[ChatMessage] = []
        cursor = self.leaf_id
        while cursor is not None:
            message = self.messages[cursor]
            found.append(message)
            cursor = message.parent_id
        return found[::-1]

    def add_user(self, text: str, attachments: tuple[Attachment, ...] = ()) -> ChatMessage:
        """Append a user message at the active leaf and make it the leaf; the first one gives the title."""
        if not self.title:
            self.title = " ".join(text.split())[:60] or (attachments[0].label if attachments else "")
        return self._append(
            ChatMessage(id=new_id(), parent_id=self.leaf_id, role="user", text=text, attachments=attachments)
        )

    def add_assistant(self, text: str, parent_id: str, **fields: object) -> ChatMessage:
        """Add an answer below the user message `parent_id` (a sibling of earlier ones) and make it the leaf.

        `fields` are further fields of ChatMessage (status, note, thinking, usage, ...).
        """
        message = ChatMessage(id=new_id(), parent_id=parent_id, role="assistant", text=text)
        return self._append(replace(message, **fields))  # type: ignore[arg-type]

    def _append(self, message: ChatMessage) -> ChatMessage:
        message = replace(message, created=message.created or time.time())
        self.messages[message.id] = message
        self.leaf_id = message.id
        return message

    def siblings(self, message_id: str) -> list[ChatMessage]:
        """Messages with the same parent and role, oldest first, this one included."""
        me = self.messages[message_id]
        same = [m for m in self.messages.values() if m.parent_id == me.parent_id and m.role == me.role]
        return sorted(same, key=lambda m: m.created)

    def select(self, message_id: str) -> None:
        """Make the path go through `message_id` and on to the newest leaf below it."""
        cursor = message_id
        while children := [m for m in self.messages.values() if m.parent_id == cursor]:
            cursor = max(children, key=lambda m: m.created).id
        self.leaf_id = cursor

    def truncate_to(self, message_id: str | None) -> None:
        """Make `message_id` the leaf (to edit or branch from there); later messages stay in the tree."""
        self.leaf_id = message_id

    def prompt(self, path: list[ChatMessage] | None = None) -> list[Message]:
        """What goes to the engine: the system message if there is one, then the path (or the given part of it)."""
        head = [Message("system", self.system)] if self.system else []
        chosen = self.path if path is None else path
        return head + [Message(m.role, m.prompt_text) for m in chosen if m.prompt_text]
