"""What is sent to the model, one thing after another: a question, the same question again, the request for a summary.

Knows the chat screen's verbs. Whatever is submitted meanwhile waits in the queue, which is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from dsv3chat.attachments import AttachmentError
from dsv3chat.conversation import ChatMessage

if TYPE_CHECKING:
    from dsv3chat.screens.chat import ChatScreen


class Sending:
    """`busy` from the first moment of a send to the end of its answer, the reading of attached files included."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self.busy = False
        self.queue: list[str] = []

    def submit(self, text: str) -> None:
        """Send a text now, or after what runs."""
        screen = self._screen
        if self.busy:
            self.queue.append(text)
            screen.prompt.clear_draft()
            screen.refresh_status()
        else:
            self._begin(self._ask(text))

    def answer_again(self, parent_id: str) -> None:
        """Make another answer to the message `parent_id`; both are kept."""
        self._begin(self._answer_again(parent_id))

    def go_on(self, message: ChatMessage) -> None:
        """Another answer that begins with all of this one's text and goes on from there, the loop guard off."""
        assert message.parent_id is not None
        self._begin(self._answer_again(message.parent_id, message.text))

    def hold(self) -> list[str]:
        """Take the queue away, so that nothing follows what runs; `release` sends it."""
        held, self.queue = self.queue, []
        self._screen.refresh_status()
        return held

    def release(self, held: list[str]) -> None:
        """Send what was held."""
        for text in held:
            self.submit(text)

    def compact(self) -> None:
        """Put a summary in place of the turns so far."""
        self._begin(self._compact())

    def drop(self) -> bool:
        """Take the last queued prompt back: into the input if that is empty, else into the history. False: none waits."""
        screen = self._screen
        if not self.queue:
            return False
        dropped = self.queue.pop()
        if not screen.prompt.text:
            screen.prompt.set_draft(dropped)
        else:
            screen.prompt.add_to_history(dropped)
            screen.say("the queued prompt is dropped; ctrl+r finds it")
        screen.refresh_status()
        return True

    def _begin(self, work: Coroutine[Any, Any, bool]) -> None:
        self.busy = True
        self._screen.run_worker(self._run(work), group="send")

    async def _run(self, work: Coroutine[Any, Any, bool]) -> None:
        try:
            goes_on = await work
            while self.queue:
                if not goes_on:
                    self._give_back()
                    break
                goes_on = await self._ask(self.queue.pop(0))
        finally:
            self.busy = False
            self._screen.refresh_status()

    def _give_back(self) -> None:
        """After a failure the queued prompts go back into the input, or stay in the history, unsent."""
        screen = self._screen
        if not screen.prompt.text:
            screen.prompt.set_draft("\n".join(self.queue))
        for text in self.queue:
            screen.prompt.add_to_history(text)
        self.queue.clear()

    async def _ask(self, text: str) -> bool:
        """Send a question and wait for its answer; whether the queue may go on after it."""
        screen, session = self._screen, self._screen.session
        try:
            attachments = await asyncio.to_thread(session.attach, text)
        except AttachmentError as error:
            screen.say(str(error), "error")
            if not screen.prompt.text:
                screen.prompt.set_draft(text)
            return False
        if screen.prompt.expanded_text.strip("\n") == text:
            screen.prompt.clear_draft()
        screen.prompt.add_to_history(text)
        session.remember_input(text)
        message = session.add_user(text, attachments)
        return await self._answer(message.id)

    async def _answer_again(self, parent_id: str, begins_with: str = "") -> bool:
        self._screen.session.conversation.truncate_to(parent_id)
        self._screen.prompt.focus()
        return await self._answer(parent_id, begins_with)

    async def _answer(self, parent_id: str, begins_with: str = "") -> bool:
        screen = self._screen
        screen.return_to = None
        screen.transcript.picked = None
        screen.show_conversation()
        answer = await screen.answering.answer(parent_id, begins_with)
        return answer.status != "failed"

    async def _compact(self) -> bool:
        screen = self._screen
        if await screen.answering.compact():
            screen.say("the turns so far are summarised; they stay in the saved conversation")
        screen.show_conversation()
        return True
