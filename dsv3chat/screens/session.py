"""The chat behind the chat screen: conversation, store, backend and sampling in one place. Knows no widget's state.

The methods marked "blocking" read files or count tokens; they are called on a worker thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dsv3chat.attachments import find_references, load_attachment
from dsv3chat.backend import ChatBackend, Stream
from dsv3chat.context import FittedPrompt, compaction_draft, fit
from dsv3chat.conversation import Attachment, ChatMessage, Conversation, new_id
from dsv3chat.store import Store, StoreError
from dsv3chat.widgets.message import Entry
from engine import SamplingParams

_LAG_SAMPLES = 200  # ten seconds at 20 Hz


class LagProbe:
    """How late the event loop comes while an answer runs: what a key press has to wait, at worst."""

    def __init__(self) -> None:
        self._late: deque[float] = deque(maxlen=_LAG_SAMPLES)

    def add(self, seconds: float) -> None:
        """A wait that was `seconds` too long."""
        self._late.append(max(0.0, seconds))

    def percentile_ms(self, share: float = 0.95) -> float | None:
        """The percentile over the last ten seconds of answering, in milliseconds; None before the first answer."""
        if not self._late:
            return None
        return 1000 * sorted(self._late)[min(len(self._late) - 1, int(share * len(self._late)))]


@dataclass(frozen=True, slots=True)
class DraftSize:
    """What sending the input would cost."""

    text_tokens: int
    attached_tokens: int


@dataclass(slots=True)
class ChatSession:
    """One conversation with a loaded backend; every change of it goes to the store at once."""

    backend: ChatBackend
    store: Store
    conversation: Conversation
    params: SamplingParams
    root: Path
    used_tokens: int = 0  # of the context, after the last prompt or answer; 0: not known yet
    saved: bool = False
    lag: LagProbe = field(default_factory=LagProbe)
    on_unsaved: Callable[[str], None] = lambda reason: None

    @property
    def context_tokens(self) -> int:
        """What the context holds; 0 before the model is loaded."""
        info = self.backend.info
        return info.context_tokens if info is not None else 0

    @property
    def max_new_tokens(self) -> int:
        """The longest answer: the caller's wish, else the profile's."""
        info = self.backend.info
        return self.params.max_new_tokens or (info.max_new_tokens if info is not None else 1024)

    # -- messages -------------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """The active path, each message with its place among its siblings."""
        found = []
        for message in self.conversation.path:
            siblings = self.conversation.siblings(message.id)
            if message.role == "user" and message.is_summary:
                continue
            place = next(i for i, m in enumerate(siblings) if m.id == message.id)
            found.append(Entry(message, place + 1, len(siblings)))
        return found

    def add_user(self, text: str, attachments: tuple[Attachment, ...]) -> ChatMessage:
        """Append and save what was asked."""
        message = self.conversation.add_user(text, attachments)
        self._save(message)
        return message

    def add_answer(self, draft: ChatMessage) -> ChatMessage:
        """Append and save an ended answer under the id that it was shown with: what was picked stays picked."""
        assert draft.parent_id is not None
        message = self.conversation.add_assistant(
            draft.text,
            draft.parent_id,
            id=draft.id,
            thinking=draft.thinking,
            thinking_tokens=draft.thinking_tokens,
            status=draft.status,
            note=draft.note,
            usage=draft.usage,
        )
        self._save(message)
        if message.usage is not None:
            self.used_tokens = message.usage.prompt_tokens + message.usage.completion_tokens
        return message

    def save_path(self, messages: Sequence[ChatMessage]) -> None:
        """Save messages that were put into the conversation from outside (a summary) and the leaf."""
        self._save(*messages)

    def save_leaf(self) -> None:
        """Remember which path is shown."""
        if self.saved:
            self._save()

    def set_system(self, text: str | None) -> None:
        """Change the system message; None removes it."""
        self.conversation.system = text
        if self.saved:
            self._save()

    def remember_input(self, text: str) -> None:
        """Put what was sent into the history of inputs."""
        try:
            self.store.add_history(text)
        except StoreError as error:
            self.on_unsaved(str(error))

    def take_title(self) -> None:
        """The title may have been changed in the list of sessions."""
        for summary in self.store.list():
            if summary.id == self.conversation.id:
                self.conversation.title = summary.title

    def _save(self, *messages: ChatMessage) -> None:
        """Write messages, head and leaf. What cannot be written is told (`on_unsaved`) and the chat goes on."""
        conversation, info = self.conversation, self.backend.info
        if info is not None:
            conversation.model, conversation.profile = info.name, info.profile_name
        try:
            self.store.save_conversation(conversation)
            for message in messages:
                self.store.save_message(conversation.id, message)
            self.store.set_leaf(conversation.id, conversation.leaf_id)
        except StoreError as error:
            self.saved = False
            self.on_unsaved(str(error))
        else:
            self.saved = True

    def open(self, conversation: Conversation, saved: bool) -> None:
        """Go on with another conversation."""
        self.conversation, self.saved, self.used_tokens = conversation, saved, 0

    def draft_answer(self, parent_id: str) -> ChatMessage:
        """An answer that has no text yet."""
        return ChatMessage(id=new_id(), parent_id=parent_id, role="assistant", text="")

    # -- blocking -------------------------------------------------------------------------------------------------

    def attach(self, text: str) -> tuple[Attachment, ...]:
        """Read every file that the text names with @. Raises AttachmentError. Blocking."""
        limit = self.context_tokens or None
        return tuple(
            load_attachment(reference, self.root, self.backend.count_text_tokens, limit)
            for reference in find_references(text, self.root)
        )

    def measure(self, text: str) -> DraftSize:
        """Tokens of a draft and its files. Raises AttachmentError. Blocking."""
        attached = sum(a.num_tokens for a in self.attach(text))
        return DraftSize(self.backend.count_text_tokens(text), attached)

    def fitted(self, compact: bool = False) -> FittedPrompt:
        """The prompt of the active path, or of the request for its summary. Raises RequestError. Blocking."""
        conversation = compaction_draft(self.conversation) if compact else self.conversation
        return fit(conversation, self.backend, self.context_tokens, self.max_new_tokens)

    def start(self, prompt: FittedPrompt, begins_with: str = "") -> Stream:
        """Begin the answer to a prompt, or go on with one that looped. Raises RequestError. Blocking."""
        params = replace(self.params, max_new_tokens=prompt.max_new_tokens)
        if begins_with:
            written = self.backend.count_text_tokens(begins_with)
            room = self.context_tokens - prompt.prompt_tokens
            params = replace(
                params,
                begins_with=begins_with,
                loop_guard=False,
                max_new_tokens=max(1, min(room, written + prompt.max_new_tokens)),
            )
        return self.backend.start(prompt.messages, params)
