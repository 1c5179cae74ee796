"""The real app with a scripted review, and waiting for what it shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import dsv3chat.app
from dsv3chat.app import ChatApp
from dsv3chat.conversation import Conversation
from dsv3chat.fake_backend import FakeBackend, Reply
from dsv3chat.screens.chat import ChatScreen
from dsv3chat.screens.review import ReviewScreen
from dsv3chat.settings import Settings
from dsv3chat.store import Store
from engine import SamplingParams
from tests.dsv3chat.screens.scripted_review import ScriptedReview, job_of, make_scope, write_files

YES = (Reply("Yes."),)


class Shown:
    """A running app with a review and what a test asks of it."""

    def __init__(self, app: ChatApp, pilot, review: ScriptedReview | None, root: Path) -> None:
        self.app, self.pilot, self.review, self.root = app, pilot, review, root

    @property
    def screen(self) -> ReviewScreen:
        screen = self.app.reviews.screen
        assert screen is not None
        return screen

    @property
    def chat(self) -> ChatScreen:
        return next(s for s in self.app.screen_stack if isinstance(s, ChatScreen))

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def until(self, condition: Callable[[], object], timeout: float = 20.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"waited in vain; the screen:\n{self.text}"
            await self.pilot.pause(0.02)

    async def ended(self) -> None:
        """Until the review has ended and its end is shown."""
        timer = lambda: self.screen.is_mounted and not self.screen.polls  # noqa: E731
        await self.until(lambda: not self.screen.session.running and timer())

    @property
    def text(self) -> str:
        """What stands on the screen now."""
        lines = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in line) for line in lines)

    def said(self, words: str) -> bool:
        return any(words in str(n.message) for n in self.app._notifications)


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`async with opened() as s`: the app as `dsv3chat review` opens it, over files on the disk."""
    monkeypatch.setattr(dsv3chat.app, "save_setting", lambda key, value: None)
    monkeypatch.setenv("DSV3CHAT_STATE_DIR", str(tmp_path / "state"))
    root = tmp_path / "work"
    root.mkdir()
    stores: list[Store] = []

    @asynccontextmanager
    async def open_review(
        review: ScriptedReview | None = None,
        size: tuple[int, int] = (120, 36),
        settings: Settings | None = None,
        prepare: Callable | None = None,
        loaded: bool = True,
        alone: bool = True,
        replies=YES,
        toasts: bool = False,
        wait: bool = True,
        **job,
    ):
        store = Store(tmp_path / "sessions.db")
        stores.append(store)
        review = review or ScriptedReview(make_scope(root))
        if review.scope.root == root:
            write_files(review.scope)
        backend = FakeBackend(replies)
        if loaded:
            backend.load(lambda progress: None)
        prepare = prepare or (lambda on_load: job_of(review, **job))
        app = ChatApp(
            backend,
            store,
            settings or Settings(),
            Conversation(),
            SamplingParams(),
            root,
            review=prepare if alone else None,
        )
        async with app.run_test(size=size, notifications=toasts) as pilot:
            shown = Shown(app, pilot, review, root)
            if alone:
                await shown.until(lambda: app.reviews.screen is not None and shown.screen.is_mounted)
            if alone and review.hold is None and wait:
                await shown.ended()
            yield shown
            review.stop()

    yield open_review
    for store in stores:
        store.close()
