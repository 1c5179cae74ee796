"""The profile switcher: a dialog over the dimmed chat. Knows what a choice is, and the chat by ProfileSwitch's verbs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from dsv3chat.profile_choices import Catalogue, Choice, matches
from dsv3chat.screens.editor import EditorError
from dsv3chat.screens.profile_file import edit_profile
from dsv3chat.widgets.profile_details import STOPPING, detail_lines, outcome_lines, step_line, steps_of
from dsv3chat.widgets.profile_rows import Situation, choice_line, head_line, machine_line
from dsv3chat.widgets.rows import MUTED
from engine import EngineError, LoadProgress, SwitchPlan

if TYPE_CHECKING:
    from dsv3chat.screens.profile_switch import ProfileSwitch

PROGRESS_S = 0.1
_MAX_WIDTH = 112
_LOW = 30  # rows of the screen below which the list is short, and the step stands in the details' place


class ProfilesScreen(ModalScreen[None]):
    """Lists the profiles; a switch runs inside it, so that nothing is sent meanwhile."""

    DEFAULT_CSS = """
    ProfilesScreen {
        align: center middle;
        & > #profiles {
            width: 96%; max-width: 112; height: auto; max-height: 96%;
            background: $surface; border: round $foreground 30%; padding: 0 1;
            border-title-color: $text-primary; border-subtitle-color: $text-muted;
        }
        & Input, & Input:focus { border: none; height: 1; padding: 0; background: $surface; display: none; }
        & OptionList, & OptionList:focus { border: none; padding: 0; background: $surface; height: auto; max-height: 10; }
        & #details { height: auto; border-top: solid $foreground 20%; }
        & #step { height: auto; display: none; border-top: solid $foreground 20%; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "close", priority=True, id="profiles.close"),
        Binding("slash", "filter", "filter", key_display="/", id="profiles.filter"),
        Binding("e", "edit", "edit", id="profiles.edit"),
        Binding("r", "rescan", "rescan", id="profiles.rescan"),
        Binding("up", "move(-1)", show=False, id="profiles.up"),
        Binding("down", "move(1)", show=False, id="profiles.down"),
        *(Binding(str(n), f"quick({n})", show=False, id=f"profiles.quick{n}") for n in range(1, 10)),
    ]

    def __init__(self, switcher: ProfileSwitch, catalogue: Catalogue | None = None, wanted: str = "") -> None:
        """`wanted` of the catalogue is switched to at once."""
        super().__init__()
        self._switcher = switcher
        self._catalogue = catalogue
        self._wanted = wanted
        self.shown: list[Choice] = []
        self._plans: dict[str, SwitchPlan | EngineError] = {}
        self._situation = Situation()
        self.switching = False
        self._stopping = False
        self._switched = ""  # the profile that the step line is about, while it is marked

    def compose(self) -> ComposeResult:
        """Machine, filter, list, details, step."""
        with Vertical(id="profiles") as frame:
            frame.border_title = "Quantization profile"
            frame.border_subtitle = "⏎ switch  1-9 quick  / filter  e edit yaml  r rescan  esc close"
            yield Static(
                Content.styled("reading the profiles and this machine's rates …", MUTED), id="machine"
            )
            filter_input = Input(placeholder="letters of a name or a description", id="filter")
            filter_input.cursor_blink = False
            yield filter_input
            yield Static(id="head")
            yield OptionList(id="list")
            yield Static(id="details")
            yield Static(id="step")

    def on_mount(self) -> None:
        """Show what is known, or find it out."""
        self.query_one(OptionList).focus()
        if self._catalogue is None:
            self.scan()
        else:
            self._show(self._catalogue, self._wanted)
            if self._wanted:
                self.take_marked()

    # -- the list -------------------------------------------------------------------------------------------------

    @work(exclusive=True, group="scan")
    async def scan(self, mark: str = "") -> None:
        """Read the files again, then mark one, unless the person has meanwhile moved to another."""
        before = self.marked.name if self.marked else ""
        catalogue = await asyncio.to_thread(self._switcher.catalogue)
        now = self.marked.name if self.marked else ""
        self._plans.clear()
        self._show(catalogue, mark if mark and now == before else now)

    def _show(self, catalogue: Catalogue, mark: str) -> None:
        self._catalogue, self._situation = catalogue, self._switcher.situation()
        self.query_one("#machine", Static).update(machine_line(catalogue))
        self._fill(mark or (catalogue.loaded.name if catalogue.loaded else ""))

    def _fill(self, mark: str) -> None:
        if self._catalogue is None:
            return
        query, width = self.query_one(Input).value, self._width
        self.shown = [choice for choice in self._catalogue.choices if matches(choice, query)]
        listing = self.query_one(OptionList)
        listing.clear_options()
        self.query_one("#head", Static).update(head_line(width))
        listing.add_options(
            [Option(choice_line(choice, n, self._situation, width)) for n, choice in enumerate(self.shown, 1)]
        )
        names = [choice.name for choice in self.shown]
        listing.highlighted = (names.index(mark) if mark in names else 0) if names else None
        self._show_details()

    @property
    def _width(self) -> int:
        """Cells of a line inside the frame, beside a scrollbar."""
        return max(20, min(_MAX_WIDTH, self.app.size.width * 96 // 100) - 6)

    @property
    def marked(self) -> Choice | None:
        """The marked line's profile."""
        index = self.query_one(OptionList).highlighted
        return self.shown[index] if index is not None and index < len(self.shown) else None

    @on(OptionList.OptionHighlighted)
    def _show_details(self) -> None:
        choice, catalogue = self.marked, self._catalogue
        details = self.query_one("#details", Static)
        if choice is None or choice.name != self._switched:
            details.display, self.query_one("#step").display = True, False
            self._switched = ""
        if choice is None or catalogue is None:
            details.update(Content.styled("no profile has these letters; esc shows all", MUTED))
            return
        plan = self._plans.get(choice.name)
        refusal = choice.refusal or (str(plan) if isinstance(plan, EngineError) else "")
        switch = plan if isinstance(plan, SwitchPlan) else None
        lines = detail_lines(choice, catalogue, switch, refusal, self._situation, self._width)
        details.update(Content("\n").join(lines))
        if plan is None and not refusal and not choice.loaded:
            self._find_plan(choice)

    @work(exclusive=True, group="plan")
    async def _find_plan(self, choice: Choice) -> None:
        await self._plan(choice)
        if self.marked is choice:
            self._show_details()

    async def _plan(self, choice: Choice) -> SwitchPlan | EngineError:
        if choice.name not in self._plans:
            try:
                self._plans[choice.name] = await asyncio.to_thread(self._switcher.plan, choice)
            except EngineError as error:
                self._plans[choice.name] = error
        return self._plans[choice.name]

    def on_resize(self, event: Resize) -> None:
        """Columns come and go, and the list has more or fewer rows."""
        self.query_one(OptionList).styles.max_height = 10 if self.app.size.height >= _LOW else 6
        self.call_after_refresh(lambda: self._fill(self.marked.name if self.marked else ""))

    # -- keys -----------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a switch runs there is only esc."""
        return action == "back" or not self.switching

    def action_back(self) -> None:
        """Cancel the switch, leave the filter, close: the first of these that there is."""
        filter_input = self.query_one(Input)
        if self.switching:
            self._stopping = True
        elif filter_input.display:
            filter_input.value, filter_input.display = "", False
            self.query_one(OptionList).focus()
        else:
            self.dismiss(None)

    def action_filter(self) -> None:
        """Type letters of a name."""
        filter_input = self.query_one(Input)
        filter_input.display = True
        filter_input.focus()

    def action_move(self, step: int) -> None:
        """Mark another line, from the filter too."""
        listing = self.query_one(OptionList)
        (listing.action_cursor_up if step < 0 else listing.action_cursor_down)()

    def action_rescan(self) -> None:
        """Read the files again."""
        self.scan()

    def action_quick(self, number: int) -> None:
        """Switch to the line with this number."""
        if number <= len(self.shown):
            self.query_one(OptionList).highlighted = number - 1
            self.take_marked()

    def action_edit(self) -> None:
        """The marked profile's YAML in the person's editor."""
        choice = self.marked
        if choice is None:
            return
        try:
            told = edit_profile(self.app, choice)
        except (OSError, EditorError) as error:
            self._switcher.say(f"not edited: {error}", "error")
        else:
            if told:
                self._switcher.say(told)
        self.scan(choice.name)

    @on(Input.Changed)
    def _filtered(self) -> None:
        self._fill(self.marked.name if self.marked else "")

    # -- switching ------------------------------------------------------------------------------------------------

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def take_marked(self) -> None:
        """Switch to the marked profile, or say why not."""
        choice = self.marked
        if choice is None or self.switching:
            return
        if choice.loaded:
            self._switcher.say(f"{choice.name} is loaded")
        elif choice.refusal:
            self._switcher.say(f"{choice.name} cannot be chosen: {choice.refusal}", "warning")
        else:
            self.switching, self._stopping = True, False
            self._switch(choice)

    @work(exclusive=True, group="switch")
    async def _switch(self, choice: Choice) -> None:
        step = self.query_one("#step", Static)
        self._switched = choice.name
        step.display, self.query_one("#details").display = True, self.app.size.height >= _LOW
        self._situation = self._switcher.situation()
        plan = await self._plan(choice)
        if isinstance(plan, EngineError):
            self.switching = False
            step.update(outcome_lines(f"{choice.name} cannot be chosen: {plan}", self._width))
            self._show_details()
            return
        latest = [LoadProgress(STOPPING if self._situation.answering else "begin")]
        steps = steps_of(plan, self._situation.answering)
        started = time.monotonic()
        switching = asyncio.create_task(self._switcher.switch(choice, latest.append, lambda: self._stopping))
        while not switching.done():
            seconds = time.monotonic() - started
            step.update(step_line(latest[-1], steps, seconds, self._stopping, self._width))
            del latest[:-1]
            await asyncio.wait([switching], timeout=PROGRESS_S)
        self.switching = False
        try:
            switching.result()
        except EngineError as error:
            step.update(outcome_lines(self._switcher.failed(choice, error), self._width))
            self.scan(choice.name)
        else:
            self.dismiss(None)
