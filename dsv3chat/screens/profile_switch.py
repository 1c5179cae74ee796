"""Another profile in the middle of a chat: from the key, the command or a looping answer to the words at the end.

Knows the chat screen's verbs and the backend's protocol.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from dsv3chat.profile_choices import Catalogue, Choice, read_catalogue
from dsv3chat.widgets.message import grouped
from dsv3chat.widgets.profile_rows import Situation
from engine import EngineClosedError, EngineError, LoadCancelledError, LoadProgress, SwitchPlan

if TYPE_CHECKING:
    from dsv3chat.screens.chat import ChatScreen

_POLL_S = 0.02


class ProfileSwitch:
    """The chat's side of the profile dialog."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self._since = time.time()  # answers from here on ran under the loaded profile
        self.say = screen.say

    # -- ways in --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """The dialog."""
        from dsv3chat.screens.profiles import (
            ProfilesScreen,
        )  # a chat that stays with its profile starts without it

        if not self._waits_for_review():
            self._screen.app.push_screen(ProfilesScreen(self))

    async def choose(self, name: str) -> None:
        """Switch to a profile by name, or say why not."""
        if not self._waits_for_review():
            self._choose(await asyncio.to_thread(self.catalogue), name)

    async def widen_attention(self) -> None:
        """Switch to the nearest profile whose attention is at 8 bit or wider: the cure of an answer that loops."""
        if self._waits_for_review():
            return
        catalogue = await asyncio.to_thread(self.catalogue)
        choice = catalogue.wider_attention()
        if choice is None:
            self.say(
                "the attention is at 8 bit or wider already, or no profile that fits has it so", "warning"
            )
        else:
            self._choose(catalogue, choice.name)

    def _choose(self, catalogue: Catalogue, name: str) -> None:
        from dsv3chat.screens.profiles import ProfilesScreen

        choice = catalogue.named(name)
        if choice is None:
            known = ", ".join(each.name for each in catalogue.choices)
            self.say(f"there is no profile {name}; known: {known}", "warning")
        elif choice.refusal:
            self.say(f"{name} cannot be chosen: {choice.refusal}", "warning")
        elif choice.loaded:
            self.say(f"{name} is loaded")
        else:
            self._screen.app.push_screen(ProfilesScreen(self, catalogue, name))

    def _waits_for_review(self) -> bool:
        session = self._screen.reviews.session
        running = session is not None and session.running
        if running:
            self.say("a review is running under this profile; end it first (F3, esc)", "warning")
        return running

    # -- for the dialog -------------------------------------------------------------------------------------------

    def catalogue(self) -> Catalogue:
        """Blocking."""
        return read_catalogue(self._screen.session.backend)

    def plan(self, choice: Choice) -> SwitchPlan:
        """Raises PlacementError. Blocking."""
        assert choice.profile is not None
        return self._screen.session.backend.plan_switch(choice.profile)

    def situation(self) -> Situation:
        """As of now."""
        screen = self._screen
        own = [m.usage for m in screen.session.conversation.path if m.created >= self._since and m.usage]
        rates = [usage.decode_tokens_per_s for usage in own if usage.decode_tokens_per_s is not None]
        turn = screen.answering.turn
        now = turn.tokens_per_s if turn is not None else None
        measured = now if now is not None else rates[-1] if rates else None
        return Situation(measured, screen.sending.busy, screen.session.used_tokens)

    async def switch(
        self, choice: Choice, on_progress: Callable[[LoadProgress], None], cancelled: Callable[[], bool]
    ) -> None:
        """Stop the answer, switch, then send what waited. Raises EngineError; the former profile is there again then."""
        screen, profile = self._screen, choice.profile
        assert profile is not None
        waiting = screen.sending.hold()
        try:
            screen.answering.stop()
            while screen.sending.busy:
                await asyncio.sleep(_POLL_S)
            if cancelled():
                raise LoadCancelledError("the switch was stopped before it began")
            info = await asyncio.to_thread(screen.session.backend.switch, profile, on_progress, cancelled)
            self._since = time.time()
            tokens = screen.session.used_tokens
            screen.switched()
        finally:
            screen.sending.release(waiting)
        again = f"; {grouped(tokens)} tokens are read again with the next question" if tokens else ""
        self.say(f"profile {info.profile_name} runs now{again}")

    def failed(self, choice: Choice, error: EngineError) -> str:
        """What happened and what runs, in words."""
        before = self._screen.session.backend.profile.name
        if isinstance(error, EngineClosedError):
            return f"{error}; the conversation is saved, start dsv3chat again"
        if isinstance(error, LoadCancelledError):
            return f"the switch to {choice.name} was cancelled; {before} answers as before"
        return f"no switch to {choice.name}: {error}; {before} answers as before"
