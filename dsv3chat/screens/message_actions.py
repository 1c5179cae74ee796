"""What can be done with a message: copy, edit, answer again, branch, show its other versions. Knows the chat screen's verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsv3chat.conversation import ChatMessage
from dsv3chat.widgets.message import grouped
from dsv3chat.widgets.transcript import Transcript

if TYPE_CHECKING:
    from dsv3chat.screens.chat import ChatScreen


class MessageActions:
    """Carries out Transcript.Acted and the commands about the last message."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen

    def perform(self, event: Transcript.Acted) -> None:
        """Do it, or say why not."""
        screen = self._screen
        message = screen.session.conversation.messages.get(event.message_id)
        if message is None:
            return
        match event.action:
            case "copy":
                self.copy(message.text, "the message")
            case "code":
                self._copy_code(event.message_id, event.argument)
            case _ if screen.sending.busy:
                screen.say("an answer is running; esc stops it", "warning")
            case "regenerate":
                parent = message.parent_id if message.role == "assistant" else message.id
                if parent is not None and not message.is_summary:
                    screen.sending.answer_again(parent)
            case "go_on" | "widen" if message.status != "looping":
                screen.say("this answer did not loop")
            case "go_on" if message.thinking or not message.text:
                screen.say("an answer that thought cannot be gone on with; r makes another one")
            case "go_on":
                screen.sending.go_on(message)
            case "widen":
                screen.run_worker(screen.profiles.widen_attention())
            case "edit" | "branch" if message.role == "user":
                self._go_on_from(message.parent_id)
                screen.prompt.set_draft(message.text if event.action == "edit" else "")
            case "edit":
                screen.say("an answer cannot be edited; r makes another one")
            case "branch":
                self._go_on_from(message.id)
            case "previous" | "next":
                self._switch(message, -1 if event.action == "previous" else 1)

    def regenerate_last(self) -> None:
        """Answer the last question again."""
        last = self._last("user")
        if last is None or last.is_summary:
            self._screen.say("there is no question to answer again")
        else:
            self._screen.sending.answer_again(last.id)

    def copy_last_answer(self) -> None:
        """Copy the last answer's Markdown."""
        last = self._last("assistant")
        if last is None:
            self._screen.say("there is no answer yet")
        else:
            self.copy(last.text, "the last answer")

    def _last(self, role: str) -> ChatMessage | None:
        return next((m for m in reversed(self._screen.session.conversation.path) if m.role == role), None)

    def copy(self, text: str, what: str) -> None:
        """Put text into the terminal's clipboard (OSC 52)."""
        self._screen.app.copy_to_clipboard(text)
        self._screen.say(f"{what} is copied ({grouped(len(text))} characters)")

    def _copy_code(self, message_id: str, number: int | None) -> None:
        transcript = self._screen.transcript
        entry = transcript.entry(message_id)
        blocks = entry.body.code_blocks if entry is not None else []
        if not blocks:
            self._screen.say("there is no code in this message")
            return
        number = transcript.next_code(message_id, len(blocks)) if number is None else number
        of = f" {number + 1} of {len(blocks)}" if len(blocks) > 1 else ""
        self.copy(blocks[number], f"code block{of}")

    def _go_on_from(self, message_id: str | None) -> None:
        screen = self._screen
        screen.return_to = screen.return_to or screen.session.conversation.leaf_id
        screen.session.conversation.truncate_to(message_id)
        screen.transcript.picked = None
        screen.show_conversation()
        screen.prompt.focus()

    def go_back(self) -> bool:
        """Undo `edit` or `branch`. False when there is nothing to undo."""
        screen = self._screen
        if screen.return_to is None:
            return False
        screen.session.conversation.truncate_to(screen.return_to)
        screen.return_to = None
        screen.prompt.clear_draft()
        screen.show_conversation()
        return True

    def _switch(self, message: ChatMessage, step: int) -> None:
        screen, conversation = self._screen, self._screen.session.conversation
        siblings = conversation.siblings(message.id)
        place = next(i for i, m in enumerate(siblings) if m.id == message.id)
        chosen = siblings[(place + step) % len(siblings)]
        if chosen.id == message.id:
            return
        screen.return_to = None
        conversation.select(chosen.id)
        screen.session.save_leaf()
        screen.session.used_tokens = 0
        screen.show_conversation(keep_position=True)
        screen.transcript.picked = chosen.id
