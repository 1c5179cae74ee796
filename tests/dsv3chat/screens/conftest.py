"""The real app with a scripted review, and waiting for what it shows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import dsv3chat.app
import dsv3chat.screens.review
from dsv3chat.app import ChatApp
from dsv3chat.conversation import Conversation
from dsv3chat.fake_backend import FakeBackend, Reply
from dsv3chat.screens.chat import ChatScreen
from dsv3chat.screens.review import ReviewScreen
from dsv3chat.settings import Settings
from dsv3chat.store import Store
from engine import SamplingParams
from tests.dsv3chat.screens.scripted_review import ScriptedReview, job_of, make_scope, write_files
from tests.dsv3chat.shown import PATIENCE_S, Shown

YES = (Reply("Yes."),)


class ShownReview(Shown):
    """A running app with a review and what a test asks of it."""

    def __init__(self, app: ChatApp, review: ScriptedReview | None, root: Path) -> None:
        super().__init__(app)
        self.review, self.root = review, root

    @property
    def screen(self) -> ReviewScreen:
        screen = self.app.reviews.screen
        assert screen is not None
        return screen

    @property
    def chat(self) -> ChatScreen:
        return next(s for s in self.app.screen_stack if isinstance(s, ChatScreen))

    async def ended(self) -> None:
        """Until the review has ended and its end was taken; what it draws comes later."""
        await self.until(lambda: self.screen.is_mounted and not self.screen.session.running)
        await self.until(lambda: not self.screen.polls)


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`async with opened() as s`: the app as `dsv3chat review` opens it, over files on the disk."""
    monkeypatch.setattr(dsv3chat.app, "save_setting", lambda key, value: None)
    monkeypatch.setattr(
        dsv3chat.screens.review, "LEAVE_S", PATIENCE_S
    )  # a slow machine presses esc twice, too
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
        shown = ShownReview(app, review, root)
        async with app.run_test(size=size, notifications=toasts) as shown.pilot:
            if alone:
                await shown.until(lambda: app.reviews.screen is not None and shown.screen.is_mounted)
            if alone and review.hold is None and wait:
                await shown.ended()
            yield shown
            review.stop()

    yield open_review
    for store in stores:
        store.close()
