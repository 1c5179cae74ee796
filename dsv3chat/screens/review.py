"""The review screen: files, findings, the code around one and the finding in full. Knows the reviewer by its events only."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import Resize
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Input, Static

from dsv3chat.review.values import (
    FileDone,
    FileStarted,
    FindingFound,
    ReviewFinished,
    ReviewStarted,
)
from dsv3chat.sanitize import clean
from dsv3chat.screens import review_bars as bars
from dsv3chat.screens.help import HelpScreen, bindings_of
from dsv3chat.screens.review_actions import ReviewActions
from dsv3chat.screens.review_job import ReviewJob
from dsv3chat.screens.review_keys import KEYS
from dsv3chat.screens.review_listing import ORDERS, Query, listed
from dsv3chat.screens.review_moves import next_file, next_hunk
from dsv3chat.screens.review_session import ReviewSession
from dsv3chat.screens.review_state import FileState, Item
from dsv3chat.screens.review_view import ReviewView
from dsv3chat.widgets.bars import Bar, KeyBar
from dsv3chat.widgets.code_view import CodeView
from dsv3chat.widgets.file_list import FileList
from dsv3chat.widgets.finding_list import FindingList, heading
from dsv3chat.widgets.lines import LineView
from dsv3chat.widgets.rows import MUTED

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel

    from dsv3chat.app import ChatApp
    from dsv3chat.screens.reviews import Reviews

POLL_S = 0.05
LEAVE_S = 3.0  # between the two esc that leave the program
_BARS_S = 0.25
_SHARE = 20  # times that a listing took, until the next one: of two thousand findings it takes 8 ms
_WIDE = 100  # columns from which on the files stand beside the findings
_SOON_COLOURED = 3000  # characters that are coloured at once instead of on a thread


class ReviewScreen(Screen[None]):
    """See terminal.md, sketches 6.3 and 6.4; every binding has an id, so that the settings can remap it."""

    DEFAULT_CSS = """
    ReviewScreen {
        background: $background;
        & .head { background: $surface; }
        & #findingshead { padding: 0; }
        & .head.-focused { color: $text-primary; text-style: bold; }
        & #body { height: 1fr; }
        & #side { width: 31; border-right: solid $foreground 20%; }
        & #files { height: 1fr; }
        & #summary { height: auto; padding: 0 1; }
        & #findings { height: 2fr; min-height: 3; }
        & #code { height: 2fr; min-height: 3; }
        & #detail { height: 3fr; min-height: 3; }
        & #filter, & #filter:focus { display: none; border: none; height: 1; padding: 0 1; background: $surface; }
        & #filter.-open { display: block; }
        &.-narrow #side { display: none; width: 1fr; border-right: none; }
        &.-narrow.-files #side { display: block; }
        &.-narrow.-files #main { display: none; }
    }
    """
    AUTO_FOCUS = "#findings"
    BINDINGS: ClassVar[list[BindingType]] = list(KEYS)

    def __init__(self, session: ReviewSession, reviews: Reviews) -> None:
        super().__init__()
        self.session = session
        self.reviews = reviews
        self.findings, self.files = FindingList(id="findings"), FileList(id="files")
        self.view = ReviewView(self)
        self._title, self._progress = Bar(id="title"), Bar(id="progress")
        self._heads = {name: Bar(id=f"{name}head") for name in ("files", "findings")}
        self._heads["code"] = self.view.head
        for head in self._heads.values():
            head.add_class("head")
        self._summary, self._status, self._keys = Static(id="summary"), Bar(id="status"), KeyBar(id="keys")
        self.filter = Input(id="filter", placeholder="words · high · sev:medium · rule:sql · path:src/")
        self.actions = ReviewActions(self)
        self.order, self.show_hidden, self._query = ORDERS[0], False, Query()
        self._timer: Timer | None = None
        self._bars_at = self._list_at = 0.0
        self._leave_until = 0.0
        self._list_due = False
        self._polls = self._touched = False

    def compose(self) -> ComposeResult:
        """Title and progress; files beside findings, code and detail; filter, status, keys."""
        self.filter.cursor_blink = False
        yield self._title
        yield self._progress
        with Horizontal(id="body"):
            with Vertical(id="side"):
                yield self._heads["files"]
                yield self.files
                yield self._summary
            with Vertical(id="main"):
                yield self._heads["findings"]
                yield self.findings
                yield self._heads["code"]
                yield self.view.code
                yield self.view.detail
        yield self.filter
        yield self._status
        yield self._keys

    def on_mount(self) -> None:
        """Begin."""
        self._timer = self.set_interval(POLL_S, self._poll, pause=True)
        self.begin()

    def begin(self) -> None:
        """Start the review, or start it again."""
        self.session.start()
        self.files.show(())
        self._list()
        self.refresh_bars()
        self._polls = True
        self.call_after_refresh(self._keys.refresh_keys)
        if self._timer is not None:
            self._timer.resume()

    @property
    def polls(self) -> bool:
        """Whether it looks for news: while a review runs, and until its end is shown."""
        return self._polls

    @property
    def chat_app(self) -> ChatApp:
        """The app with what the chat and the review share."""
        return cast("ChatApp", self.app)

    def say(self, text: str, severity: str = "information") -> None:
        """A passing notice that answers a key; foreign text in it is data."""
        level: SeverityLevel = "information"
        if severity in ("warning", "error"):
            level = cast("SeverityLevel", severity)
        self._make_room()
        self.notify(clean(text), severity=level, markup=False, timeout=4 if level == "information" else 8)

    def _make_room(self) -> None:
        """Where there is little, a notice replaces what was said before."""
        if self.has_class("-narrow"):
            self.app.clear_notifications()

    # -- while it runs --------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        """Take what the review told since the last time; twenty times a second while it runs, never after."""
        running = self.session.running
        news = self.session.poll()
        changed: set[str] = set()
        files_changed = False
        for one in news:
            match one:
                case ReviewJob() | ReviewStarted():
                    files_changed = True
                case FindingFound():
                    self._list_due = True
                case FileStarted(path) | FileDone(path):
                    changed.add(path)
                case ReviewFinished():
                    files_changed = self._list_due = True
        if files_changed:
            self.files.show(self.session.state.files.values())
        else:
            self.files.files_changed(changed)
        now = time.monotonic()
        if self._list_due and (now >= self._list_at or not running):
            self._list()
            self._list_at = now + _SHARE * (time.monotonic() - now)
        if not running or now - self._bars_at >= _BARS_S:
            self._bars_at = now
            self.files.refresh_running()
            if self.current is None and not self.files.has_focus:
                self.files.follow_running()
            self.refresh_bars()
        if not running and not news:
            self._ended()

    def _ended(self) -> None:
        self._polls = False
        if self._timer is not None:
            self._timer.pause()
        self._list()
        self.refresh_bars()
        self._keys.refresh_keys()
        report = self.session.state.report
        for note in report.notes if report is not None else ():
            self.notify(clean(note), severity="warning", markup=False, timeout=8)
        self.reviews.ended(self)

    def refresh_bars(self) -> None:
        """Title, progress, summary, status, keys."""
        session, width = self.session, self.app.size.width
        backend = self.chat_app.backend
        wide = width >= _WIDE
        speed = bars.speed_line(backend.info, backend.stats(), session.running, wide)
        self._title.show(bars.title_line(session, wide), speed)
        self._progress.show(*bars.progress_line(session, width))
        self._summary.update(bars.summary_lines(session))
        self._status.show(
            bars.status_text(session, not self.reviews.leaves_program), self.actions.outlook(width)
        )
        hidden = session.state.known.total() - session.state.known["new"]
        order = self.order if not self.filter.value else f"{self.order}, filtered"
        room = self.findings.inner_width
        self._heads["findings"].show(heading(room, order))
        total = len(session.state.files)
        note = f"{total} · {hidden} hidden" if hidden and not self.show_hidden else str(total)
        self._heads["files"].show(Content("FILES"), Content.styled(note, MUTED))

    # -- what is shown --------------------------------------------------------------------------------------------

    @property
    def current(self) -> Item | None:
        """The finding under the cursor."""
        return cast("Item | None", self.findings.current)

    def _list(self) -> None:
        """List the findings anew; the cursor stays on its finding, before the first move on the first line."""
        before = self.current if self._touched else None
        items = listed(self.session.state.items, self._query, self.order, self.show_hidden)
        shown, self._list_due = self.current, False
        self.findings.show(items, before)
        if self.current is not shown or shown is None:
            self.show_current()

    def show_current(self) -> None:
        """The code and the words of the finding under the cursor."""
        item = self.current
        if item is None:
            self.view.show_nothing(bars.empty_text(self.session, bool(self.filter.value)))
        else:
            self.files.go_to(item.finding.path)
            self.view.show(item)

    @on(LineView.Moved, "#findings")
    def moved(self) -> None:
        """The cursor was put on another finding."""
        self._touched = True
        if self.current is not None:
            self.current.seen = True
        self.show_current()

    @on(LineView.Moved, "#files")
    def _file_moved(self) -> None:
        """Show a file without leaving the list: its first finding, or its code."""
        file = cast("FileState | None", self.files.current)
        if file is None:
            return
        place = next(
            (i for i, item in enumerate(self.findings.items) if item.finding.path == file.path), None
        )
        if place is not None:
            self.findings.move_to(place)
            self.show_current()
            return
        self.view.show_file(file)

    @on(LineView.Taken, "#findings")
    def _taken(self) -> None:
        self.action_discuss()

    def item_changed(self) -> None:
        """The current finding's state is another one."""
        self.findings.show_lines(self.findings.num_lines)
        if self.current is not None:
            self.files.files_changed((self.current.finding.path,))
        self.show_current()
        self.refresh_bars()

    # -- layout ---------------------------------------------------------------------------------------------------

    def on_resize(self, event: Resize) -> None:
        """The files stand beside the findings where there is room."""
        self.set_class(event.size.width < _WIDE, "-narrow")
        self.call_after_refresh(self.refresh_bars)

    def on_descendant_focus(self) -> None:
        """The heading of the pane with the focus looks different; other keys do something now."""
        for name, head in self._heads.items():
            focused = self.focused
            head.set_class(focused is not None and focused.id == name, "-focused")
        self.call_after_refresh(self._keys.refresh_keys)

    def action_pane(self, step: int) -> None:
        """The next pane."""
        panes: list[LineView] = [self.findings, self.view.code, self.view.detail, self.files]
        place = next((i for i, pane in enumerate(panes) if pane is self.focused), -1)
        chosen = panes[(place + step) % len(panes)]
        self.set_class(chosen is self.files, "-files")
        self.call_after_refresh(chosen.focus)

    def action_hunk(self, step: int) -> None:
        """The hunk above or below; in a file without hunks the finding above or below in it."""
        next_hunk(self, step)

    def action_file(self, step: int) -> None:
        """The first finding of the next or the previous file that has one."""
        next_file(self, step)

    # -- filter and order -----------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        """Type what the findings must have."""
        self.filter.add_class("-open")
        self.filter.focus()

    @on(Input.Changed, "#filter")
    def _filtered(self) -> None:
        self._query = Query.parse(self.filter.value)
        self._list()
        self.refresh_bars()

    @on(Input.Submitted, "#filter")
    def _close_filter(self) -> None:
        self.filter.set_class(bool(self.filter.value), "-open")
        self.findings.focus()

    def action_sort(self) -> None:
        """The next order."""
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
        self._list()
        self.refresh_bars()

    def action_hidden(self) -> None:
        """Show known and suppressed findings, or not."""
        self.show_hidden = not self.show_hidden
        self._list()
        self.refresh_bars()
        known = self.session.state.known
        if known.total() == known["new"]:
            none = "no finding was in the baseline or suppressed"
            aside = self.session.state.num_hidden  # by the person, since
            self.say(f"{none} before; what you put aside stays in the list" if aside else none)

    def action_finding(self, verb: str) -> None:
        """Do something with the finding under the cursor, or with the report: see ReviewActions."""
        self.actions.perform(verb)

    def action_discuss(self) -> None:
        """Into the chat with the finding; from the files to the findings of one."""
        if self.files.has_focus:
            self.remove_class("-files")
            self.call_after_refresh(self.findings.focus)
        else:
            self.actions.discuss()

    # -- stopping and leaving -------------------------------------------------------------------------------------

    def action_again(self) -> None:
        """Review again, after the end."""
        if self.session.running:
            self.say("the review is still running; esc stops it")
        else:
            self.begin()

    def action_escape(self) -> None:
        """Close the filter, stop the review, leave: the first of these that there is."""
        if self.filter.has_class("-open"):
            self.filter.remove_class("-open")
            self.filter.value = ""
            self.findings.focus()
        elif self.has_class("-files"):
            self.remove_class("-files")
            self.call_after_refresh(self.findings.focus)
        elif self.session.stop():
            self._leave_until = math.inf
            self.say("stopping; what was found is kept, esc again leaves")
            self.refresh_bars()
            self._keys.refresh_keys()
        elif self.reviews.leaves_program and time.monotonic() >= self._leave_until:
            self._leave_until = time.monotonic() + LEAVE_S
            self._make_room()
            self.notify("esc again to leave", timeout=LEAVE_S, markup=False)
        else:
            self.reviews.leave()

    def action_leave(self) -> None:
        """The same key, after the end."""
        self.action_escape()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """esc is called by what it does: it stops what runs, and leaves what has ended."""
        stops = self.session.running and not self.session.stopping
        return stops if action == "escape" else not stops if action == "leave" else True

    def interrupt(self) -> None:
        """ctrl+c: copy the selection, else stop, else leave."""
        selected = self.get_selected_text()
        if selected:
            self.actions.to_clipboard(selected, "the selection")
            self.clear_selection()
        else:
            self.action_escape()

    def action_chat(self) -> None:
        """Back into the chat; the review goes on."""
        self.reviews.to_chat()

    def action_help(self) -> None:
        """The keys."""
        keymap = self.chat_app.settings.keymap
        sections = [
            ("In the review", bindings_of(ReviewScreen, keymap)),
            ("In a pane", [*bindings_of(LineView, keymap), *bindings_of(CodeView, keymap)]),
            ("Everywhere", bindings_of(type(self.app), keymap)),
        ]
        self.app.push_screen(HelpScreen(sections))
