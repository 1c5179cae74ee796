"""The draft in the input: its size, its completion, the history, the editor. Knows the chat screen's verbs and no answer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from textual.timer import Timer

from dsv3chat.attachments import AttachmentError
from dsv3chat.screens.completing import Completing
from dsv3chat.screens.editor import EditorError, edit_text
from dsv3chat.screens.history import HistoryScreen
from dsv3chat.screens.session import DraftSize
from dsv3chat.widgets.prompt import Prompt
from engine import EngineError

if TYPE_CHECKING:
    from dsv3chat.screens.chat import ChatScreen

DRAFT_S = 0.4  # of no typing, before the draft's tokens are counted


class Drafting:
    """What happens to the text before it is sent."""

    def __init__(self, screen: ChatScreen, completing: Completing) -> None:
        self._screen = screen
        self.completing = completing
        self._timer: Timer | None = None
        self._size: DraftSize | None = None

    @property
    def size(self) -> DraftSize | None:
        """What sending the input would cost; None while it is empty or not counted."""
        return self._size if self._screen.prompt.text else None

    def typed(self) -> None:
        """The text changed: offer completions now, count its tokens when the typing pauses."""
        screen = self._screen
        self.completing.typed()
        if self._timer is not None:
            self._timer.stop()
        self._timer = screen.set_timer(DRAFT_S, self._measure) if screen.prompt.text else None
        if not screen.prompt.text:
            self._size = None
            screen.refresh_status()

    def _measure(self) -> None:
        count = partial(self._count, self._screen.prompt.expanded_text)
        self._screen.run_worker(count, thread=True, exclusive=True, group="measure")

    def _count(self, text: str) -> None:
        session = self._screen.session
        try:
            size = session.measure(text)
        except (AttachmentError, EngineError):
            size = DraftSize(session.backend.count_text_tokens(text), 0)
        self._screen.app.call_from_thread(self._show, size)

    def _show(self, size: DraftSize) -> None:
        self._size = size
        self._screen.refresh_status()

    def moved(self, event: Prompt.Moved) -> None:
        """A key of the input that belongs to the popup, the history or the transcript."""
        prompt, transcript = self._screen.prompt, self._screen.transcript
        match event.what:
            case "move":
                self.completing.move(event.step)
            case "accept":
                self.completing.accept()
            case "accept_or_send":
                if self.completing.accept():
                    prompt.post_message(Prompt.Submitted(prompt.expanded_text))
            case "search":
                self.search_history()
            case "scroll":
                if event.step < 0:
                    transcript.scroll_page_up(animate=False)
                else:
                    transcript.scroll_page_down(animate=False)
            case "end":
                transcript.to_end()

    def search_history(self) -> None:
        """Search what was asked before."""
        prompt = self._screen.prompt
        history = prompt.asked

        def take(place: str | None) -> None:
            if place is not None:
                prompt.set_draft(history[int(place)])

        self._screen.app.push_screen(HistoryScreen(history), take)

    def edit(self) -> None:
        """Write the input in $VISUAL or $EDITOR; the app is suspended meanwhile."""
        prompt = self._screen.prompt
        try:
            prompt.set_draft(edit_text(self._screen.app, prompt.expanded_text))
        except EditorError as error:
            self._screen.say(str(error), "warning")
