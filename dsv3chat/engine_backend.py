"""The in-process engine behind the ChatBackend protocol. Knows no screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dsv3chat.backend import Stream
from engine import LoadProgress, Message, ModelInfo, Profile, SamplingParams, StepStats


class EngineBackend:
    """`model` is a folder, a built model's name, `nano` or a hub id; nothing is read before `load`."""

    def __init__(self, model: str, profile: Profile) -> None:
        self.model = model
        self.profile = profile

    def load(self, on_progress: Callable[[LoadProgress], None]) -> ModelInfo:
        """Find (for nano: build) the model and load it."""
        raise NotImplementedError

    def cancel_load(self) -> None:
        """Make a running `load` raise LoadCancelledError soon."""
        raise NotImplementedError

    @property
    def info(self) -> ModelInfo | None:
        """None before `load` returned."""
        raise NotImplementedError

    def start(self, messages: Sequence[Message], params: SamplingParams) -> Stream:
        """Begin an answer."""
        raise NotImplementedError

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt these messages become."""
        raise NotImplementedError

    def count_text_tokens(self, text: str) -> int:
        """Tokens of a bare text."""
        raise NotImplementedError

    def stats(self) -> StepStats | None:
        """None when nothing is loaded."""
        raise NotImplementedError

    def close(self) -> None:
        """Idempotent."""
        raise NotImplementedError
