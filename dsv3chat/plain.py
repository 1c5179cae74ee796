"""Plain mode: one question, one answer on standard output. Knows no screen.

It sends what the full screen would send for the same conversation: the same attachments, the same fitting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dsv3chat import exit_codes
from dsv3chat.attachments import find_references, load_attachment
from dsv3chat.backend import ChatBackend
from dsv3chat.context import FittedPrompt, fit
from dsv3chat.conversation import Attachment, ChatMessage, Conversation, Status
from dsv3chat.interrupts import Interrupts
from dsv3chat.plain_output import Output
from dsv3chat.store import Store, StoreError
from engine import EngineClosedError, Event, Failed, Finished, SamplingParams, TextDelta

_POLL_SECONDS = 0.5  # how late a signal that came between two steps is served at most
_STATUS: dict[str, Status] = {"cancelled": "stopped", "length": "length", "looping": "looping"}


@dataclass(slots=True)
class PlainChat:
    """A conversation with a loaded backend. `store` None: nothing is saved."""

    backend: ChatBackend
    conversation: Conversation
    params: SamplingParams
    root: Path
    output: Output
    interrupts: Interrupts
    store: Store | None = None

    def ask(self, text: str, typed: str | None = None) -> int:
        """Put a question and write its answer; returns the exit code.

        `typed` is the part of `text` in which @ names files (all of it if None): what comes through a pipe is data.
        Raises AttachmentError and RequestError before anything is generated, BrokenPipeError when the reader left.
        """
        attachments = self._attach(text if typed is None else typed)
        user = self.conversation.add_user(text, attachments)
        try:
            prompt = self.fitted(self.conversation)
        except BaseException:
            self.conversation.truncate_to(user.parent_id)
            del self.conversation.messages[user.id]
            raise
        self.save()
        return self.answer(user, prompt)

    def answer(self, user: ChatMessage, prompt: FittedPrompt | None = None) -> int:
        """Write the answer to the saved question `user`, a sibling of those it has; returns the exit code."""
        if prompt is None:
            self.conversation.truncate_to(user.id)
            prompt = self.fitted(self.conversation)
        if prompt.dropped:
            self.output.warn(
                f"the context is full: {len(prompt.dropped)} of the oldest messages were left out of the prompt "
                f"({prompt.prompt_tokens} of {prompt.context_tokens} tokens)"
            )
        elif prompt.warn:
            self.output.warn(
                f"the prompt takes {prompt.prompt_tokens} of the context's {prompt.context_tokens} tokens"
            )
        asked = self.params.max_new_tokens
        if asked is not None and prompt.max_new_tokens < asked:
            self.output.warn(
                f"the context leaves room for {prompt.max_new_tokens} tokens of the {asked} asked for"
            )
        self.output.begin(self._facts(prompt))
        text, thinking, last = self.generate(prompt, self.output.event)
        usage = last.usage
        self.conversation.add_assistant(
            text,
            user.id,
            thinking=thinking,
            thinking_tokens=0 if usage is None else usage.thinking_tokens,
            status="failed" if isinstance(last, Failed) else _STATUS.get(last.reason, "complete"),
            note=last.message if isinstance(last, Failed) else "",
            usage=usage,
        )
        self.save()
        code = self.exit_code(last)
        if self._misses_schema(last):
            self.output.warn("the answer ends too early: it is not the JSON that --schema asks for")
        self.output.end(last, code)
        return code

    def generate(
        self, prompt: FittedPrompt, on_event: Callable[[Event], None] = lambda event: None
    ) -> tuple[str, str, Finished | Failed]:
        """Run `prompt` and hand every event but the last to `on_event`; returns (answer, thinking, last event).

        A signal cancels it. Whatever `on_event` raises, a broken pipe say, cancels it too and is raised on.
        """
        parts: dict[str, list[str]] = {"answer": [], "thinking": []}
        stream = self.backend.start(
            prompt.messages, replace(self.params, max_new_tokens=prompt.max_new_tokens)
        )
        self.interrupts.stop = stream.cancel
        if self.interrupts.number is not None:
            stream.cancel()
        try:
            while True:
                for event in stream.wait(_POLL_SECONDS):
                    if isinstance(event, Finished | Failed):
                        return "".join(parts["answer"]), "".join(parts["thinking"]), event
                    if isinstance(event, TextDelta):
                        parts[event.kind].append(event.text)
                    on_event(event)
        except BaseException:
            stream.cancel()
            raise
        finally:
            self.interrupts.stop = lambda: None

    def exit_code(self, last: Finished | Failed) -> int:
        """A signal's code when one ended the answer."""
        if isinstance(last, Failed):
            return exit_codes.FAILED
        if last.reason == "cancelled":
            return self.interrupts.exit_code or exit_codes.INTERRUPTED
        return exit_codes.FAILED if self._misses_schema(last) else exit_codes.OK

    def _misses_schema(self, last: Finished | Failed) -> bool:
        return self.params.grammar is not None and isinstance(last, Finished) and last.reason != "stop"

    def _attach(self, text: str) -> tuple[Attachment, ...]:
        info = self.backend.info
        limit = None if info is None else info.context_tokens
        return tuple(
            load_attachment(reference, self.root, self.backend.count_text_tokens, limit)
            for reference in find_references(text, self.root)
        )

    def fitted(self, conversation: Conversation) -> FittedPrompt:
        """The prompt of the conversation's active path. RequestTooLargeError."""
        info = self.backend.info
        if info is None:
            raise EngineClosedError("the model is not loaded")
        return fit(
            conversation, self.backend, info.context_tokens, self.params.max_new_tokens or info.max_new_tokens
        )

    def _facts(self, prompt: FittedPrompt) -> dict[str, Any]:
        info = self.backend.info
        return {
            "model": None if info is None else info.name,
            "profile": None if info is None else info.profile_name,
            "conversation": None if self.store is None else self.conversation.id,
            "dropped_messages": len(prompt.dropped),
        }

    def save(self) -> None:
        """Write the conversation, if it is one that is saved; that it cannot be written is said, and does no harm."""
        if self.store is None:
            return
        info = self.backend.info
        if info is not None:
            self.conversation.model, self.conversation.profile = info.name, info.profile_name
        try:
            self.store.save_conversation(self.conversation)
        except StoreError as error:
            self.output.warn(f"not saved: {error}")
