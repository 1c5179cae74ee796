"""The real app over a scripted backend, and waiting for what it shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import dsv3chat.app
from dsv3chat.app import ChatApp
from dsv3chat.conversation import Conversation
from dsv3chat.fake_backend import FakeBackend, Reply
from dsv3chat.sanitize import clean
from dsv3chat.screens.chat import ChatScreen
from dsv3chat.settings import Settings
from dsv3chat.store import Store
from engine import SamplingParams

HELLO = (Reply("Hello."),)


class Chat:
    """A running app and what a test asks of it."""

    def __init__(self, app: ChatApp, pilot) -> None:
        self.app, self.pilot = app, pilot

    @property
    def screen(self) -> ChatScreen:
        return next(s for s in self.app.screen_stack if isinstance(s, ChatScreen))

    @property
    def messages(self):
        return self.app.chat.conversation.path

    async def until(self, condition: Callable[[], object], timeout: float = 20.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"waited in vain; the screen:\n{self.text}"
            await self.pilot.pause(0.02)

    @property
    def text(self) -> str:
        """What stands on the screen now."""
        lines = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in line) for line in lines)

    async def say(self, text: str) -> None:
        self.screen.prompt.set_draft(text)
        await self.until(lambda: self.screen.prompt.text == clean(text))
        await self.pilot.press("enter")

    async def ask(self, text: str):
        """Send and wait for the whole answer."""
        num = len(self.app.chat.conversation.messages) + 2
        await self.say(text)
        await self.until(lambda: len(self.app.chat.conversation.messages) >= num)
        await self.until(lambda: not self.screen.answering.running)
        return self.messages[-1]

    async def generating(self, num_tokens: int = 3) -> None:
        await self.until(lambda: (t := self.screen.answering.turn) is not None and t.num_tokens >= num_tokens)


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`async with chat(replies) as c`: a chat that is past the loading screen."""
    monkeypatch.setattr(dsv3chat.app, "save_setting", lambda key, value: None)
    root = tmp_path / "work"
    root.mkdir()
    stores: list[Store] = []

    @asynccontextmanager
    async def open_chat(
        replies: Sequence[Reply] | Callable = HELLO,
        size: tuple[int, int] = (120, 36),
        conversation: Conversation | None = None,
        settings: Settings | None = None,
        toasts: bool = False,
        **backend,
    ):
        store = Store(tmp_path / "sessions.db")
        stores.append(store)
        app = ChatApp(
            FakeBackend(replies, **backend),
            store,
            settings or Settings(),
            conversation or Conversation(),
            SamplingParams(),
            root,
        )
        async with app.run_test(size=size, notifications=toasts) as pilot:
            opened = Chat(app, pilot)
            await opened.until(lambda: isinstance(app.screen, ChatScreen) and app.screen.is_mounted)
            await opened.until(lambda: "send" in opened.text)
            yield opened

    yield open_chat
    for store in stores:
        store.close()
