"""Runs one answer after another: fits the prompt, drains the stream at 20 Hz, keeps the status. Knows no key.

Nothing runs here while no answer does: no timer, no task.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from textual.content import Content

from dsv3chat.context import FittedPrompt, apply_compaction
from dsv3chat.conversation import ChatMessage
from dsv3chat.screens.session import ChatSession
from dsv3chat.screens.turn import Turn
from dsv3chat.widgets.message import Entry, grouped
from dsv3chat.widgets.rows import MUTED
from dsv3chat.widgets.transcript import Transcript
from engine import EngineError

DRAIN_S = 0.05


class Answering:
    """At most one running answer."""

    def __init__(
        self,
        session: ChatSession,
        transcript: Transcript,
        on_change: Callable[[], None],
        say: Callable[[str, str], None],
    ) -> None:
        self.session = session
        self.transcript = transcript
        self.turn: Turn | None = None
        self._on_change = on_change
        self._say = say  # text, "information" | "warning" | "error"
        self._warned = False
        self.left_out = 0  # messages of the path that no longer go to the model

    @property
    def running(self) -> bool:
        """An answer is being made."""
        return self.turn is not None

    @property
    def stopping(self) -> bool:
        """The running answer was stopped and ends at the next token."""
        return self.turn is not None and self.turn.stopping

    @property
    def status(self) -> str:
        """The turn's state in words."""
        return self.turn.status if self.turn is not None else "○ ready"

    def stop(self) -> bool:
        """Stop the running answer; False when there is none."""
        if self.turn is None:
            return False
        self.turn.stop()
        self._on_change()
        return True

    def forget(self) -> None:
        """Another conversation is shown: what was said about the context of the last one is void."""
        self._warned, self.left_out = False, 0

    async def answer(self, parent_id: str, begins_with: str = "") -> ChatMessage:
        """Answer the message `parent_id`, the active leaf. Whatever happens, an ended answer is saved and returned.

        With `begins_with` the answer begins with this text, and no loop guard stops it.
        """
        session = self.session
        draft = session.draft_answer(parent_id)
        conversation = session.conversation
        num = 1 + sum(
            m.parent_id == parent_id and m.role == "assistant" for m in conversation.messages.values()
        )
        entry = Entry(draft, num, num, live=True)
        self.transcript.add(entry)
        turn = self.turn = Turn(draft)
        self._on_change()
        try:
            await self._run(turn, entry, compact=False, begins_with=begins_with)
        finally:
            if turn.phase != "ended":
                turn.stop()
                turn.end("stopped")
            self.turn = None
            message = session.add_answer(turn.message)
            entry.finish(message)
            if entry in self.transcript.entries:
                self.transcript.changed(entry)
            self._on_change()
        return message

    async def compact(self) -> bool:
        """Ask for a summary of the active path and put it in place of the turns. False when it was not made."""
        session = self.session
        leaf = session.conversation.leaf_id
        if leaf is None:
            self._say("there is nothing to summarise yet", "information")
            return False
        draft = session.draft_answer(leaf)
        entry = Entry(draft, live=True)
        self.transcript.add(entry)
        turn = self.turn = Turn(draft)
        self._on_change()
        try:
            await self._run(turn, entry, compact=True)
        finally:
            if turn.phase != "ended":
                turn.stop()
                turn.end("stopped")
            self.turn = None
            self._on_change()
        message = turn.message
        if message.status == "failed" or turn.stopping or not message.text.strip():
            reason = message.note or ("stopped" if turn.stopping else "the summary is empty")
            self._say(f"not summarised: {reason}", "warning")
            return False
        before = set(session.conversation.messages)
        apply_compaction(session.conversation, message.text)
        session.save_path([m for m in session.conversation.messages.values() if m.id not in before])
        self.forget()
        session.used_tokens = 0
        return True

    async def _run(self, turn: Turn, entry: Entry, compact: bool, begins_with: str = "") -> None:
        session = self.session
        try:
            prompt = await asyncio.to_thread(session.fitted, compact)
            if turn.stopping:
                turn.end("stopped")
                return
            if not compact:
                self._tell_about(prompt)
            turn.stream = await asyncio.to_thread(session.start, prompt, begins_with)
        except EngineError as error:
            turn.end("failed", str(error))
            return
        session.used_tokens = prompt.prompt_tokens
        if turn.stopping:
            turn.stream.cancel()
        pause = DRAIN_S
        while turn.phase != "ended":
            asleep = time.monotonic()
            await asyncio.sleep(pause)
            woke = time.monotonic()
            events = turn.stream.drain()
            thinking_before = turn.message.thinking_tokens
            new = turn.absorb(events)
            if new or turn.message.thinking_tokens != thinking_before:
                entry.append(turn.message, new)
                self.transcript.changed(entry)
            if events:
                self._on_change()
            spent = time.monotonic() - woke
            self.session.lag.add(max(woke - asleep - pause, spent))
            pause = max(
                DRAIN_S, 4 * spent
            )  # a long block that still grows must not take the interface's time

    def _tell_about(self, prompt: FittedPrompt) -> None:
        before, self.left_out = self.left_out, len(prompt.dropped)
        if self.left_out > before:
            self._say(
                f"the context is full: the {len(prompt.dropped)} oldest messages no longer go to the model "
                "(they stay in the transcript); /compact summarises them",
                "warning",
            )
        elif prompt.warn and not self._warned:
            share = round(100 * prompt.prompt_tokens / prompt.context_tokens)
            self._say(
                f"{share} % of the context is used ({grouped(prompt.prompt_tokens)} of "
                f"{grouped(prompt.context_tokens)} tok); soon the oldest turns leave it, /compact summarises them",
                "warning",
            )
        self._warned = prompt.warn

    def context_line(self, short: bool = False) -> Content:
        """`context 9 216/32 768 28%`, or `context 28%`, with a sign from 90 % on, and the messages left out."""
        total = self.session.context_tokens
        used = self.session.used_tokens + (self.turn.num_tokens if self.turn is not None else 0)
        if not total or not used:
            return Content("")
        share = used / total
        figures = "" if short else f"{grouped(used)}/{grouped(total)} "
        dropped = f" · {self.left_out} left out" if self.left_out else ""
        text = f"context {figures}{round(100 * share)}%{dropped}"
        return (
            Content.styled(f"⚠ {text}", "bold $text-warning") if share >= 0.9 else Content.styled(text, MUTED)
        )
