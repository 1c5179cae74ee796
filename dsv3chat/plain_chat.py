"""A chat line by line, for screen readers and terminals that cannot move the cursor. Knows no screen."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable
from pathlib import Path

from dsv3chat import exit_codes
from dsv3chat.attachments import AttachmentError
from dsv3chat.commands import COMMANDS, UnknownCommandError, parse_command
from dsv3chat.context import apply_compaction, compaction_draft
from dsv3chat.conversation import Conversation
from dsv3chat.export import ExportError, Format, write_export
from dsv3chat.plain import PlainChat
from dsv3chat.plain_output import Narrator
from dsv3chat.sanitize import clean_line
from dsv3chat.store import StoreError
from engine import Failed, RequestError

HERE = (
    "help",
    "new",
    "sessions",
    "system",
    "compact",
    "export",
    "regenerate",
    "quit",
)  # the others need a screen

SIGNAL_SECONDS = 0.5  # how late a signal is served at most


def read_line(prompt: str = "> ") -> str | None:
    """A line from standard input, the prompt on standard error; a \\ at its end continues it. None at the end of input."""
    lines: list[str] = []
    while True:
        sys.stderr.write(prompt)
        sys.stderr.flush()
        while not select.select([sys.stdin], [], [], SIGNAL_SECONDS)[0]:
            continue  # a signal that came just before a blocking read would wait for the next line
        line = sys.stdin.readline()
        if not line:
            return "\n".join(lines) if lines else None
        line = line.rstrip("\n")
        if not line.endswith("\\"):
            return "\n".join([*lines, line])
        lines.append(line[:-1])
        prompt = ". "


class LineChat:
    """Asks, answers, obeys commands until the input ends, /quit, or ctrl+c at the prompt."""

    def __init__(
        self, chat: PlainChat, narrator: Narrator, read: Callable[[], str | None] = read_line
    ) -> None:
        self._chat = chat
        self._say = narrator.say
        self._read = read

    def run(self) -> int:
        """Returns the exit code."""
        self._say("ask, or /help; ctrl+d leaves")
        interrupts = self._chat.interrupts
        while True:
            try:
                interrupts.raising = True
                line = self._read()
            except KeyboardInterrupt:
                return interrupts.exit_code or exit_codes.INTERRUPTED
            finally:
                interrupts.raising = False
            if line is None:
                return exit_codes.OK
            try:
                command = parse_command(line)
                if command == ("quit", ""):
                    return exit_codes.OK
                if command is not None:
                    self._obey(*command)
                elif line.strip():
                    self._chat.ask(line)
            except (UnknownCommandError, AttachmentError, RequestError, ExportError, StoreError) as error:
                self._say(str(error))
            code = interrupts.exit_code
            if code is not None and code != exit_codes.INTERRUPTED:
                return code
            interrupts.clear()

    def _obey(self, name: str, argument: str) -> None:
        match name:
            case "help":
                for command in (c for c in COMMANDS if c.name in HERE):
                    self._say(f"/{command.name} {command.usage}".rstrip() + f": {command.help}")
                self._say(
                    "@path attaches a file, @path:10-40 lines of it; a \\ at the end continues the line"
                )
            case "new":
                old = self._chat.conversation
                self._chat.conversation = Conversation(system=old.system)
                self._say("a new conversation")
            case "sessions":
                self._sessions(argument)
            case "system":
                self._chat.conversation.system = argument or None
                self._say("the system message is set" if argument else "there is no system message now")
            case "compact":
                self._compact()
            case "export":
                self._export(argument)
            case "regenerate":
                self._regenerate()
            case _:
                self._say(f"/{name} needs the full screen")

    def _sessions(self, argument: str) -> None:
        store = self._chat.store
        if store is None:
            self._say("conversations are not saved")
        elif argument:
            self._chat.conversation = store.load(store.find(argument))
            self._say(f"going on with {clean_line(self._chat.conversation.title)}")
        else:
            for summary in store.list(limit=20):
                self._say(f"{summary.id[:8]} {clean_line(summary.title)} ({summary.num_messages} messages)")
            self._say("/sessions ID opens one")

    def _compact(self) -> None:
        chat = self._chat
        if not chat.conversation.path:
            self._say("there is nothing to compact")
            return
        text, _, last = chat.generate(chat.fitted(compaction_draft(chat.conversation)))
        if isinstance(last, Failed) or last.reason == "cancelled" or not text.strip():
            reason = (
                last.message
                if isinstance(last, Failed)
                else "stopped"
                if last.reason == "cancelled"
                else "no text"
            )
            self._say(f"not compacted ({reason}); the conversation stays as it is")
            return
        apply_compaction(chat.conversation, text)
        chat.save()
        self._say(f"the conversation goes on from this summary: {clean_line(text)}")

    def _export(self, argument: str) -> None:
        first, _, rest = argument.partition(" ")
        fmt: Format = "json" if first == "json" or argument.endswith(".json") else "md"
        name = rest.strip() if first in ("md", "json") else argument
        path = write_export(self._chat.conversation, fmt, Path(name) if name else None, self._chat.root)
        self._say(f"written to {path}")

    def _regenerate(self) -> None:
        path = self._chat.conversation.path
        questions = [m for m in path if m.role == "user" and not m.is_summary]
        if not questions:
            self._say("there is no question to answer again")
        else:
            self._chat.answer(questions[-1])
