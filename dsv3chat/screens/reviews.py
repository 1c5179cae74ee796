"""The review that a program has open, and the way between it and the chat. Knows both screens by their verbs.

A review's screen stays alive while the chat is shown: the review goes on, and F3 comes back to it as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsv3chat.review.values import Report
from dsv3chat.sanitize import clean
from dsv3chat.screens.chat import ChatScreen
from dsv3chat.screens.loading import LoadingScreen
from engine import EngineError

if TYPE_CHECKING:
    from dsv3chat.app import ChatApp
    from dsv3chat.screens.review import ReviewScreen
    from dsv3chat.screens.review_job import Prepare
    from dsv3chat.screens.review_session import ReviewSession


class Reviews:
    """At most one review. `alone`: the program was started for it, and leaving it leaves the program."""

    def __init__(self, app: ChatApp, alone: bool) -> None:
        self._app = app
        self.alone = alone
        self.session: ReviewSession | None = None
        self.screen: ReviewScreen | None = None
        self._num_opened = 0

    @property
    def error(self) -> Exception | None:
        """What the review failed with."""
        return self.session.error if self.session is not None else None

    def open(self, prepare: Prepare) -> None:
        """Begin a review; one that still runs is stopped."""
        from dsv3chat.screens.review import ReviewScreen  # a chat without a review starts without it
        from dsv3chat.screens.review_session import ReviewSession

        old, app = self.screen, self._app
        if self.session is not None:
            self.session.stop()
        self._num_opened += 1
        self.session = ReviewSession(prepare, app.backend)
        self.screen = ReviewScreen(self.session, self)
        app.install_screen(self.screen, f"review {self._num_opened}")
        app.push_screen(self.screen)
        if old is not None and old not in app.screen_stack:
            app.uninstall_screen(old)
            old.remove()

    def show(self) -> bool:
        """Show the review that there is. False: there is none."""
        if self.screen is None or self.screen in self._app.screen_stack:
            return False
        self._app.push_screen(self.screen)
        return True

    @property
    def chat(self) -> ChatScreen | None:
        """The chat's screen, if it was opened."""
        return next((s for s in self._app.screen_stack if isinstance(s, ChatScreen)), None)

    def to_chat(self, draft: str = "") -> None:
        """Show the chat, the draft in its input; where there is none yet, open it, the model loaded first if it must."""
        app, chat = self._app, self.chat
        if chat is not None:
            app.pop_screen()
            if draft:
                chat.take_draft(draft)
        elif app.backend.info is not None:
            chat = ChatScreen(app.chat, draft)
            app.switch_screen(chat)
        elif self.session is not None and self.session.running:
            self._app.notify("the model is still loading; d again when it is there", markup=False)
        else:
            loading = LoadingScreen(draft)
            app.switch_screen(loading)
            app.load()

    def take_back(self, error: EngineError) -> bool:
        """The model did not load for the chat: show the review again. False: there is none."""
        if self.screen is None:
            return False
        self._app.switch_screen(self.screen)
        self._app.notify(clean(f"no chat: {error}"), severity="error", markup=False, timeout=8)
        return True

    @property
    def leaves_program(self) -> bool:
        """Whether there is no chat to go back to."""
        return self.alone and self.chat is None

    def leave(self) -> None:
        """Back to the chat, or out of the program that was started for the review alone."""
        if self.leaves_program:
            self._app.exit()
        else:
            self._app.pop_screen()

    def ended(self, screen: ReviewScreen) -> None:
        """The review of a screen ended. A first run that failed ends the program that was started for it."""
        session = screen.session
        if session.error is not None:
            if self.leaves_program and not session.has_earlier:
                self._app.exit(return_code=0)
            else:
                self._app.notify(
                    clean(f"no review: {session.error}"), severity="error", markup=False, timeout=8
                )
        elif self._app.screen is not screen and session.state.report is not None:
            num = len(session.state.report.new_findings)
            text = f"the review has ended with {num} finding{'' if num == 1 else 's'}; F3 shows it"
            self._app.notify(text, markup=False)

    def stop(self) -> None:
        """The program ends: so does a running review."""
        if self.session is not None:
            self.session.stop()

    def finish(self) -> Report | None:
        """Stop, wait for the end, and return the report; None when no review began."""
        return self.session.finish() if self.session is not None else None
