"""What a running review has brought so far, and what the person made of it. Knows no widget, no thread and no file system."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from dsv3chat.review.tally import STOPPED
from dsv3chat.review.values import (
    ChunkDone,
    FileDone,
    FileStarted,
    Finding,
    FindingFound,
    FindingState,
    Report,
    ReviewEvent,
    ReviewFinished,
    ReviewStarted,
    Scope,
    Severity,
    Skipped,
    SourceFile,
)

FileStatus: TypeAlias = Literal["queued", "running", "clean", "findings", "failed", "stopped", "skipped"]
Mark: TypeAlias = Literal["", "applied", "ignored", "false"]
_STATE_OF_MARK: dict[Mark, FindingState] = {"ignored": "baseline", "false": "suppressed"}


@dataclass(slots=True)
class FileState:
    """One file of the scope. `counts` are the new findings by severity; `reason` says why it failed or is skipped."""

    path: str
    status: FileStatus = "queued"
    reason: str = ""
    num_chunks: int = 0
    done_chunks: int = 0
    from_cache: bool = False
    counts: Counter[Severity] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class Item:
    """A finding on the screen: `number` is its place in the order of arrival."""

    finding: Finding
    number: int
    seen: bool = False
    mark: Mark = ""

    @property
    def is_new(self) -> bool:
        """It counts: neither known, nor suppressed, nor put aside by the person."""
        return self.finding.state == "new" and self.mark not in _STATE_OF_MARK

    @property
    def state(self) -> str:
        """In one word."""
        if self.mark:
            return {"false": "false+"}.get(self.mark, self.mark)
        return self.finding.state if self.finding.state != "new" or not self.seen else "seen"


class ReviewState:
    """Takes the events of a review; everything else reads."""

    def __init__(self) -> None:
        self.files: dict[str, FileState] = {}  # by path
        self.sources: dict[str, SourceFile] = {}
        self.items: list[Item] = []  # by arrival
        self.counts: Counter[Severity] = Counter()  # of the new findings
        self.known: Counter[FindingState] = Counter()  # findings by the state that they came with
        self.num_hidden = 0  # findings that are known, suppressed or put aside
        self._by_path: dict[str, list[Item]] = {}
        self._statuses: Counter[FileStatus] = Counter()
        self.scope: Scope | None = None
        self.started: ReviewStarted | None = None
        self.done_chunks = self.num_chunks = 0
        self.seconds_left: float | None = None
        self.report: Report | None = None

    def begin(self, scope: Scope) -> None:
        """The files are known before anything is reviewed."""
        self.scope = scope
        self.sources = {source.path: source for source in scope.files}
        self.files = {path: FileState(path) for path in self.sources}
        self._statuses = Counter({"queued": len(self.files)})
        self._skip(scope.skipped)

    def absorb(self, events: Iterable[ReviewEvent]) -> None:
        """Take events, in their order."""
        for event in events:
            match event:
                case ReviewStarted():
                    self.started, self.num_chunks = event, event.num_chunks
                    self._skip(event.skipped)
                case FileStarted(path, num_chunks):
                    self._set(path, "running").num_chunks = num_chunks
                case FindingFound(finding):
                    self._add(finding)
                case ChunkDone(path, done, num, left):
                    self._file(path).done_chunks += 1
                    self.done_chunks, self.num_chunks, self.seconds_left = done, num, left
                case FileDone(path, status, _, reason, from_cache):
                    self._set(path, status, reason).from_cache = from_cache
                case ReviewFinished(report):
                    self._reconcile(report)

    def _file(self, path: str) -> FileState:
        file = self.files.get(path)
        if file is None:
            file = self.files[path] = FileState(path)
            self._statuses["queued"] += 1
        return file

    def _set(self, path: str, status: FileStatus, reason: str = "") -> FileState:
        file = self._file(path)
        self._statuses[file.status] -= 1
        self._statuses[status] += 1
        file.status, file.reason = status, reason
        return file

    def _skip(self, skipped: Iterable[Skipped]) -> None:
        for entry in skipped:
            self._set(entry.path, "skipped", entry.reason)
        self.files = dict(sorted(self.files.items()))

    def _add(self, finding: Finding) -> Item:
        item = Item(finding, len(self.items))
        self.items.append(item)
        self._count(item)
        return item

    def _count(self, item: Item) -> None:
        self.known[item.finding.state] += 1
        self._by_path.setdefault(item.finding.path, []).append(item)
        self._tally(item, 1)

    def _tally(self, item: Item, step: int) -> None:
        if item.is_new:
            self._file(item.finding.path).counts[item.finding.severity] += step
            self.counts[item.finding.severity] += step
        else:
            self.num_hidden += step

    def _reconcile(self, report: Report) -> None:
        """The report decides: findings that its limit left out go, unless the person did something with them."""
        self.report, self.seconds_left = report, None
        left, reviewed = Counter(report.findings), frozenset(report.reviewed)
        kept: list[Item] = []
        for item in self.items:
            if left[item.finding] > 0 or item.mark:
                left[item.finding] -= 1
                item.number = len(kept)
                kept.append(item)
        self.items = kept
        for file in self.files.values():
            file.counts.clear()
        self.counts.clear()
        self.known.clear()
        self._by_path.clear()
        self.num_hidden = 0
        for item in kept:
            self._count(item)
        for finding in (+left).elements():
            self._add(finding)
        for failed in report.failed:
            if self._file(failed.path).status not in ("failed", "stopped"):
                self._set(failed.path, "stopped" if failed.reason == STOPPED else "failed", failed.reason)
        for file in self.files.values():
            if file.status in ("queued", "running"):
                self._set(file.path, "clean" if file.path in reviewed else "stopped")

    def break_off(self) -> None:
        """It ended without a report: what is not done stays so."""
        for file in self.files.values():
            if file.status in ("queued", "running"):
                self._set(file.path, "stopped")

    # -- the person -----------------------------------------------------------------------------------------------

    def set_mark(self, item: Item, mark: Mark) -> None:
        """What the person made of it; "" takes it back."""
        self._tally(item, -1)
        item.mark = mark
        self._tally(item, 1)

    def current_report(self) -> Report | None:
        """The report with the states that the person gave; before the end a partial one. None before the scope is known."""
        report = self.report
        if report is None:
            if self.scope is None:
                return None
            report = self._partial(self.scope)
        states = {i.finding: _STATE_OF_MARK[i.mark] for i in self.items if i.mark in _STATE_OF_MARK}
        findings = (replace(f, state=states[f]) if f in states else f for f in report.findings)
        return replace(report, findings=tuple(findings)) if states else report

    def _partial(self, scope: Scope) -> Report:
        """What a review that did not end would have reported."""
        findings = sorted((i.finding for i in self.items), key=lambda f: (f.path, f.line, f.rule))
        done = tuple(f.path for f in self.files.values() if f.status in ("clean", "findings"))
        unfinished = ("queued", "running", "stopped", "failed")
        failed = tuple(
            Skipped(f.path, f.reason or "not reviewed: it was stopped")
            for f in self.files.values()
            if f.status in unfinished
        )
        skipped = tuple(Skipped(f.path, f.reason) for f in self.files.values() if f.status == "skipped")
        return Report(
            scope.description,
            scope.root,
            "",
            "",
            "",
            tuple(findings),
            done,
            skipped,
            failed,
            num_chunks=self.num_chunks,
            complete=False,
            interrupted=True,
        )

    # -- figures --------------------------------------------------------------------------------------------------

    def num_files(self, *statuses: FileStatus) -> int:
        """Files in any of these states."""
        return sum(self._statuses[status] for status in statuses)

    def items_of(self, path: str) -> list[Item]:
        """The findings of a file, by arrival."""
        return self._by_path.get(path, [])
