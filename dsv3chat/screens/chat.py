"""The chat screen: where keys, the transcript, the input and the running answer meet. Knows no engine object."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on, work
from textual.app import ComposeResult, SuspendNotSupported
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import Resize
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import TextArea

from dsv3chat.attachments import AttachmentError, complete_path
from dsv3chat.commands import complete_command
from dsv3chat.conversation import ChatMessage, Conversation
from dsv3chat.monitor import Monitor
from dsv3chat.sanitize import clean, clean_line
from dsv3chat.screens.answering import Answering
from dsv3chat.screens.help import HelpScreen
from dsv3chat.screens.history import HistoryScreen
from dsv3chat.screens.session import ChatSession, DraftSize
from dsv3chat.screens.sessions import SessionsScreen
from dsv3chat.screens.slash import run_line
from dsv3chat.widgets.bars import Bar, Header, KeyBar
from dsv3chat.widgets.completion import Choice, Completion
from dsv3chat.widgets.gauges import GaugeRail, GaugeStrip, History
from dsv3chat.widgets.message import grouped
from dsv3chat.widgets.prompt import Prompt
from dsv3chat.widgets.rows import MUTED
from dsv3chat.widgets.transcript import Transcript
from engine import EngineError

if TYPE_CHECKING:
    from dsv3chat.app import ChatApp

RAIL_WIDTH = 110  # columns from which the gauges stand beside the transcript
GAUGE_S = 1.0
DRAFT_S = 0.4  # of no typing, before the draft's tokens are counted
QUIT_S = 2.0  # between the two ctrl+c that quit
_LAYOUT_BATCH = 20  # older messages laid out at a time
_GAUGES = ("full", "strip", "off")


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
        & #sigil { width: 2; padding: 0 0 0 1; height: 1; color: $text-primary; text-style: bold; }
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
        _key("f5", "gauges", "gauges", "F5", "gauges full, as a strip, off"),
        _key("ctrl+g", "editor", "editor", "^g", "write the input in $VISUAL or $EDITOR"),
    ]

    def __init__(self, session: ChatSession) -> None:
        super().__init__()
        self.session = session
        self.prompt = Prompt(id="prompt")
        self.transcript = Transcript(id="transcript")
        self.answering = Answering(session, self.transcript, self.refresh_status, self.say)
        self._popup = Completion(id="popup")
        self._header, self._status, self._keys = Header(id="header"), Bar(id="status"), KeyBar(id="keys")
        self._queued_bar, self._more = Bar(id="queued"), Bar(id="more")
        self._rail, self._strip = GaugeRail(), GaugeStrip()
        self._history = History()
        self._monitor = Monitor(session.backend.stats)
        self._gauges = "full"
        self._gauge_timer: Timer | None = None
        self._draft_timer: Timer | None = None
        self._draft_size: DraftSize | None = None
        self._return_to: str | None = (
            None  # the leaf that esc restores while a message is edited or branched from
        )
        self._quit_until = 0.0
        self._popup_closed_at: tuple[str, str] | None = None  # the fragment for which esc closed the popup

    @property
    def _chat_app(self) -> ChatApp:
        return cast("ChatApp", self.app)

    def compose(self) -> ComposeResult:
        """Header, strip, transcript beside the rail, input, status, keys."""
        yield self._header
        yield self._strip
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
            with Vertical(id="rail"):
                yield self._rail
        yield self._status
        yield self._keys

    def on_mount(self) -> None:
        """Show the conversation and start the gauges, the only thing that goes on when nothing happens."""
        settings = self._chat_app.settings
        self.query_one("#sigil", Bar).show(Content("›"))
        self.transcript.look.show_thinking = settings.show_thinking
        self._gauges = settings.gauges if settings.gauges in _GAUGES else "full"
        self.prompt.set_history(self.session.store.history())
        self.watch(self.transcript, "unseen", self._show_following)
        self.watch(self.transcript, "follow", self._show_following)
        self._gauge_timer = self.set_interval(GAUGE_S, self.refresh_gauges)
        self._place_gauges()
        self.show_conversation()
        info = self.session.backend.info
        for note in info.notes if info is not None else ():
            self.say(note)

    def say(self, text: str, severity: str = "information") -> None:
        """A passing notice; foreign text in it is data."""
        level = "error" if severity == "error" else "warning" if severity == "warning" else "information"
        self.notify(clean(text), severity=level, markup=False, timeout=8 if level != "information" else 4)  # type: ignore[arg-type]

    # -- what is shown --------------------------------------------------------------------------------------------

    def show_conversation(self, keep_position: bool = False) -> None:
        """Show the active path anew."""
        self.transcript.show(self.session.entries(), keep_position)
        self.refresh_status()
        if self.session.conversation.leaf_id is not None and not self.session.used_tokens:
            self._count_context()

    @work(thread=True, exclusive=True, group="context")
    def _count_context(self) -> None:
        session = self.session
        try:
            used = session.fitted().prompt_tokens
        except EngineError:
            return
        if not session.used_tokens:
            session.used_tokens = used
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
            await asyncio.to_thread(lambda entries=batch, look=look: [e.rows(look) for e in entries])
            if transcript.look.width == width:
                transcript.lay_out_older(batch)

    def refresh_status(self) -> None:
        """Header, status line, queue."""
        if not self.is_mounted:
            return
        session, answering = self.session, self.answering
        info = session.backend.info
        state = f"{len(session.conversation.path)} msgs" + (" · saved" if session.saved else "")
        self._header.set(
            info.name if info else "", info.profile_name if info else "", session.conversation.title, state
        )
        left = Content.assemble((answering.status, "bold" if answering.running else MUTED))
        if answering.running:
            left += Content.styled(" · esc stop", MUTED)
        elif self._return_to is not None:
            left = Content.assemble(
                ("✎ going on from an earlier message", "bold $text-warning"), (" · esc back", MUTED)
            )
        self._status.show(left, Content.styled("   ", MUTED).join(self._right_status()))
        queue = answering.queue
        self._queued_bar.display = bool(queue)
        if queue:
            text = clean_line(queue[-1])
            count = f"{len(queue)} queued" if len(queue) > 1 else "queued"
            self._queued_bar.show(Content(f"⏸ {count}: {text}"), Content.styled("esc drops it", MUTED))

    def _right_status(self) -> list[Content]:
        parts = []
        size = self._draft_size
        if size is not None and self.prompt.text:
            attached = f" + {grouped(size.attached_tokens)} attached" if size.attached_tokens else ""
            after = self.session.used_tokens + size.text_tokens + size.attached_tokens
            total = self.session.context_tokens
            share = f" → {round(100 * after / total)}% of context" if total else ""
            parts.append(Content.styled(f"{grouped(size.text_tokens)} tok{attached}{share}", MUTED))
        context = self.answering.context_line()
        return [*parts, context] if context else parts

    def _show_following(self) -> None:
        unseen, follow = self.transcript.unseen, self.transcript.follow
        self._more.display = not follow
        if not follow:
            count = f"↓ {unseen} new line{'s' if unseen != 1 else ''} (end) ↓" if unseen else "↓ end ↓"
            width = len(count) + 2
            self._more.styles.width = width
            self._more.styles.offset = (max(0, self.transcript.size.width - width - 4), 0)
            self._more.show(Content(count))

    # -- gauges ---------------------------------------------------------------------------------------------------

    def refresh_gauges(self) -> None:
        """Take a sample and show it where the gauges stand."""
        if self.app.screen is not self or self._gauges == "off":
            return
        sample = self._monitor.sample(self.session.lag.percentile_ms())
        self._history.add(sample)
        if self._strip.display:
            self._strip.show_sample(sample, self._history)
        else:
            self._rail.show_sample(sample, self._history)

    def _place_gauges(self) -> None:
        wide = self.app.size.width >= RAIL_WIDTH and self._gauges == "full"
        self.query_one("#rail").display = wide
        self._strip.display = not wide and self._gauges != "off"
        self.call_after_refresh(self.refresh_gauges)

    def on_resize(self, event: Resize) -> None:
        """The gauges move between the rail and the strip."""
        self._place_gauges()

    def action_gauges(self) -> None:
        """Full, strip, off."""
        order = _GAUGES if self.app.size.width >= RAIL_WIDTH else ("full", "off")
        place = order.index(self._gauges) if self._gauges in order else 0
        self._gauges = order[(place + 1) % len(order)]
        self._place_gauges()
        self._chat_app.save("gauges", self._gauges)

    # -- sending --------------------------------------------------------------------------------------------------

    @on(Prompt.Submitted)
    async def _submitted(self, event: Prompt.Submitted) -> None:
        text = event.text.strip("\n")
        if not text.strip():
            return
        if await run_line(self, text):
            return
        if self.answering.running:
            self.answering.queue.append(text)
            self.prompt.clear_draft()
            self.refresh_status()
        else:
            self._ask(text)

    @work(group="ask", exclusive=True)
    async def _ask(self, text: str) -> None:
        """Send a text, then whatever was queued meanwhile."""
        while True:
            try:
                attachments = await asyncio.to_thread(self.session.attach, text)
            except AttachmentError as error:
                self.say(str(error), "error")
                if not self.prompt.text:
                    self.prompt.set_draft(text)
                return
            if self.prompt.expanded_text.strip("\n") == text:
                self.prompt.clear_draft()
            self.prompt.add_to_history(text)
            self.session.store.add_history(text)
            self._return_to = None
            message = self.session.add_user(text, attachments)
            self.transcript.picked = None
            self.show_conversation()
            answer = await self.answering.answer(message.id)
            if not self._next_in_queue(answer):
                return
            text = self.answering.queue.pop(0)

    @work(group="ask", exclusive=True)
    async def _answer_again(self, parent_id: str) -> None:
        """Another answer to the same message; both are kept."""
        self.session.conversation.truncate_to(parent_id)
        self._return_to = None
        self.transcript.picked = None
        self.prompt.focus()
        self.show_conversation()
        answer = await self.answering.answer(parent_id)
        if self._next_in_queue(answer):
            self._ask(self.answering.queue.pop(0))

    def _next_in_queue(self, answer: ChatMessage) -> bool:
        """Whether a queued prompt follows; after a failure it goes back into the input instead."""
        queue = self.answering.queue
        if queue and answer.status == "failed":
            if not self.prompt.text:
                self.prompt.set_draft("\n".join(queue))
            queue.clear()
        self.refresh_status()
        return bool(queue)

    @work(group="ask", exclusive=True)
    async def compact(self) -> None:
        """Put a summary in place of the turns so far."""
        if await self.answering.compact():
            self.say("the turns so far are summarised; they stay in the saved conversation")
        self.show_conversation()

    def new_conversation(self) -> None:
        """Begin anew; what was is saved."""
        old = self.session.conversation
        self.open_conversation(Conversation(system=old.system), saved=False)

    def open_conversation(self, conversation: Conversation, saved: bool = True) -> None:
        """Show another conversation and go on with it."""
        self.session.open(conversation, saved)
        self.answering.forget()
        self._return_to = None
        self.show_conversation()
        self.prompt.focus()

    # -- messages -------------------------------------------------------------------------------------------------

    def action_pick(self, step: int) -> None:
        """Pick a message; its keys are shown below."""
        self.transcript.focus()
        self.transcript.action_pick(step)
        self._keys.refresh_keys()

    @on(Transcript.Acted)
    def _acted(self, event: Transcript.Acted) -> None:
        message = self.session.conversation.messages.get(event.message_id)
        if message is None:
            return
        match event.action:
            case "copy":
                self._copy(message.text, "the message")
            case "code":
                self._copy_code(event.message_id, event.argument)
            case _ if self.answering.running:
                self.say("an answer is running; esc stops it", "warning")
            case "regenerate":
                parent = message.parent_id if message.role == "assistant" else message.id
                if parent is not None and not message.is_summary:
                    self._answer_again(parent)
            case "edit" | "branch" if message.role == "user":
                self._go_on_from(message.parent_id)
                self.prompt.set_draft(message.text if event.action == "edit" else "")
            case "edit":
                self.say("an answer cannot be edited; r makes another one")
            case "branch":
                self._go_on_from(message.id)
            case "previous" | "next":
                self._switch(message, -1 if event.action == "previous" else 1)

    def regenerate_last(self) -> None:
        """Answer the last question again."""
        last = next((m for m in reversed(self.session.conversation.path) if m.role == "user"), None)
        if last is None or last.is_summary:
            self.say("there is no question to answer again")
        else:
            self._answer_again(last.id)

    def copy_last_answer(self) -> None:
        """Copy the last answer's Markdown."""
        last = next((m for m in reversed(self.session.conversation.path) if m.role == "assistant"), None)
        if last is None:
            self.say("there is no answer yet")
        else:
            self._copy(last.text, "the last answer")

    def _copy(self, text: str, what: str) -> None:
        self.app.copy_to_clipboard(text)
        self.say(f"{what} is copied ({grouped(len(text))} characters)")

    def _copy_code(self, message_id: str, number: int | None) -> None:
        entry = self.transcript.entry(message_id)
        blocks = entry.body.code_blocks if entry is not None else []
        if not blocks:
            self.say("there is no code in this message")
            return
        number = self.transcript.next_code(message_id, len(blocks)) if number is None else number
        of = f" {number + 1} of {len(blocks)}" if len(blocks) > 1 else ""
        self._copy(blocks[number], f"code block{of}")

    def _go_on_from(self, message_id: str | None) -> None:
        self._return_to = self._return_to or self.session.conversation.leaf_id
        self.session.conversation.truncate_to(message_id)
        self.transcript.picked = None
        self.show_conversation()
        self.prompt.focus()

    def _switch(self, message: ChatMessage, step: int) -> None:
        siblings = self.session.conversation.siblings(message.id)
        place = next(i for i, m in enumerate(siblings) if m.id == message.id)
        chosen = siblings[(place + step) % len(siblings)]
        if chosen.id == message.id:
            return
        self._return_to = None
        self.session.conversation.select(chosen.id)
        self.session.save_leaf()
        self.session.used_tokens = 0
        self.show_conversation(keep_position=True)
        self.transcript.picked = chosen.id

    # -- popup and input ------------------------------------------------------------------------------------------

    @on(TextArea.Changed)
    def _typed(self) -> None:
        self._offer()
        if self._draft_timer is not None:
            self._draft_timer.stop()
        self._draft_timer = self.set_timer(DRAFT_S, self._measure) if self.prompt.text else None
        if not self.prompt.text:
            self._draft_size = None
            self.refresh_status()

    @work(thread=True, exclusive=True, group="measure")
    def _measure(self) -> None:
        text = self.app.call_from_thread(lambda: self.prompt.expanded_text)
        try:
            size = self.session.measure(text)
        except (AttachmentError, EngineError):
            size = DraftSize(self.session.backend.count_text_tokens(text), 0)
        self._draft_size = size
        self.app.call_from_thread(self.refresh_status)

    def _offer(self) -> None:
        fragment = self.prompt.fragment
        if fragment is None or fragment == self._popup_closed_at:
            self._show_choices([])
            return
        self._popup_closed_at = None
        kind, text = fragment
        if kind == "/":
            self._show_choices(
                [
                    Choice(
                        f"/{c.name}" + (" " if c.usage else ""),
                        f"/{c.name} {c.usage}".strip(),
                        c.help,
                        not c.usage,
                    )
                    for c in complete_command(text)
                ]
            )
        else:
            self._offer_files(text)

    @work(thread=True, exclusive=True, group="files")
    def _offer_files(self, fragment: str) -> None:
        choices = []
        for found in complete_path(fragment, self.session.root):
            folder = found.path.endswith("/")
            tokens = "" if found.num_tokens_estimate is None else f"~{grouped(found.num_tokens_estimate)} tok"
            size = "" if found.size_bytes is None else f"{found.size_bytes / 1024:.1f} KiB"
            detail = "folder" if folder else f"{size:>10}  {tokens:>12}"
            choices.append(
                Choice(found.insert_text + ("" if folder else " "), found.path, detail, not folder)
            )
        self.app.call_from_thread(self._show_files, fragment, choices)

    def _show_files(self, fragment: str, choices: list[Choice]) -> None:
        if self.prompt.fragment == ("@", fragment):
            self._show_choices(choices)

    def _show_choices(self, choices: list[Choice]) -> None:
        self._popup.show(choices)
        self.prompt.popup_open = bool(choices)

    @on(Completion.Picked)
    def _clicked_choice(self) -> None:
        self._accept()
        self.prompt.focus()

    def _accept(self) -> Choice | None:
        choice = self._popup.choice
        self._show_choices([])
        if choice is not None:
            self.prompt.replace_fragment(choice.insert)
            if choice.complete:
                self._popup_closed_at = self.prompt.fragment
        return choice

    @on(Prompt.Moved)
    def _moved(self, event: Prompt.Moved) -> None:
        match event.what:
            case "move":
                self._popup.move(event.step)
            case "accept":
                self._accept()
            case "accept_or_send":
                before = self.prompt.text
                choice = self._accept()
                is_command = choice is not None and choice.insert.startswith("/") and choice.complete
                if is_command or self.prompt.text.rstrip() == before:
                    self.prompt.post_message(Prompt.Submitted(self.prompt.expanded_text))
            case "search":
                self.search_history()
            case "scroll":
                if event.step < 0:
                    self.transcript.scroll_page_up(animate=False)
                else:
                    self.transcript.scroll_page_down(animate=False)
            case "end":
                self.transcript.to_end()

    def search_history(self) -> None:
        """Search what was asked before."""
        history = self.prompt.asked

        def take(place: str | None) -> None:
            if place is not None:
                self.prompt.set_draft(history[int(place)])

        self.app.push_screen(HistoryScreen(history), take)

    def action_editor(self) -> None:
        """Write the input in $VISUAL or $EDITOR; the app is suspended meanwhile."""
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        try:
            with tempfile.NamedTemporaryFile("w+", suffix=".md", encoding="utf-8") as file:
                file.write(self.prompt.expanded_text)
                file.flush()
                with self.app.suspend():
                    result = subprocess.run([*editor.split(), file.name], check=False)
                with open(file.name, encoding="utf-8", errors="replace") as edited:
                    text = edited.read().removesuffix("\n")
        except SuspendNotSupported:
            self.say("this terminal cannot be handed to an editor", "warning")
            return
        except OSError as error:
            self.say(f"{editor} did not start: {error}; set EDITOR to another one", "error")
            return
        if result.returncode:
            self.say(f"{editor} ended with {result.returncode}; the input stays as it was", "warning")
        else:
            self.prompt.set_draft(text)

    # -- stopping and leaving -------------------------------------------------------------------------------------

    def action_escape(self) -> None:
        """Close the popup, drop the queued prompt, stop the answer, go back: the first of these that there is."""
        if self.prompt.popup_open:
            self._popup_closed_at = self.prompt.fragment
            self._show_choices([])
        elif self.answering.queue:
            dropped = self.answering.queue.pop()
            if not self.prompt.text:
                self.prompt.set_draft(dropped)
            self.refresh_status()
        elif self.answering.stop():
            pass
        elif self._return_to is not None:
            self.session.conversation.truncate_to(self._return_to)
            self._return_to = None
            self.prompt.clear_draft()
            self.show_conversation()
        else:
            self.clear_selection()
            self.transcript.picked = None
            self.prompt.focus()

    def interrupt(self) -> None:
        """ctrl+c: copy the selection, else stop, else clear the input, else quit at the second press."""
        selected = self.get_selected_text() or self.prompt.selected_text
        if selected:
            self._copy(selected, "the selection")
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
        if self.answering.running:
            self.say("an answer is running; esc stops it", "warning")
            return

        def take(conversation_id: str | None) -> None:
            if conversation_id is not None:
                self.open_conversation(self.session.store.load(conversation_id))
            else:
                self.refresh_status()

        self.app.push_screen(SessionsScreen(self.session.store, self.session.conversation.id), take)

    def action_help(self) -> None:
        """Keys and commands."""
        self.app.push_screen(
            HelpScreen(
                [
                    ("Everywhere", [*self._bindings_of(type(self.app)), *self._bindings_of(ChatScreen)]),
                    ("In the input", self._bindings_of(Prompt)),
                    ("On a picked message", self._bindings_of(Transcript)),
                ]
            )
        )

    def _bindings_of(self, owner: type) -> list[Binding]:
        keymap = self._chat_app.settings.keymap
        found = []
        for binding in owner.__dict__.get("BINDINGS", []):
            assert isinstance(binding, Binding)
            keys = keymap.get(binding.id or "")
            found.append(Binding(keys, binding.action, binding.description) if keys else binding)
        return found

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
