"""A running app and what a test asks of it: keys, what stands on the screen, what was told. Knows no screen of ours.

What a key, a thread or a timer causes comes later than the call that began it. A test therefore waits for what it wants
to see (`until`, `shows`, `tells`) and asserts at once only what cannot change any more.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable

from textual.app import App
from textual.events import Key
from textual.keys import _character_to_key
from textual.pilot import Pilot

PATIENCE_S = 180.0  # only a test that fails waits so long
_POLL_S = 0.01
_SETTLING_ROUNDS = (
    3  # a key's message, the message that it causes, what is done after the screen was drawn anew
)


class Shown:
    """Wraps a pilot; its keys do not wait for an idle processor, which on a busy machine says nothing."""

    pilot: Pilot  # set when the app runs

    def __init__(self, app: App) -> None:
        self.app = app
        self._told: list[str] = []
        notify = app.notify

        def listen(message: str, **more) -> None:
            self._told.append(message)
            notify(message, **more)

        app.notify = listen  # type: ignore[method-assign]  # notices are gone after seconds, and a test may come later

    async def press(self, *keys: str) -> None:
        """Press keys; each finds what the one before it did."""
        for key in keys:
            name = _character_to_key(key) if len(key) == 1 and not key.isalnum() else key
            self.app.post_message(Key(name, key if len(key) == 1 else None))
            await self.settle()

    async def settle(self) -> None:
        """Until the screen and its parts have done what was in their queues, and what that caused."""
        for _ in range(_SETTLING_ROUNDS):
            if not self.app.screen_stack:
                return
            await self.pilot._wait_for_screen()
            await self.app.animator.wait_until_complete()
            if self.app.screen_stack:
                self.app.screen._on_timer_update()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for `condition`."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if self.app._exception is not None:
                raise self.app._exception
            assert time.monotonic() < end, f"waited in vain for{_source(condition)}\nThe screen:\n{self.text}"
            await asyncio.sleep(_POLL_S)

    async def shows(self, *words: str) -> None:
        """Wait until all the words stand on the screen."""
        await self.until(lambda: _all_in(words, self.text))

    async def tells(self, words: str) -> None:
        """Wait for a notice."""
        await self.until(lambda: self.told(words))

    def told(self, words: str = "") -> bool:
        """Whether a notice with these words has come, gone or not."""
        return any(words in message for message in self._told)

    @property
    def text(self) -> str:
        """What stands on the screen now."""
        if not self.app.screen_stack:
            return ""
        lines = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in line) for line in lines)


def _all_in(words: tuple[str, ...], text: str) -> bool:
    return all(word in text for word in words)


def _source(condition: Callable[[], object]) -> str:
    try:
        return "\n" + inspect.getsource(condition).strip()
    except OSError:
        return ""
