"""A review and what the person does with its findings: apply, undo, ignore, mark false, export. Knows no widget.

Every method belongs to the interface's thread.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from dsv3chat.backend import ChatBackend
from dsv3chat.review.apply import Edit, apply_suggestion, undo
from dsv3chat.review.baseline import BASELINE_FILE, Baseline, BaselineError
from dsv3chat.review.formats import FORMATS, Document
from dsv3chat.review.marks import Verdict, add_mark
from dsv3chat.review.values import Finding, Report
from dsv3chat.screens.review_job import Prepare, ReviewJob
from dsv3chat.screens.review_runner import Broken, News, ReviewRunner
from dsv3chat.screens.review_state import Item, ReviewState
from engine import LoadProgress

_END_S = 20.0  # a stopped review ends with its engine's step; a step of a slow disk may take seconds


@dataclass(frozen=True, slots=True)
class _Done:
    item: Item
    edit: Edit


class ReviewSession:
    """One review at a time; `start` again reviews again, what did not change comes from the cache."""

    def __init__(self, prepare: Prepare, backend: ChatBackend) -> None:
        self._prepare = prepare
        self._backend = backend
        self.state = ReviewState()
        self.job: ReviewJob | None = None
        self.error: Exception | None = None
        self.loading: LoadProgress | None = None
        self._runner = ReviewRunner(prepare)
        self._edits: list[_Done] = []
        self._made: Path | None = None  # the baseline that `ignore` wrote where there was none
        self._earlier: Report | None = None  # of the run before this one
        self._began = self._told_at = time.monotonic()

    # -- running --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, or begin anew after the end."""
        self._earlier = self.state.current_report() or self._earlier
        self.state, self.error, self._edits = ReviewState(), None, []
        self._runner = ReviewRunner(self._prepare)
        self._began = self._told_at = time.monotonic()
        self._runner.start()

    @property
    def running(self) -> bool:
        """The review goes on."""
        return self._runner.running

    @property
    def stopping(self) -> bool:
        """It was stopped and ends soon, or has ended so."""
        return self._runner.stopping

    @property
    def has_earlier(self) -> bool:
        """Another run came before this one."""
        return self._earlier is not None

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def stop(self) -> bool:
        """Stop the review, the loading of its model too. False when there is nothing to stop."""
        if not self.running or self.stopping:
            return False
        self._runner.stop()
        return True

    def poll(self) -> list[News]:
        """Take what came; returns it."""
        news = self._runner.drain()
        for one in news:
            match one:
                case ReviewJob():
                    self.job = one
                    self.state.begin(one.scope)
                case LoadProgress():
                    self.loading = one
                case Broken(error):
                    self.error, self.loading = error, None
                    self.state.break_off()
                case _:
                    self.loading, self._told_at = None, time.monotonic()
                    self.state.absorb((one,))
        return news

    def finish(self) -> Report | None:
        """Stop, wait for the end, and return the report as the person left it; None when no review began.

        Where a second run failed it is the report of the first.
        """
        if self._runner.running:
            self.stop()
            self._runner.join(_END_S)
            while self.poll():
                pass
        return self._earlier if self.error is not None else self.state.current_report()

    def seconds_left(self) -> float | None:
        """The time until the end, from the reviewer; None while it is not known or nothing runs."""
        if self.job is None or not self.running:
            return None
        left = self.job.review.seconds_left()
        if left is None and self.state.seconds_left is not None:
            left = max(0.0, self.state.seconds_left - (time.monotonic() - self._told_at))
        return left

    # -- findings -------------------------------------------------------------------------------------------------

    def lines_of(self, finding: Finding) -> tuple[str, ...]:
        """The finding's lines as they were reviewed."""
        source = self.state.sources.get(finding.path)
        last = max(finding.line, finding.end_line)
        return (
            source.lines[finding.line - 1 : last]
            if source is not None
            else tuple(finding.line_text.split("\n"))
        )

    def _standing(self, without: _Done | None = None) -> list[Edit]:
        return [done.edit for done in self._edits if done is not without]

    def apply(self, item: Item) -> None:
        """Put the suggestion into the file. Raises ApplyError."""
        edit = apply_suggestion(self._root, item.finding, self.lines_of(item.finding), self._standing())
        self._edits.append(_Done(item, edit))
        self.state.set_mark(item, "applied")
        with contextlib.suppress(OSError):  # the file is changed; that it is not counted is not worth a word
            self._keep(item.finding, "applied")

    def undo(self, item: Item | None) -> Item | None:
        """Take the item's suggestion out again, or the last one that was applied. None: there is none. Raises ApplyError."""
        found = next((done for done in self._edits if done.item is item), None)
        done = found or (self._edits[-1] if self._edits else None)
        if done is None:
            return None
        undo(self._root, done.edit, self._standing(without=done))
        self._edits.remove(done)
        self.state.set_mark(done.item, "")
        with contextlib.suppress(OSError):
            self._keep(done.item.finding, "withdrawn")
        return done.item

    def ignore(self, item: Item) -> Path:
        """Put the finding into the baseline, or take it out again. Returns the baseline's file. Raises BaselineError."""
        path = self.baseline_path
        is_there = os.path.lexists(path)
        baseline = Baseline.read(path) if is_there else Baseline()
        if item.mark == "ignored":
            left = baseline.removing([item.finding.fingerprint])
            if left or path != self._made:
                left.write(path)
            else:
                _delete(path)  # nothing is left of what began with this review
            self.state.set_mark(item, "")
        else:
            baseline.adding([item.finding]).write(path)
            self.state.set_mark(item, "ignored")
            self._made = self._made if is_there else path
        return path

    def mark_false(self, item: Item) -> None:
        """Keep that the finding is wrong, or take it back. Raises OSError."""
        wrong = item.mark != "false"
        self._keep(item.finding, "false" if wrong else "withdrawn")
        self.state.set_mark(item, "false" if wrong else "")

    @property
    def _root(self) -> Path:
        return self.state.scope.root if self.state.scope is not None else Path()

    @property
    def baseline_path(self) -> Path:
        """The file that `ignore` writes."""
        named = self.job.baseline if self.job is not None else None
        return named or self._root / BASELINE_FILE

    def _keep(self, finding: Finding, verdict: Verdict) -> None:
        info, report = self._backend.info, self.state.report
        model = info.name if info is not None else report.model if report is not None else ""
        protocol = report.protocol if report is not None else ""
        add_mark(finding, verdict, self._root, model, protocol)

    # -- the report -----------------------------------------------------------------------------------------------

    def document(self, as_if_complete: bool = False) -> Document | None:
        """The report as it stands, with its exit code; None before the scope is known.

        `as_if_complete`: while the review runs, as if it ended now with every file reviewed.
        """
        report = self.state.current_report()
        if report is not None and self.running and not self.stopping and as_if_complete:
            report = replace(report, failed=(), complete=True, interrupted=False)
        return self.job.document(report) if self.job is not None and report is not None else None

    def export(self, name: str, path: Path) -> None:
        """Write the report as it stands into a new file. Raises OSError (FileExistsError too), ValueError."""
        document = self.document()
        if document is None:
            raise ValueError("there is nothing to export yet")
        data = FORMATS[name].write(document).encode("utf-8", "surrogateescape")
        with path.open("xb") as file:
            file.write(data)


def _delete(baseline: Path) -> None:
    try:
        baseline.unlink(missing_ok=True)
    except OSError as error:
        raise BaselineError(f"the baseline {baseline} cannot be deleted: {error.strerror}") from error
