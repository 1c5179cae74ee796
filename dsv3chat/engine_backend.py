"""The in-process engine behind the ChatBackend protocol. Knows no screen and imports no tensor before `load`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dsv3chat.backend import Stream
from engine import (
    EngineClosedError,
    LoadCancelledError,
    LoadProgress,
    Message,
    ModelInfo,
    Profile,
    SamplingParams,
    StepStats,
    SwitchPlan,
)

if TYPE_CHECKING:
    from engine import Engine


class EngineBackend:
    """`model` is a folder, a built model's name, `nano` or a hub id; nothing is read before `load`.

    `notes` are said with those of the engine.
    """

    def __init__(self, model: str, profile: Profile, notes: Sequence[str] = ()) -> None:
        self.model = model
        self._notes = tuple(notes)
        self.profile = profile
        self._engine: Engine | None = None
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._closed = False

    def load(self, on_progress: Callable[[LoadProgress], None]) -> ModelInfo:
        """Find (for nano: build) the model and load it. Once it has returned, it returns the same again.

        Raises EngineError; LoadCancelledError after cancel_load(), also one that came before. Each stops one load: the
        next call loads anew, except after close().
        """
        if self._engine is not None:
            return self._info(self._engine)
        try:
            return self._info(self._open(on_progress))
        finally:
            self._cancelled.clear()

    def _open(self, on_progress: Callable[[LoadProgress], None]) -> Engine:
        on_progress(LoadProgress("starting"))
        from dsv3chat.models import resolve_model
        from engine import Engine  # torch: seconds, and on the thread that called

        path = resolve_model(self.model, on_progress, self._is_cancelled)
        engine = Engine.open(
            path, self.profile, on_progress=on_progress, cancelled=self._is_cancelled, needs_text=True
        )
        with self._lock:
            if self._is_cancelled():
                engine.close()
                raise LoadCancelledError(f"the loading of {self.model} was stopped")
            self._engine = engine
        return engine

    def _is_cancelled(self) -> bool:
        return self._closed or self._cancelled.is_set()

    def cancel_load(self) -> None:
        """Make a running `load`, or the next one, raise LoadCancelledError soon."""
        self._cancelled.set()

    @property
    def info(self) -> ModelInfo | None:
        """None before `load` returned."""
        return None if self._engine is None else self._info(self._engine)

    def _info(self, engine: Engine) -> ModelInfo:
        return replace(engine.info, notes=(*self._notes, *engine.info.notes)) if self._notes else engine.info

    def plan_switch(self, profile: Profile) -> SwitchPlan:
        """What `switch` would keep, read and free. PlacementError when it would be refused."""
        return self._loaded().plan_switch(profile)

    def switch(
        self,
        profile: Profile,
        on_progress: Callable[[LoadProgress], None],
        cancelled: Callable[[], bool],
    ) -> ModelInfo:
        """Another profile for the loaded model, see `Engine.switch`; `close` stops it too."""
        engine = self._loaded()
        engine.switch(profile, on_progress, lambda: self._closed or cancelled())
        self.profile = profile
        return self._info(engine)

    def start(self, messages: Sequence[Message], params: SamplingParams) -> Stream:
        """Begin an answer. RequestError when it can never run, EngineClosedError before `load` and after `close`."""
        return self._loaded().submit(messages, params)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt these messages become, template included."""
        return self._loaded().count_tokens(messages)

    def count_text_tokens(self, text: str) -> int:
        """Tokens of a bare text."""
        return self._loaded().count_text_tokens(text)

    def stats(self) -> StepStats | None:
        """The engine's latest step, None when nothing is loaded."""
        engine = self._engine
        return None if engine is None or self._closed else engine.stats()

    def close(self) -> None:
        """End every answer and free the memory; a running `load` is stopped. Idempotent."""
        with self._lock:
            self._closed = True
            engine = self._engine
        if engine is not None:
            engine.close()

    def _loaded(self) -> Engine:
        if self._engine is None:
            raise EngineClosedError(f"{self.model} is not loaded")
        return self._engine
