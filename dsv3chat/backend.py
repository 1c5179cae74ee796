"""The seam between what a person sees and what runs the model. Front ends know this protocol only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from engine import (
    Event,
    LoadProgress,
    Message,
    ModelInfo,
    Profile,
    SamplingParams,
    StepStats,
    SwitchPlan,
)


class Stream(Protocol):
    """A running answer. All methods return at once and may be called from any thread."""

    def drain(self) -> list[Event]:
        """Every event since the last call, in order; the last one of a stream is Finished or Failed."""

    def wait(self, timeout: float | None = None) -> list[Event]:
        """Like drain, but blocks until at least one event is there or `timeout` seconds have passed."""

    def cancel(self) -> None:
        """Stop at the next step. Idempotent; the stream still ends with Finished(reason="cancelled") or what came first."""


class ChatBackend(Protocol):
    """A model that answers. `load`, `plan_switch` and `switch` block (call them on a worker thread); everything else
    returns at once."""

    def load(self, on_progress: Callable[[LoadProgress], None]) -> ModelInfo:
        """Raises EngineError with a message fit for a person; LoadCancelledError after cancel_load()."""

    def cancel_load(self) -> None:
        """Make a running `load` raise soon."""

    @property
    def info(self) -> ModelInfo | None:
        """None before `load` returned."""

    @property
    def profile(self) -> Profile:
        """What runs, or would after `load`."""

    def plan_switch(self, profile: Profile) -> SwitchPlan:
        """What `switch` would keep, read and free. Raises PlacementError with the reason when it would be refused."""

    def switch(
        self,
        profile: Profile,
        on_progress: Callable[[LoadProgress], None],
        cancelled: Callable[[], bool],
    ) -> ModelInfo:
        """Run the same model under another profile; answers that still run fail. After any error but EngineClosedError
        the former profile answers; LoadCancelledError once `cancelled` is True."""

    def start(self, messages: Sequence[Message], params: SamplingParams) -> Stream:
        """Begin an answer. Raises RequestError when it can never run (too large, a bad message)."""

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt these messages become, template included."""

    def count_text_tokens(self, text: str) -> int:
        """Tokens of a bare text, for the size of an attachment."""

    def stats(self) -> StepStats | None:
        """The engine's latest step, None when unknown."""

    def close(self) -> None:
        """End every answer and free the memory. Idempotent."""
