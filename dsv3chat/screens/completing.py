"""Completes what stands before the cursor: commands after a /, files after an @. Knows no message and no answer."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from dsv3chat.attachments import complete_path
from dsv3chat.commands import complete_command
from dsv3chat.widgets.completion import Choice, Completion
from dsv3chat.widgets.message import grouped
from dsv3chat.widgets.prompt import Prompt

_LINES = re.compile(r":\d+(?:-\d*)?$")


def command_choices(fragment: str) -> list[Choice]:
    """Commands that begin with or contain the letters."""
    return [
        Choice(
            f"/{c.name} " if c.usage else f"/{c.name}", f"/{c.name} {c.usage}".strip(), c.help, not c.usage
        )
        for c in complete_command(fragment)
    ]


def file_choices(fragment: str, root: Path) -> list[Choice]:
    """Files and folders that match fuzzily, with size and tokens; lines that were typed after the name stay.

    Reads folders: not for the interface thread.
    """
    choices = []
    typed = _LINES.search(fragment)
    lines = typed[0] if typed is not None else ""
    for found in complete_path(fragment, root):
        if found.path.endswith("/"):
            choices.append(Choice(found.insert_text, found.path, "folder", complete=False))
            continue
        tokens = "" if found.num_tokens_estimate is None else f"~{grouped(found.num_tokens_estimate)} tok"
        size = "" if found.size_bytes is None else f"{found.size_bytes / 1024:.1f} KiB"
        choices.append(
            Choice(f"{found.insert_text}{lines} ", found.path + lines, f"{size:>10}  {tokens:>12}")
        )
    return choices


class Completing:
    """Opens, fills and closes the popup. `closed_at` is the fragment for which it was closed by hand."""

    def __init__(self, prompt: Prompt, popup: Completion, root: Path) -> None:
        self._prompt = prompt
        self._popup = popup
        self._root = root
        self._closed_at: tuple[str, str] | None = None
        self._running: asyncio.Task[None] | None = None

    def typed(self) -> None:
        """The text or the cursor moved: offer what fits."""
        if self._running is not None:
            self._running.cancel()
            self._running = None
        fragment = self._prompt.fragment
        if fragment is None or fragment == self._closed_at:
            self._show([])
            return
        self._closed_at = None
        kind, text = fragment
        if kind == "/":
            self._show(command_choices(text))
        else:
            self._running = asyncio.create_task(self._offer_files(text))

    async def _offer_files(self, fragment: str) -> None:
        choices = await asyncio.to_thread(file_choices, fragment, self._root)
        if self._prompt.fragment == ("@", fragment):
            self._show(choices)

    def _show(self, choices: list[Choice]) -> None:
        self._popup.show(choices)
        self._prompt.popup_open = bool(choices)

    def close(self) -> bool:
        """Close the popup until something else is typed. False when it was not open."""
        if not self._prompt.popup_open:
            return False
        self._closed_at = self._prompt.fragment
        self._show([])
        return True

    def move(self, step: int) -> None:
        """Mark another choice."""
        self._popup.move(step)

    def accept(self) -> bool:
        """Put the marked choice into the input. True when nothing is left to type: a whole command, an exact name."""
        choice, before = self._popup.choice, self._prompt.text
        self._show([])
        if choice is None:
            return False
        self._prompt.replace_fragment(choice.insert)
        if choice.complete:
            self._closed_at = self._prompt.fragment
        is_command = choice.complete and choice.insert.startswith("/")
        return is_command or self._prompt.text.rstrip() == before
