"""A stand-in for the reviewer that tells a list of events, and the values it is made of."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from dsv3chat.review.formats import Document
from dsv3chat.review.values import (
    ChunkDone,
    FileDone,
    FileStarted,
    Finding,
    FindingFound,
    Hunk,
    Report,
    ReviewEvent,
    ReviewFinished,
    ReviewStarted,
    Scope,
    Severity,
    Skipped,
    SourceFile,
)
from dsv3chat.screens.review_job import ReviewJob

KV = """class Cache:
    def push(self, page):
        self.slot = (self.slot + 1) % self.n
        self.pages[self.slot] = page

    def evict(self, want):
        freed = 0
        for p in self.lru:
            if freed >= want: break
            self.pool.release(p)
            freed += 1
        return freed
"""
PACK = "def scale(x):\n    return eval(x)\n"


def source(path: str, text: str, hunks: Sequence[Hunk] = ()) -> SourceFile:
    changed = frozenset().union(*(hunk.changed for hunk in hunks)) if hunks else None
    digest = hashlib.sha256(text.encode()).hexdigest()
    return SourceFile(path, "python", tuple(text.splitlines()), digest, changed, tuple(hunks))


def finding(
    path: str = "src/kv.py",
    line: int = 3,
    severity: Severity = Severity.HIGH,
    title: str = "Ring slot advanced before write",
    rule: str = "off-by-one",
    confidence: float = 0.93,
    suggestion: str = "        self.pages[self.slot] = page\n        self.slot = (self.slot + 1) % self.n",
    message: str = "The slot moves before the write, so slot 0 is never filled.",
    text: str = KV,
    end_line: int | None = None,
    state: str = "new",
) -> Finding:
    lines = text.splitlines()
    mark = hashlib.sha256(f"{path}{line}{title}".encode()).hexdigest()[:16]
    return Finding(
        path, line, end_line or line, severity, rule, title, message, suggestion, confidence,
        lines[line - 1] if line <= len(lines) else "", mark, state,
    )  # fmt: skip


FINDINGS = (
    finding(end_line=4),
    finding(
        line=10, severity=Severity.MEDIUM, title="evict() frees a pinned page", confidence=0.66, suggestion=""
    ),
    finding(
        "src/pack.py",
        2,
        Severity.CRITICAL,
        "eval of input",
        "code-injection",
        0.81,
        "    return float(x)",
        "Any text runs as code.",
        PACK,
    ),
)


def make_scope(
    root: Path, files: Sequence[SourceFile] | None = None, skipped: Sequence[Skipped] = ()
) -> Scope:
    if files is None:
        hunks = [Hunk(1, 5, frozenset({3, 4})), Hunk(8, 12, frozenset({10}))]
        files = [
            source("src/kv.py", KV, hunks),
            source("src/pack.py", PACK),
            source("tests/test_kv.py", "x = 1\n"),
        ]
    return Scope(root, "git diff main...HEAD", tuple(files), tuple(skipped), True)


def write_files(scope: Scope) -> None:
    for file in scope.files:
        path = scope.root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(file.lines) + "\n", "utf-8")


class ScriptedReview:
    """Tells the findings file by file. `hold` after so many events until `go_on` is set or the review is stopped."""

    def __init__(
        self,
        scope: Scope,
        findings: Sequence[Finding] = FINDINGS,
        hold: int | None = None,
        failed: Sequence[Skipped] = (),
    ) -> None:
        self.scope, self.findings, self.hold, self.failed = scope, findings, hold, failed
        self.go_on, self.stopped = threading.Event(), threading.Event()
        self.crash: Exception | None = None

    def stop(self) -> None:
        self.stopped.set()
        self.go_on.set()

    def seconds_left(self) -> float | None:
        return 380.0

    def events(self) -> Iterator[ReviewEvent]:
        for number, event in enumerate(self._script()):
            if self.stopped.is_set():
                break
            yield event
            if number + 1 == self.hold:
                self.go_on.wait(60)
                if self.crash is not None:
                    raise self.crash
        yield ReviewFinished(self._report())

    def _script(self) -> Iterator[ReviewEvent]:
        files = self.scope.files
        self._told: list[Finding] = []
        self._done: list[str] = []
        by_path: dict[str, list[Finding]] = {}
        for found in self.findings:
            by_path.setdefault(found.path, []).append(found)
        yield ReviewStarted(self.scope.description, len(files), len(files), 1000, self.scope.skipped)
        for number, file in enumerate(files, 1):
            yield FileStarted(file.path, 1)
            here = by_path.get(file.path, [])
            for found in here:
                self._told.append(found)
                yield FindingFound(found)
            yield ChunkDone(file.path, number, len(files), 10.0)
            failed = next((f for f in self.failed if f.path == file.path), None)
            self._done.append(file.path)
            status = "failed" if failed else "findings" if here else "clean"
            yield FileDone(file.path, status, len(here), failed.reason if failed else "")

    def _report(self) -> Report:
        bad = {f.path for f in self.failed}
        told = sorted(self._told, key=lambda f: (f.path, f.line, f.rule))
        done = set(self._done)
        left = [Skipped(f.path, "stopped") for f in self.scope.files if f.path not in done]
        return Report(
            self.scope.description,
            self.scope.root,
            "nano",
            "nano-cpu",
            "nano",
            tuple(told),
            tuple(p for p in self._done if p not in bad),
            self.scope.skipped,
            (*self.failed, *left),
            num_chunks=len(self.scope.files),
            seconds=12.0,
            complete=not left and not bad,
            interrupted=self.stopped.is_set(),
        )


def job_of(review: ScriptedReview, **more) -> ReviewJob:
    def document(report: Report) -> Document:
        failing = any(f.severity >= Severity.HIGH for f in report.new_findings)
        return Document(report, (), int(failing) if report.complete else 3)

    return ReviewJob(review, review.scope, document, **more)
