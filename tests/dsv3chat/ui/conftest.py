"""The real app over a scripted backend, and waiting for what it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import dsv3chat.app
import dsv3chat.screens.chat
from dsv3chat.app import ChatApp
from dsv3chat.conversation import Conversation
from dsv3chat.fake_backend import FakeBackend, Reply
from dsv3chat.sanitize import clean
from dsv3chat.screens.chat import ChatScreen
from dsv3chat.settings import Settings
from dsv3chat.store import Store
from engine import SamplingParams
from tests.dsv3chat.shown import PATIENCE_S, Shown

HELLO = (Reply("Hello."),)


class Chat(Shown):
    """A running chat and what a test asks of it."""

    @property
    def screen(self) -> ChatScreen:
        return next(s for s in self.app.screen_stack if isinstance(s, ChatScreen))

    @property
    def messages(self):
        return self.app.chat.conversation.path

    async def say(self, text: str) -> None:
        self.screen.prompt.set_draft(text)
        await self.until(lambda: self.screen.prompt.text == clean(text))
        await self.press("enter")

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
    monkeypatch.setattr(
        dsv3chat.screens.chat, "QUIT_S", PATIENCE_S
    )  # a slow machine presses ctrl+c twice, too
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
        opened = Chat(app)
        async with app.run_test(size=size, notifications=toasts) as opened.pilot:
            await opened.until(lambda: isinstance(app.screen, ChatScreen) and app.screen.is_mounted)
            await opened.shows("send")
            yield opened

    yield open_chat
    for store in stores:
        store.close()
