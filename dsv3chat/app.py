"""The Textual app: theme, global keys, loading, then the chat, or a review. Knows the backend by its protocol only."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.worker import WorkerFailed

from dsv3chat.backend import ChatBackend
from dsv3chat.commands import COMMANDS
from dsv3chat.conversation import Conversation
from dsv3chat.sanitize import clean
from dsv3chat.screens.chat import ChatScreen
from dsv3chat.screens.help import bindings_of
from dsv3chat.screens.loading import LoadingScreen
from dsv3chat.screens.reviews import Reviews
from dsv3chat.screens.session import ChatSession
from dsv3chat.settings import Settings, SettingsError, save_setting
from dsv3chat.store import Store
from dsv3chat.terminal import guarded
from dsv3chat.themes import THEMES, theme_for
from engine import EngineError, LoadCancelledError, LoadProgress, ModelInfo, SamplingParams

if TYPE_CHECKING:
    from dsv3chat.screens.review_job import Prepare

SWITCH_INTERVAL_S = 0.001  # key to paint beside a Python-bound thread: 10/59 ms instead of 24/148 (p50/p95)
PROGRESS_S = 0.1


def _take_exception(task: asyncio.Task[ModelInfo]) -> None:
    if not task.cancelled():
        task.exception()


class ChatApp(App[None]):
    """Opens with the loading screen, goes on with the chat; with `review` it opens with that instead.

    `failure` says why it ended, if it did not by choice.
    """

    ENABLE_COMMAND_PALETTE = True
    CSS = """
    ToastRack { dock: top; align: right top; margin: 1 0 0 0; }
    Toast { max-width: 90%; width: 64; margin: 0; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "ctrl+c",
            "interrupt",
            "copy the selection, else stop, else clear the input, else quit",
            show=False,
            priority=True,
            id="app.interrupt",
        ),
        Binding(
            "ctrl+p",
            "command_palette",
            "palette",
            key_display="^p",
            priority=True,
            id="app.palette",
            tooltip="every command, found by its name",
        ),
        Binding("ctrl+q", "quit", "quit", key_display="^q", priority=True, id="app.quit", tooltip="leave"),
    ]
    ESCAPE_TO_MINIMIZE = False
    CLOSE_TIMEOUT = 5.0
    TITLE = "dsv3chat"

    def __init__(
        self,
        backend: ChatBackend,
        store: Store,
        settings: Settings,
        conversation: Conversation,
        params: SamplingParams,
        root: Path,
        saved: bool = False,
        review: Prepare | None = None,
    ) -> None:
        super().__init__()
        self.backend = backend
        self.settings = settings
        self.failure: EngineError | None = None
        self.chat = ChatSession(
            backend, store, conversation, params, root, saved=saved or bool(conversation.messages)
        )
        self._review = review
        self.reviews = Reviews(self, alone=review is not None)
        self._left_cleanly = False
        for theme in THEMES:
            self.register_theme(theme)
        if settings.keymap:
            self.set_keymap(dict(settings.keymap))

    # -- loading --------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Load the model, then chat; a review loads it itself."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self.use_theme(self.settings.theme)
        if self._review is not None:
            self.reviews.open(self._review)
        elif self.backend.info is not None:
            self.push_screen(ChatScreen(self.chat))
        else:
            self.push_screen(LoadingScreen())
            self.load()

    @work(exclusive=True, group="load")
    async def load(self) -> None:
        """Load on a thread; the latest progress is shown ten times a second."""
        latest: list[LoadProgress] = []

        def on_progress(progress: LoadProgress) -> None:
            latest[:] = [progress]

        loading = asyncio.create_task(asyncio.to_thread(self.backend.load, on_progress))
        loading.add_done_callback(_take_exception)  # when the app is left meanwhile, nobody else asks for it
        shown: LoadProgress | None = None
        while not loading.done():
            await asyncio.wait([loading], timeout=PROGRESS_S)
            if latest and latest[0] is not shown and isinstance(self.screen, LoadingScreen):
                shown = latest[0]
                self.screen.show_progress(shown)
        try:
            loading.result()
        except EngineError as error:
            if self.reviews.take_back(error):
                return
            self.failure = error
            self.exit(return_code=130 if isinstance(error, LoadCancelledError) else 1)
            return
        chat, early = ChatScreen(self.chat), self.screen
        await self.switch_screen(chat)
        if isinstance(early, LoadingScreen):
            await chat.take_over(early.sent, early.draft)

    # -- keys and commands ----------------------------------------------------------------------------------------

    def action_interrupt(self) -> None:
        """ctrl+c: stops the loading; in chat and review see their `interrupt`; closes any other screen."""
        screen = self.screen
        if isinstance(screen, ChatScreen):
            screen.interrupt()
        elif self.reviews.screen is not None and screen is self.reviews.screen:
            self.reviews.screen.interrupt()
        elif isinstance(screen, LoadingScreen):
            self.backend.cancel_load()
        else:
            self.pop_screen()

    async def action_quit(self) -> None:
        """Leave; a running answer is stopped and saved, a running load is stopped."""
        self.backend.cancel_load()
        self.reviews.stop()
        self.exit()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: our commands, and nothing that does not exist here."""
        review = self.reviews.screen
        if review is not None and screen is review:
            for binding in bindings_of(type(review), {}):
                title, what = binding.description.capitalize(), binding.tooltip or binding.description
                yield SystemCommand(title, what, partial(review.run_action, binding.action))
            return
        chat = self.reviews.chat
        if chat is None:
            return
        for command in COMMANDS:
            if not command.usage or command.usage.startswith("["):
                yield SystemCommand(
                    f"/{command.name}", command.help, partial(chat.run_command, f"/{command.name}")
                )
        yield SystemCommand("Review", "review changes, a file or a folder (F3)", chat.action_review)
        yield SystemCommand("Profiles", "change the quantization profile (F4)", chat.action_profiles)
        yield SystemCommand("Thinking", "show or hide what the model thought (F2)", chat.action_thinking)
        yield SystemCommand("Gauges", "full, strip, off (F5)", chat.action_gauges)
        yield SystemCommand("Search history", "find what you asked before (^r)", chat.search_history)
        yield SystemCommand("Edit in $EDITOR", "write the input in your editor (^g)", chat.action_editor)
        for theme in THEMES:
            yield SystemCommand(
                f"Theme: {theme.name}", "change the colours", partial(self.use_theme, theme.name, True)
            )

    # -- settings -------------------------------------------------------------------------------------------------

    def use_theme(self, name: str, remember: bool = False) -> None:
        """Switch the colours; "" turns dark to light and back. An unknown name is answered with the known ones."""
        if not name:
            name = "light" if self.current_theme.dark else "dark"
        few_colours = self.console.color_system == "standard"
        chosen = theme_for(name, few_colours)
        if chosen not in self.available_themes:
            known = ", ".join(sorted(self.available_themes))
            self.notify(clean(f"there is no theme {name}; known: {known}"), severity="warning", markup=False)
            return
        self.theme = chosen
        if remember:
            self.save("theme", name)

    def save(self, key: str, value: str | bool) -> None:
        """Write a setting; that it cannot be written is said, and does no harm."""
        try:
            save_setting(key, value)
        except (OSError, SettingsError) as error:
            self.notify(clean(f"the setting {key} is not saved: {error}"), severity="warning", markup=False)

    # -- leaving --------------------------------------------------------------------------------------------------

    def end(self, code: int) -> None:
        """Leave with this code, also from a signal handler."""
        self.backend.cancel_load()
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(partial(self.exit, return_code=code))

    def _handle_exception(self, error: Exception) -> None:
        """A fault of this program: leave, and let `run_guarded` raise it.

        Textual's own way prints every local variable, the conversation among them.
        """
        if self._exception is None:
            self._exception = error.error if isinstance(error, WorkerFailed) else error  # type: ignore[assignment]
            self._exception_event.set()
        self._return_code = 1
        self._close_messages_no_wait()

    def run_guarded(self) -> int:
        """Run until the end; the terminal is as it was afterwards, whatever happened. Returns the exit code.

        0 left by choice, 1 the model did not load (`failure`), 130 the loading was stopped, 128 + n after signal n.
        An exception that nothing in the program took is raised when the terminal is in order.
        """
        with guarded(self.end, lambda: self._left_cleanly):
            self.run()
            self._left_cleanly = True
        self.reviews.stop()
        if self._exception is not None:
            raise self._exception
        return self.return_code or 0
