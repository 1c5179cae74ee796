"""What is typed while the model loads."""

from __future__ import annotations

import threading

from dsv3chat.app import ChatApp
from dsv3chat.conversation import Conversation
from dsv3chat.fake_backend import FakeBackend, Reply
from dsv3chat.screens.chat import ChatScreen
from dsv3chat.screens.loading import LoadingScreen
from dsv3chat.settings import Settings
from dsv3chat.store import Store
from engine import SamplingParams
from tests.dsv3chat.shown import Shown


class HeldBackend(FakeBackend):
    """Loads when `release` is set."""

    def __init__(self, replies):
        super().__init__(replies)
        self.release = threading.Event()

    def load(self, on_progress):
        self.release.wait(60)
        return super().load(on_progress)


async def test_what_is_sent_and_typed_while_the_model_loads_is_answered_and_stays(tmp_path):
    store = Store(tmp_path / "s.db")
    backend = HeldBackend([Reply("an answer")])
    app = ChatApp(backend, store, Settings(), Conversation(), SamplingParams(), tmp_path)
    shown = Shown(app)
    async with app.run_test(size=(80, 24)) as shown.pilot:
        await shown.until(lambda: isinstance(app.screen, LoadingScreen) and app.screen.is_mounted)
        await shown.press(*"first", "enter", *"dropped", "enter", "escape", "ctrl+u", *"draft")
        await shown.until(lambda: app.screen.prompt.text == "draft")
        backend.release.set()
        await shown.until(lambda: isinstance(app.screen, ChatScreen) and len(app.chat.conversation.path) == 2)
        assert [m.text for m in app.chat.conversation.path] == ["first", "an answer"]
        await shown.until(lambda: app.screen.prompt.text == "draft")
    store.close()
