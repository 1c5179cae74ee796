"""Thinking and answer, told apart by token id (`<think>`, `</think>`). Knows no text.

Text that merely looks like a tag is not one: only the two control tokens switch.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.events import TextKind


class ThinkingSplitter:
    """The kind of each token of an answer. It starts as the prompt leaves it: templates may open the thinking."""

    def __init__(self, open_id: int, close_id: int, prompt_ids: Sequence[int] = ()) -> None:
        self._open_id = open_id
        self._close_id = close_id
        self.kind: TextKind = "answer"
        for token_id in reversed(prompt_ids):
            if self.switches(token_id):
                self.push(token_id)
                break

    def switches(self, token_id: int) -> bool:
        """Whether this token is one of the two tags, which have no text of their own."""
        return token_id in (self._open_id, self._close_id)

    def push(self, token_id: int) -> TextKind:
        """Take the next token; the kind of the text that follows, which is this token's own unless it is a tag."""
        if token_id == self._open_id:
            self.kind = "thinking"
        elif token_id == self._close_id:
            self.kind = "answer"
        return self.kind
