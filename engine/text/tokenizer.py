"""Text and messages to token ids and back. Knows no tensors and no sampling.

Only the chat template makes control tokens. What looks like one in a message, a file or a diff is text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from engine.errors import PromptError
from engine.events import Message
from engine.text.detokenizer import Detokenizer, TokenBytes
from engine.text.template import ChatTemplate
from engine.text.thinking import ThinkingSplitter
from engine.text.tokenizer_file import TokenizerFile, read_tokenizer, without_prefix_space

_THINK_TAGS = (("<think>", "</think>"), ("◁think▷", "◁/think▷"))
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLACEHOLDERS = range(0xF0000, 0xFFFFE)  # a private-use plane


class Tokenizer:
    """A checkpoint's tokenizer and chat template.

    num_ids: one past the largest id it knows; a model's padded vocabulary goes further.
    special_ids: ids of the control tokens, which decode to nothing.
    beginning_ids: the beginning-of-sequence token before a text of its own, where tokenizer_config.json wants one there.
    think_ids: the ids of the tags that open and close thinking, None where the model has none.
    """

    def __init__(self, file: TokenizerFile) -> None:
        self._backend = file.backend
        self._mark_of = {control.content: control.mark for control in file.controls}
        self._name_of = {control.id: control.content for control in file.controls}
        longest_first = sorted(self._mark_of, key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        ends = {char for content in self._mark_of for char in (content[0], content[-1])}
        self._ends = sorted(char for char in ends if not char.isspace())
        self.num_ids = file.num_ids
        self.special_ids = frozenset(self._name_of)
        self.bos_token = file.named.get("bos_token")
        self.eos_token = file.named.get("eos_token")
        self._token_bytes = TokenBytes(file.decoder, self._backend.id_to_token, self.special_ids)
        self._template = ChatTemplate.find(file.folder, file.config, file.named)
        id_of = {control.content: control.id for control in file.controls}
        begins = file.config.get("add_bos_token") is True and self.bos_token in id_of
        self.beginning_ids: tuple[int, ...] = (id_of[self.bos_token],) if begins and self.bos_token else ()
        self.think_ids: tuple[int, int] | None = next(
            ((id_of[start], id_of[end]) for start, end in _THINK_TAGS if start in id_of and end in id_of),
            None,
        )

    @classmethod
    def open(cls, folder: Path) -> Tokenizer:
        """Read tokenizer.json or tiktoken.model and the template beside it; errors as `read_tokenizer`."""
        return cls(read_tokenizer(folder))

    def encode_text(self, text: str) -> list[int]:
        """Ids of plain text: no beginning-of-sequence token, and no control token whatever the text says."""
        ids: list[int] = self._backend.encode(_encodable(text, "the text"), add_special_tokens=False).ids
        return ids

    def encode_chat(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> list[int]:
        """Ids of the conversation as the checkpoint's template writes it; PromptError when the template refuses.

        In the contents, every character that begins or ends some control token is a private-use placeholder while
        the template renders. What reads as a control token afterwards was written by the template; then the placeholders
        turn back, and the whole prompt is encoded at once, so that merges across the borders of messages are right.
        """
        contents = [
            _encodable(message.content, f"message {n}") for n, message in enumerate(messages, start=1)
        ]
        used = set(self._template.source).union(*contents)
        free = (chr(code) for code in _PLACEHOLDERS if chr(code) not in used)
        hidden = str.maketrans(dict(zip(self._ends, free, strict=False)))
        shown = {ord(placeholder): chr(char) for char, placeholder in hidden.items()}
        prompt = self._template.render(
            [
                {"role": message.role, "content": content.translate(hidden)}
                for message, content in zip(messages, contents, strict=True)
            ],
            add_generation_prompt,
        )
        marked = self._controls.sub(lambda match: self._mark_of[match[0]], prompt)
        return self.encode_text(marked.translate(shown))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; control tokens have none, bytes that are no UTF-8 are U+FFFD."""
        detokenizer = self.detokenizer()
        return detokenizer.push(ids) + detokenizer.flush()

    def detokenizer(self) -> Detokenizer:
        """A decoder for ids that arrive one by one."""
        return Detokenizer(self._token_bytes)

    def thinking_splitter(self, prompt_ids: Sequence[int]) -> ThinkingSplitter | None:
        """A splitter that starts as the prompt leaves it; None for a model without thinking tags."""
        return None if self.think_ids is None else ThinkingSplitter(*self.think_ids, prompt_ids)

    def continuation_encoder(self) -> Callable[[str], list[int]]:
        """As `encode_text`, for text that goes on where other text ends: nothing is put before it."""
        backend = without_prefix_space(self._backend)

        def encode(text: str) -> list[int]:
            ids: list[int] = backend.encode(text, add_special_tokens=False).ids
            return ids

        return encode

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for inside a text; none for control tokens and gaps."""
        return self._token_bytes.of(token_id)

    def token_text(self, token_id: int) -> str:
        """One token as a person may see it: a control token's name, else its text (U+FFFD for part of a character)."""
        return self._name_of.get(token_id) or self._token_bytes.of(token_id).decode("utf-8", "replace")


def _encodable(text: str, what: str) -> str:
    if match := _SURROGATE.search(text):
        raise PromptError(
            f"{what} holds U+{ord(match[0]):04X} at character {match.start()}, half of a surrogate pair, which no encoding "
            "of text has; it comes from bytes that are no UTF-8: remove it"
        )
    return text
