"""The slash commands of the chat: their list and how a line becomes one. Knows no screen and performs nothing."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """`usage` is what follows the name, empty when nothing does."""

    name: str
    usage: str
    help: str


COMMANDS: tuple[Command, ...] = (
    Command("help", "", "keys and commands"),
    Command("new", "", "begin a new conversation; this one stays saved"),
    Command("sessions", "", "list the saved conversations and open one"),
    Command("system", "[TEXT]", "set the system message of this conversation; without TEXT, remove it"),
    Command("compact", "", "put a summary in place of the turns so far; they stay in the saved conversation"),
    Command("export", "[md|json] [FILE]", "write the conversation to a file"),
    Command("copy", "", "copy the last answer"),
    Command("regenerate", "", "answer the last question again; both answers are kept"),
    Command("review", "[PATH...|--diff REV]", "review code; without PATH, pick what"),
    Command("profile", "[NAME]", "switch to another quantization profile; without NAME, pick one"),
    Command("theme", "[NAME]", "change the colours"),
    Command("quit", "", "leave"),
)

_BY_NAME = {command.name: command for command in COMMANDS}
_LINE = re.compile(r"/(?P<name>[A-Za-z][A-Za-z-]*)(?:\s+(?P<argument>.*))?", re.DOTALL)


class UnknownCommandError(Exception):
    """The line looks like a command and names none; the message names the nearest one."""


def parse_command(line: str) -> tuple[str, str] | None:
    """`/name argument` as (name, argument), or None for text that goes to the model.

    A line that begins with a path (`/etc/hosts ...`, or `/tmp ...` where /tmp exists) is text.
    Raises UnknownCommandError.
    """
    match = _LINE.fullmatch(line.strip())
    if match is None:
        return None
    name = match["name"].lower()
    if name in _BY_NAME:
        return name, (match["argument"] or "").strip()
    if os.path.lexists("/" + match["name"]):
        return None
    near = difflib.get_close_matches(name, _BY_NAME, n=1, cutoff=0.5)
    hint = f"did you mean /{near[0]}?" if near else "/help lists them"
    raise UnknownCommandError(f"/{name} is no command; {hint} (a space before the / sends it as text)")


def complete_command(fragment: str) -> list[Command]:
    """Commands whose name begins with `fragment` (without the slash), then those that contain it."""
    wanted = fragment.lower()
    first = [c for c in COMMANDS if c.name.startswith(wanted)]
    return first + [c for c in COMMANDS if wanted in c.name and c not in first]
