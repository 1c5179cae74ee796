"""What the slash commands do. Knows the chat screen's verbs, not its widgets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dsv3chat.commands import UnknownCommandError, parse_command
from dsv3chat.export import ExportError, Format, write_export

if TYPE_CHECKING:
    from dsv3chat.screens.chat import ChatScreen

_WHILE_RUNNING = {"new", "compact", "regenerate"}


async def run_line(screen: ChatScreen, line: str) -> bool:
    """Carry out the line if it is a command. False: it is text for the model, or was refused with a word why."""
    if "\n" in line.strip() and not line.startswith("/system"):
        return False
    try:
        found = parse_command(line)
    except UnknownCommandError as error:
        screen.say(str(error), "warning")
        return True
    if found is None:
        return False
    name, argument = found
    if name in _WHILE_RUNNING and screen.sending.busy:
        screen.say(f"/{name} waits for the answer to end; esc stops it", "warning")
        return True
    screen.prompt.clear_draft()
    screen.prompt.add_to_history(line)
    match name:
        case "help":
            screen.action_help()
        case "new":
            screen.new_conversation()
        case "sessions":
            screen.action_sessions()
        case "system":
            screen.session.set_system(argument or None)
            screen.say("the system message is set" if argument else "there is no system message now")
        case "compact":
            screen.sending.compact()
        case "export":
            await _export(screen, argument)
        case "copy":
            screen.messages.copy_last_answer()
        case "regenerate":
            screen.messages.regenerate_last()
        case "review":
            screen.review(argument)
        case "profile" if argument:
            await screen.profiles.choose(argument)
        case "profile":
            screen.profiles.open()
        case "theme":
            screen.set_theme(argument)
        case "quit":
            screen.app.exit()
    return True


async def _export(screen: ChatScreen, argument: str) -> None:
    words = argument.split(maxsplit=1)
    fmt = "md"
    if words and words[0] in ("md", "json"):
        fmt, words = words[0], words[1:]
    elif words and Path(argument).suffix == ".json":
        fmt = "json"
    path = Path(" ".join(words)) if words else None
    session = screen.session
    try:
        written = await asyncio.to_thread(
            write_export, session.conversation, cast("Format", fmt), path, session.root
        )
    except ExportError as error:
        screen.say(f"not exported: {error}", "error")
    else:
        screen.say(f"exported to {written}")
