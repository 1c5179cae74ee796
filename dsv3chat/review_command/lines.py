"""A review in lines: runs it, writes the reports, narrates. Knows no flag's name and no widget.

The review runs on a thread of its own and the main thread reads its events, so that a signal is served at once: the first
ends the review in order, with what there is, the second the process.
"""

from __future__ import annotations

import fcntl
import io
import queue
import struct
import sys
import termios
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

from dsv3chat import cli_chat, exit_codes
from dsv3chat.backend import ChatBackend
from dsv3chat.interrupts import Interrupts
from dsv3chat.mode import terminals
from dsv3chat.nano import ABOUT, NAME
from dsv3chat.plain_input import InputError, read_bytes
from dsv3chat.plain_output import Narrator, OutputError
from dsv3chat.review.baseline import BaselineError
from dsv3chat.review.formats.document import conclusion
from dsv3chat.review.reviewer import Review
from dsv3chat.review.values import Report, ReviewEvent, ReviewFinished
from dsv3chat.review_command.dry_run import plan_json, plan_text
from dsv3chat.review_command.narrator import ReviewNarrator, grouped
from dsv3chat.review_command.outputs import StandardOutput, write_targets
from dsv3chat.review_command.request import Request
from dsv3chat.review_command.setup import Setup, open_setup
from dsv3chat.settings import Settings
from engine import LoadProgress
from engine.paths import models_dir

_TICK_S = 0.2
_Item: TypeAlias = ReviewEvent | LoadProgress | BaseException


class LineReview:
    """One review. Raises what the command line reports: the scope, the model, the output."""

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
        self._interrupts.raising = True  # until the review runs, there is nothing to end in order
        setup = open_setup(self._request, self._settings, self._read_diff(), self._narrator.say)
        backend = cli_chat.make_backend(setup.launch)
        try:
            return self._review(setup, backend)
        finally:
            backend.close()
            setup.cache.close()

    def _read_diff(self) -> bytes:
        """Standard input with --stdin-diff; without it, a word on data that waits there."""
        if self._request.kind != "stdin":
            if not self._request.paths and _waiting_bytes():
                self._narrator.say(
                    "standard input holds data, which is not read; a diff in it needs --stdin-diff"
                )
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
        if not plan.files and not setup.scope.failed:
            why = f"skipped {grouped(plan.skipped)}" if plan.skipped else "there are no changes"
            self._narrator.say(f"nothing to review in {setup.scope.description}: {why}")
        if plan.pending and setup.launch.model == NAME and not (models_dir() / NAME).exists():
            self._narrator.say(ABOUT)
        self._progress.seconds_left = review.seconds_left
        report = self._follow(review, backend, items)
        for note in () if backend.info is None else backend.info.notes:
            setup.warn(note, self._narrator.say)
        return self._deliver(setup, report)

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

    def _deliver(self, setup: Setup, report: Report) -> int:
        """Baseline, files, standard output, last words. What one of them cannot take keeps it from no other; OutputError then."""
        failures: list[str] = []
        try:
            report = setup.settle(report)
        except BaselineError as error:
            failures.append(str(error))
        document = setup.document(report)
        try:
            write_targets(self._request.targets, document)
        except OutputError as error:
            failures.append(str(error))
        if failures:
            document = replace(document, exit_code=exit_codes.INCOMPLETE)
        self._progress.end(report)
        self._stdout.end(document)
        if self._request.stdout is None or self._request.stdout.name != "text":
            self._narrator.say(conclusion(report))
        if failures:
            raise OutputError("; ".join(failures))
        if self._request.update_baseline:
            kept = "the baseline is as it was: the review is incomplete"
            self._narrator.say(f"wrote the baseline {setup.baseline_file}" if report.complete else kept)
        for target in self._request.targets:
            self._narrator.say(f"wrote {target}")
        if document.exit_code == exit_codes.FINDINGS:
            self._narrator.say(f"exit code 1: findings of severity {document.threshold} or worse (--fail-on)")
        return document.exit_code


def _waiting_bytes() -> int:
    """How many bytes could be read from standard input at once; 0 where that cannot be told."""
    with suppress(OSError, ValueError, AttributeError, io.UnsupportedOperation):
        answer = fcntl.ioctl(sys.stdin.fileno(), termios.FIONREAD, struct.pack("i", 0))
        return int(struct.unpack("i", answer)[0])
    return 0
