"""The chat screen: where keys, the transcript, the input and the running answer meet. Knows no engine object."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import TextArea

from dsv3chat.conversation import Conversation
from dsv3chat.monitor import Monitor
from dsv3chat.sanitize import clean
from dsv3chat.screens.answering import Answering
from dsv3chat.screens.completing import Completing
from dsv3chat.screens.drafting import Drafting
from dsv3chat.screens.gauge_place import SAMPLE_S, GaugePlace
from dsv3chat.screens.help import HelpScreen, bindings_of
from dsv3chat.screens.message_actions import MessageActions
from dsv3chat.screens.profile_switch import ProfileSwitch
from dsv3chat.screens.sending import Sending
from dsv3chat.screens.session import ChatSession
from dsv3chat.screens.sessions import SessionsScreen
from dsv3chat.screens.slash import run_line
from dsv3chat.screens.status_line import queue_line, status_line
from dsv3chat.screens.welcome import welcome
from dsv3chat.store import StoreError
from dsv3chat.widgets.bars import Bar, FollowBar, Header, KeyBar
from dsv3chat.widgets.completion import Completion
from dsv3chat.widgets.message import Entry, Look
from dsv3chat.widgets.prompt import Prompt
from dsv3chat.widgets.transcript import Transcript
from engine import EngineError

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel

    from dsv3chat.app import ChatApp
    from dsv3chat.screens.reviews import Reviews

QUIT_S = 2.0  # between the two ctrl+c that quit
_LAYOUT_BATCH = 20  # older messages laid out at a time


def _key(keys: str, action: str, label: str, display: str, text: str) -> Binding:
    """A key of the chat; without a label it is left out of the bar at the bottom."""
    name = action.partition("(")[0] + ("_down" if "(1)" in action else "")
    return Binding(
        keys,
        action,
        label or text,
        bool(label),
        display,
        priority=keys != "escape",
        tooltip=text,
        id=f"chat.{name}",
    )


def _lay_out_all(entries: list[Entry], look: Look) -> None:
    for entry in entries:
        entry.rows(look)


class ChatScreen(Screen[None]):
    """See terminal.md for the keys; every binding has an id, so that the settings can remap it."""

    DEFAULT_CSS = """
    ChatScreen {
        background: $background;
        & #rail { dock: right; width: 34; display: none; }
        & #pane { layers: base over; height: 1fr; }
        & #transcript { height: 1fr; padding: 0 0 0 0; background: $background; }
        & #more { layer: over; dock: bottom; width: auto; height: 1; display: none;
                  margin: 0 0 0 2; background: $panel; color: $text; padding: 0 1; }
        & #inputrow { height: auto; max-height: 10; border-top: solid $foreground 20%; background: $background; }
        & #sigil { width: 3; padding: 0 0 0 1; height: 1; color: $text-primary; text-style: bold; }
        & #queued { display: none; color: $text-warning; }
    }
    """
    AUTO_FOCUS = "#prompt"
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("escape", "escape", "stop", "esc", "close the popup, drop the queued prompt, stop the answer"),
        _key("f1", "help", "help", "F1", "this page"),
        _key("ctrl+b", "sessions", "sessions", "^b", "saved conversations: open, rename, delete"),
        _key("alt+up", "pick(-1)", "pick", "alt+↑", "pick a message above"),
        _key("alt+down", "pick(1)", "", "alt+↓", "pick a message below"),
        _key("f2", "thinking", "thinking", "F2", "show or hide what the model thought"),
        _key(
            "f3", "review", "review", "F3", "review changes, a file or a folder; back to the review there is"
        ),
        _key("f4", "profiles", "profile", "F4", "change the quantization profile; the conversation stays"),
        _key("f5", "gauges", "gauges", "F5", "gauges full, as a strip, off"),
        _key("ctrl+g", "editor", "edit", "^g", "write the input in $VISUAL or $EDITOR"),
    ]

    def __init__(self, session: ChatSession, draft: str = "") -> None:
        super().__init__()
        self.session = session
        self._first_draft = draft
        self.prompt = Prompt(id="prompt")
        self.transcript = Transcript(id="transcript")
        self.answering = Answering(session, self.transcript, self.refresh_status, self.say)
        self._popup = Completion(id="popup")
        self._header, self._status, self._keys = Header(id="header"), Bar(id="status"), KeyBar(id="keys")
        self._queued_bar, self._more = Bar(id="queued"), FollowBar(id="more")
        self.sending = Sending(self)
        self.messages = MessageActions(self)
        self.profiles = ProfileSwitch(self)
        # The leaf that esc restores while a message is edited or branched from.
        self.return_to: str | None = None
        self.drafting = Drafting(self, Completing(self.prompt, self._popup, session.root))
        monitor = Monitor(session.backend.stats)
        self.gauges = GaugePlace(lambda: monitor.sample(session.lag.percentile_ms()))
        self._quit_until = 0.0

    @property
    def _chat_app(self) -> ChatApp:
        return cast("ChatApp", self.app)

    def compose(self) -> ComposeResult:
        """Header, strip, transcript beside the rail, input, status, keys."""
        yield self._header
        yield self.gauges.strip
        with Horizontal(id="body"):
            with Vertical(id="main"):
                with Vertical(id="pane"):
                    yield self.transcript
                    yield self._more
                yield self._popup
                yield self._queued_bar
                with Horizontal(id="inputrow"):
                    yield Bar(id="sigil")
                    yield self.prompt
            yield self.gauges.rail
        yield self._status
        yield self._keys

    def on_mount(self) -> None:
        """Show the conversation and start the gauges, the only thing that goes on when nothing happens."""
        settings = self._chat_app.settings
        self.query_one("#sigil", Bar).show(Content("›"))
        self.transcript.look.show_thinking = settings.show_thinking
        self.gauges.set_mode(settings.gauges)
        try:
            self.prompt.set_history(self.session.store.history())
        except StoreError as error:
            self.say(str(error), "error")
        self.watch(self.transcript, "unseen", self._show_following)
        self.watch(self.transcript, "follow", self._show_following)
        self.set_interval(SAMPLE_S, self._refresh_gauges)
        self._place_gauges()
        self.show_conversation()
        self._tell_unanswered()
        if self._first_draft:
            self.take_draft(self._first_draft)
        self.session.on_unsaved = lambda reason: self.say(f"not saved: {reason}", "error")
        if self.session.store.notice:
            self.say(self.session.store.notice, "warning")
        info = self.session.backend.info
        if info is not None:
            self.transcript.welcome = welcome(info)
            for note in info.notes if self.session.conversation.messages else ():
                self.say(note)  # an empty chat shows the notes itself

    def say(self, text: str, severity: str = "information") -> None:
        """A passing notice; foreign text in it is data."""
        level: SeverityLevel = "information"
        if severity in ("warning", "error"):
            level = cast("SeverityLevel", severity)
        self.notify(clean(text), severity=level, markup=False, timeout=4 if level == "information" else 8)

    # -- what is shown --------------------------------------------------------------------------------------------

    def show_conversation(self, keep_position: bool = False) -> None:
        """Show the active path anew."""
        info = self.session.backend.info
        self.transcript.look.offers_wider = info is not None and info.attention_bits < 8
        self.transcript.show(self.session.entries(), keep_position)
        self.refresh_status()
        if self.session.conversation.leaf_id is not None and not self.session.used_tokens:
            self._count_context()

    def _tell_unanswered(self) -> None:
        path = self.session.conversation.path
        if path and path[-1].role == "user" and not path[-1].is_summary:
            self.say("the last question has no answer yet; /regenerate answers it")

    @work(thread=True, exclusive=True, group="context")
    def _count_context(self) -> None:
        session = self.session
        try:
            prompt = session.fitted()
        except EngineError:
            return
        if not session.used_tokens:
            session.used_tokens, self.answering.left_out = prompt.prompt_tokens, len(prompt.dropped)
            self.app.call_from_thread(self.refresh_status)

    @on(Transcript.NotLaidOut)
    def _lay_out_older(self) -> None:
        self._lay_out()

    @work(exclusive=True, group="layout")
    async def _lay_out(self) -> None:
        transcript = self.transcript
        while batch := transcript.waiting_entries(_LAYOUT_BATCH):
            look = transcript.look
            width = look.width
            await asyncio.to_thread(_lay_out_all, batch, look)
            if transcript.look.width == width:
                transcript.lay_out_older(batch)

    def refresh_status(self) -> None:
        """Header, status line, queue."""
        if not self.is_mounted:
            return
        session, info = self.session, self.session.backend.info
        num = len(session.conversation.path)
        kept = " · not saved" if not session.store.lasting else " · saved" if session.saved else ""
        state = f"{num} msg{'s' if num != 1 else ''}{kept}"
        model, profile = (info.name, info.profile_name) if info is not None else ("", "")
        self._header.set(model, profile, session.conversation.title, state)
        going_on, width = self.return_to is not None, self._status.size.width
        self._status.show(*status_line(self.answering, self.drafting.size, going_on, width))
        self._queued_bar.display = bool(self.sending.queue)
        if self.sending.queue:
            self._queued_bar.show(*queue_line(self.sending.queue))

    def _show_following(self) -> None:
        shown = self.transcript
        self._more.show_following(shown.unseen, shown.follow, shown.size.width)

    # -- gauges ---------------------------------------------------------------------------------------------------

    def _refresh_gauges(self) -> None:
        if self.app.screen is self:
            self.gauges.refresh()

    def _place_gauges(self) -> None:
        self.gauges.place(self.app.size.width)
        self.call_after_refresh(self._refresh_gauges)

    def on_resize(self, event: Resize) -> None:
        """The gauges move between the rail and the strip."""
        self._place_gauges()
        self._show_following()
        self.call_after_refresh(self.refresh_status)

    def action_gauges(self) -> None:
        """Full, strip, off."""
        self._chat_app.save("gauges", self.gauges.cycle(self.app.size.width))
        self._place_gauges()

    # -- conversations --------------------------------------------------------------------------------------------

    @on(Prompt.Submitted)
    async def _submitted(self, event: Prompt.Submitted) -> None:
        await self._submit(event.text.strip("\n"))

    async def _submit(self, text: str) -> None:
        self.app.clear_notifications()  # they are about what was done before
        if text.strip() and not await run_line(self, text):
            self.sending.submit(text)

    async def take_over(self, sent: Sequence[str], draft: str) -> None:
        """Send what was sent while the model loaded, and go on with what was being typed then."""
        draft += self.prompt.expanded_text
        for text in sent:
            await self._submit(text)
        if draft:
            self.prompt.set_draft(draft)

    def take_draft(self, draft: str) -> None:
        """Put a text into the input; what stands there goes into the history."""
        if self.prompt.text:
            self.prompt.add_to_history(self.prompt.expanded_text)
            self.say("what stood in the input is in the history; ctrl+r finds it")
        self.prompt.set_draft(draft)
        self.prompt.focus()

    def new_conversation(self) -> None:
        """Begin anew; what was is saved."""
        self.open_conversation(Conversation(system=self.session.conversation.system), saved=False)

    def open_conversation(self, conversation: Conversation, saved: bool = True) -> None:
        """Show another conversation and go on with it."""
        self.session.open(conversation, saved)
        self.answering.forget()
        self.return_to = None
        self.show_conversation()
        self._tell_unanswered()
        self.prompt.focus()

    # -- messages -------------------------------------------------------------------------------------------------

    def action_pick(self, step: int) -> None:
        """Pick a message; its keys are shown below."""
        self.transcript.focus()
        self.transcript.action_pick(step)
        self._keys.refresh_keys()

    @on(Transcript.Acted)
    def _acted(self, event: Transcript.Acted) -> None:
        self.messages.perform(event)

    # -- popup and input ------------------------------------------------------------------------------------------

    @on(TextArea.Changed)
    def _typed(self) -> None:
        self.drafting.typed()

    @on(Completion.Picked)
    def _clicked_choice(self) -> None:
        self.drafting.completing.accept()
        self.prompt.focus()

    @on(Prompt.Moved)
    def _moved(self, event: Prompt.Moved) -> None:
        self.drafting.moved(event)

    def search_history(self) -> None:
        """Search what was asked before."""
        self.drafting.search_history()

    def action_editor(self) -> None:
        """Write the input in $VISUAL or $EDITOR; the app is suspended meanwhile."""
        self.drafting.edit()

    # -- stopping and leaving -------------------------------------------------------------------------------------

    def action_escape(self) -> None:
        """Close the popup, drop the queued prompt, stop the answer, go back: the first of these that there is."""
        handled = (
            self.drafting.completing.close()
            or self.sending.drop()
            or self.answering.stop()
            or self.messages.go_back()
        )
        if not handled:
            self.clear_selection()
            self.transcript.picked = None
            self.prompt.focus()

    def interrupt(self) -> None:
        """ctrl+c: copy the selection, else stop, else clear the input, else quit at the second press."""
        selected = self.get_selected_text() or self.prompt.selected_text
        if selected:
            self.messages.copy(selected, "the selection")
            self.clear_selection()
        elif self.answering.running:
            self.answering.stop()
        elif self.prompt.text:
            self.prompt.clear_draft()
        elif time.monotonic() < self._quit_until:
            self.app.exit()
        else:
            self._quit_until = time.monotonic() + QUIT_S
            self.notify("ctrl+c again to quit", timeout=QUIT_S, markup=False)

    # -- other screens --------------------------------------------------------------------------------------------

    def action_sessions(self) -> None:
        """Pick another conversation."""
        if self.sending.busy:
            self.say("an answer is running; esc stops it", "warning")
            return

        def take(conversation_id: str | None) -> None:
            try:
                if conversation_id is not None:
                    self.open_conversation(self.session.store.load(conversation_id))
                else:
                    self.session.take_title()
                    self.refresh_status()
            except StoreError as error:
                self.say(str(error), "error")

        self.app.push_screen(SessionsScreen(self.session.store, self.session.conversation.id), take)

    def action_review(self) -> None:
        """The review there is, else one of what is picked."""
        if not self._chat_app.reviews.show():
            self.review("")

    def review(self, words: str) -> None:
        """A review of what the words of /review name; without words, ask."""
        from dsv3chat.screens.review_begin import begin_review  # a third of the start of a chat otherwise

        begin_review(self._chat_app, words)

    def action_profiles(self) -> None:
        """Another quantization profile."""
        self.profiles.open()

    def switched(self) -> None:
        """Another profile runs: its name, its context, and what of it the conversation takes."""
        self.session.save_leaf()
        self.session.used_tokens = 0
        self.show_conversation(keep_position=True)

    @property
    def reviews(self) -> Reviews:
        """The program's reviews, which run on the same backend."""
        return self._chat_app.reviews

    def action_help(self) -> None:
        """Keys and commands."""
        keymap = self._chat_app.settings.keymap
        sections = [
            ("Everywhere", [*bindings_of(type(self.app), keymap), *bindings_of(ChatScreen, keymap)]),
            ("In the input", bindings_of(Prompt, keymap)),
            ("On a picked message", bindings_of(Transcript, keymap)),
        ]
        self.app.push_screen(HelpScreen(sections))

    def action_thinking(self) -> None:
        """Show or hide the thinking of every message."""
        look = self.transcript.look
        look.show_thinking = not look.show_thinking
        for entry in self.transcript.entries:
            entry.expanded = None
        self.transcript.lay_out()
        self._chat_app.save("show_thinking", look.show_thinking)

    def set_theme(self, name: str) -> None:
        """Change the colours; without a name, between dark and light."""
        self._chat_app.use_theme(name, remember=True)

    def on_descendant_focus(self) -> None:
        """Other keys do something now."""
        self.call_after_refresh(self._keys.refresh_keys)

    @work
    async def run_command(self, line: str) -> None:
        """Carry out a slash command from the palette."""
        await run_line(self, line)
