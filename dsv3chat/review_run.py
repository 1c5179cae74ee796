"""`dsv3chat review`: opens the scope, runs the review, writes the reports, in lines or around the screen. Knows no widget.

In lines the review runs on a thread of its own and the main thread reads its events, so that a signal is served at once:
the first ends the review in order, with what there is, the second the process.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from dsv3chat import cli_chat, exit_codes
from dsv3chat.backend import ChatBackend
from dsv3chat.interrupts import Interrupts
from dsv3chat.mode import can_redraw, choose_mode, is_terminal, terminals
from dsv3chat.nano import ABOUT, NAME
from dsv3chat.plain_input import InputError, read_bytes
from dsv3chat.plain_output import Narrator
from dsv3chat.review.formats.document import conclusion
from dsv3chat.review.reviewer import Review
from dsv3chat.review.values import Report, ReviewEvent, ReviewFinished
from dsv3chat.review_evaluation import run_evaluation
from dsv3chat.review_narrator import ReviewNarrator, grouped
from dsv3chat.review_outputs import StandardOutput, write_targets
from dsv3chat.review_plan import plan_json, plan_text
from dsv3chat.review_request import Request, read_request
from dsv3chat.review_setup import Setup, exit_code_left, open_setup
from dsv3chat.settings import Settings, load_settings
from engine import LoadCancelledError, LoadProgress, SamplingParams
from engine.paths import models_dir

_TICK_S = 0.2
_Item: TypeAlias = ReviewEvent | LoadProgress | BaseException


def run_review(flags: Mapping[str, Any]) -> int:
    """Returns the exit code. Raises what the command line reports: its usage, the scope, the model, the output."""
    request = read_request(flags)
    settings = load_settings()
    if _opens_screen(request):
        return _full_screen(request, settings)
    to_terminal = terminals().stdout  # asked before the descriptors change places
    redraws = is_terminal(sys.stderr) and can_redraw()
    narrator = Narrator(redraws)
    with cli_chat.data_stream() as out, Interrupts() as interrupts:
        stdout = StandardOutput(out, request.stdout, to_terminal)
        try:
            if request.evaluate is not None:
                return run_evaluation(request, settings, stdout, narrator, redraws, interrupts)
            return _Lines(request, settings, stdout, narrator, interrupts, redraws).run()
        except KeyboardInterrupt:
            raise LoadCancelledError("interrupted before anything was reviewed") from None
        finally:
            narrator.erase()


def _opens_screen(request: Request) -> bool:
    lines = (
        request.format_given
        or request.dry_run
        or request.update_baseline
        or request.evaluate is not None
        or request.kind == "stdin"
    )
    return not choose_mode(machine=lines).plain


class _Lines:
    """One review in lines."""

    def __init__(
        self,
        request: Request,
        settings: Settings,
        stdout: StandardOutput,
        narrator: Narrator,
        interrupts: Interrupts,
        redraws: bool,
    ) -> None:
        self._request = request
        self._settings = settings
        self._stdout = stdout
        self._narrator = narrator
        self._interrupts = interrupts
        self._progress = ReviewNarrator(narrator, redraws)

    def run(self) -> int:
        """Returns the exit code."""
        self._interrupts.raising = True
        setup = open_setup(self._request, self._settings, self._read_diff(), self._narrator.say)
        backend = cli_chat.make_backend(setup.launch)
        try:
            return self._review(setup, backend)
        finally:
            backend.close()

    def _read_diff(self) -> bytes:
        """Standard input with --stdin-diff."""
        if self._request.kind != "stdin":
            return b""
        if sys.stdin is None or terminals().stdin:
            raise InputError(
                "--stdin-diff reads a diff from standard input: git diff | dsv3chat review --stdin-diff"
            )
        return read_bytes(sys.stdin.fileno(), self._narrator.say, otherwise="no --stdin-diff")

    def _review(self, setup: Setup, backend: ChatBackend) -> int:
        items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        review = setup.review(backend, items.put)
        plan = review.plan
        self._interrupts.raising = False
        if self._request.dry_run:
            as_json = self._request.stdout is not None and self._request.stdout.name == "json"
            self._stdout.text(plan_json(setup, plan) if as_json else plan_text(setup, plan))
            return exit_codes.OK
        if not plan.files:
            why = f"skipped {grouped(plan.skipped)}" if plan.skipped else "there are no changes"
            self._narrator.say(f"nothing to review in {setup.scope.description}: {why}")
        if plan.pending and setup.launch.model == NAME and not (models_dir() / NAME).exists():
            self._narrator.say(ABOUT)
        self._progress.seconds_left = review.seconds_left
        report = setup.settle(self._follow(review, backend, items))
        document = setup.document(report)
        self._progress.end(report)
        self._stdout.end(document)
        write_targets(self._request.targets, document)
        self._conclude(setup, report, document.exit_code)
        return document.exit_code

    def _follow(self, review: Review, backend: ChatBackend, items: queue.SimpleQueue[_Item]) -> Report:
        """Hand every event on, until the last. Whatever goes wrong here, a reader that left say, stops the review."""

        def work() -> None:
            try:
                for event in review.events():
                    items.put(event)
            except BaseException as error:
                items.put(error)

        threading.Thread(target=work, name="review", daemon=True).start()
        stopping = False
        try:
            while True:
                if self._interrupts.number is not None and not stopping:
                    stopping = True
                    self._narrator.say("stopping; once more ends it at once")
                    review.stop()
                    backend.cancel_load()
                try:
                    item = items.get(timeout=_TICK_S)
                except queue.Empty:
                    self._progress.tick()
                    continue
                match item:
                    case LoadProgress():
                        self._progress.load(item)
                    case ReviewFinished(report):
                        return report
                    case BaseException():
                        raise item
                    case _:
                        self._narrator.erase()
                        self._stdout.event(item)
                        self._progress.event(item)
        finally:
            review.stop()

    def _conclude(self, setup: Setup, report: Report, code: int) -> None:
        """What a person wants to know last, where standard output has not just told them."""
        if setup.request.update_baseline:
            what = (
                f"wrote the baseline {setup.baseline_file}"
                if report.complete
                else "the baseline is as it was: the review is incomplete"
            )
            self._narrator.say(what)
        for target in self._request.targets:
            self._narrator.say(f"wrote {target}")
        if self._request.stdout is None or self._request.stdout.name != "text":
            self._narrator.say(conclusion(report))
        if code == exit_codes.FINDINGS:
            self._narrator.say(
                f"exit code 1: findings of severity {setup.request.threshold} or worse (--fail-on)"
            )


def _full_screen(request: Request, settings: Settings) -> int:
    """The review screen; files are written and the exit code is chosen when it is left."""
    from dsv3chat.review_app import run_review_screen
    from dsv3chat.screens.review_job import ReviewJob

    narrator = Narrator(redraws=False)
    ready = [open_setup(request, settings, b"", narrator.say)]
    backend = cli_chat.make_backend(ready[0].launch)
    last = ready[0]

    def prepare(on_load: Callable[[LoadProgress], None]) -> ReviewJob:
        nonlocal last
        last = ready.pop() if ready else open_setup(request, settings, b"", lambda text: None)
        outputs = tuple(map(str, request.targets))
        return ReviewJob(
            last.review(backend, on_load), last.scope, last.document, last.baseline_file, outputs
        )

    sys.setswitchinterval(cli_chat.SWITCH_SECONDS)
    try:
        outcome = run_review_screen(backend, prepare, settings, SamplingParams(), Path.cwd())
    finally:
        backend.close()
    if outcome.report is None:
        return outcome.code
    code = outcome.code or exit_code_left(outcome.report, request.fail_on)
    write_targets(request.targets, last.document(outcome.report, code))
    for target in request.targets:
        narrator.say(f"wrote {target}")
    narrator.say(conclusion(outcome.report))
    return code
