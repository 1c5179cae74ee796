"""A conversation as Markdown or JSON, for a file. Knows no screen and no database."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import Literal, TypeAlias

from dsv3chat.conversation import Attachment, ChatMessage, Conversation

Format: TypeAlias = Literal["md", "json"]

_STATUS = {"stopped": "stopped", "length": "cut at the token limit", "looping": "looping", "failed": "failed"}


class ExportError(Exception):
    """The file could not be written; the message says why and what to do."""


def to_markdown(conversation: Conversation) -> str:
    """The active path as Markdown: attachments under their names, thinking folded, how an answer ended in italics."""
    head = [f"# {_one_line(conversation.title) or 'Conversation'}"]
    facts = [time.strftime("%Y-%m-%d %H:%M", time.localtime(conversation.created))]
    facts += [f"{n}: {v}" for n, v in (("model", conversation.model), ("profile", conversation.profile)) if v]
    head.append(" · ".join(facts))
    if conversation.system:
        head.append("## System\n\n" + conversation.system)
    return "\n\n".join([*head, *(_message(m) for m in conversation.path)]) + "\n"


def _message(message: ChatMessage) -> str:
    parts = ["## " + ("You" if message.role == "user" else "Assistant")]
    parts += [_attachment(a) for a in message.attachments]
    if message.thinking:
        inside = f"<summary>thinking, {message.thinking_tokens} tokens</summary>\n\n" + message.thinking
        parts.append(f"<details>{inside}\n\n</details>")
    if message.text:
        parts.append(message.text)
    if message.status != "complete":
        parts.append(f"*{_STATUS[message.status]}{': ' if message.note else ''}{_one_line(message.note)}*")
    return "\n\n".join(parts)


def _attachment(attachment: Attachment) -> str:
    longest = max((len(run) for run in re.findall("`{3,}", attachment.text)), default=2)
    fence = "`" * (longest + 1)
    label = _one_line(attachment.label).replace("`", "'")
    return f"`@{label}` ({attachment.num_lines} lines)\n\n{fence}\n{attachment.text}\n{fence}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def to_json(conversation: Conversation) -> str:
    """The whole tree as JSON, every sibling in it; `path` lists the ids of the active path. Pure ASCII."""
    document = {
        "format": "dsv3chat-conversation",
        "version": 1,
        "id": conversation.id,
        "title": conversation.title,
        "system": conversation.system,
        "model": conversation.model,
        "profile": conversation.profile,
        "created": conversation.created,
        "path": [m.id for m in conversation.path],
        "messages": [asdict(m) for m in sorted(conversation.messages.values(), key=lambda m: m.created)],
    }
    return json.dumps(document, indent=2) + "\n"


def write_export(conversation: Conversation, fmt: Format, path: Path | None, root: Path) -> Path:
    """Write to `path` (relative ones below `root`), or to a name made from the title in `root`; returns the path.

    Mode 0600. ExportError when there is nothing to write, when `path` exists, or when it cannot be written;
    a made name that exists gets a number instead.
    """
    if not conversation.path:
        raise ExportError("the conversation is empty: there is nothing to export")
    text = to_markdown(conversation) if fmt == "md" else to_json(conversation)
    data = text.encode("utf-8", "replace")
    if path is not None:
        target = root / path.expanduser()
        try:
            _create(target, data)
        except FileExistsError as error:
            raise ExportError(
                f"{target} exists and is not overwritten; give another name, or remove it first"
            ) from error
        return target
    stem = re.sub(r"[^\w-]+", "-", conversation.title.lower()).strip("-")[:40].strip("-") or "conversation"
    for number in range(1, 10_000):
        target = root / f"{stem}{'' if number == 1 else f'-{number}'}.{fmt}"
        try:
            _create(target, data)
        except FileExistsError:
            continue
        return target
    raise ExportError(f"{root} holds too many exports named {stem}; give a file name")


def _create(target: Path, data: bytes) -> None:
    """A new file with `data`, on the disk when this returns. FileExistsError when there is one."""
    try:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise
    except OSError as error:
        raise ExportError(f"{target} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        target.unlink(missing_ok=True)
        raise ExportError(f"{target} cannot be written: {error.strerror}") from error
