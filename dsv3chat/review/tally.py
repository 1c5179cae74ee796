"""What a running review has found so far, file by file, and the report that comes of it. Knows no thread and no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dsv3chat.review.answer import Candidate
from dsv3chat.review.baseline import OVER_LIMIT, Baseline
from dsv3chat.review.fingerprint import fingerprint
from dsv3chat.review.inspection import DUPLICATE, Result, Sure
from dsv3chat.review.plan import BUDGET, Plan, Task
from dsv3chat.review.suppression import Suppression, find_suppressions
from dsv3chat.review.values import FileStatus, Finding, FindingState, Report, Skipped, SourceFile

STOPPED = "stopped"


@dataclass(slots=True)
class _File:
    """A file on its way through the review."""

    source: SourceFile
    num_chunks: int = 0  # that the review looks at
    num_pending: int = 0  # of these, for the model
    num_done: int = 0
    failure: str = ""
    over_budget: list[Task] = field(default_factory=list)
    suppressions: tuple[Suppression, ...] = ()
    used: set[Suppression] = field(default_factory=set)
    seen: list[range] = field(default_factory=list)  # lines that were looked at

    def was_looked_at(self, comment: int) -> bool:
        """Whether a finding on the comment's line or below it would have been kept: in a diff, only on changed lines."""
        changed = self.source.changed
        return any(
            line in lines and (changed is None or line in changed)
            for line in (comment, comment + 1)
            for lines in self.seen
        )


class Tally:
    """Takes results in any order; the report has the order of path and line."""

    def __init__(self, plan: Plan, baseline: Baseline) -> None:
        self._baseline = baseline
        self._findings: dict[tuple[str, int, str], Finding] = {}
        self._dropped: Counter[str] = Counter()
        self._raw: list[tuple[str, int, str]] = []
        self.num_done = 0
        self.without_confidence = False
        self._files = {file.path: _File(file) for file in plan.files}
        for task, _ in plan.cached:
            self._files[task.file.path].num_chunks += 1
        for task in plan.pending:
            self._files[task.file.path].num_chunks += 1
            self._files[task.file.path].num_pending += 1
        for task in plan.over_budget:
            self._files[task.file.path].over_budget.append(task)
        for found in self._files.values():
            found.suppressions = find_suppressions(found.source.lines, found.source.language)

    def num_chunks(self, path: str) -> int:
        """That the review looks at."""
        return self._files[path].num_chunks

    def add(self, task: Task, result: Result) -> list[Finding]:
        """Take the result of a chunk; the findings that are new by it, in order of line."""
        file = self._files[task.file.path]
        file.num_done += 1
        self.num_done += 1
        self._dropped.update(result.dropped)
        if result.failure:
            place = f"lines {task.chunk.start}-{task.chunk.end}: " if file.num_chunks > 1 else ""
            file.failure = file.failure or place + result.failure
            if result.raw:
                self._raw.append((task.file.path, task.chunk.start, result.raw))
            return []
        file.seen.append(range(task.chunk.start, task.chunk.end + 1))
        self.without_confidence |= not result.has_confidence and bool(result.findings)
        return [found for sure in result.findings if (found := self._take(file, sure)) is not None]

    def _take(self, file: _File, sure: Sure) -> Finding | None:
        """The finding, unless another chunk had the same; then the more certain one stays."""
        candidate, lines = sure.candidate, file.source.lines
        suppression = next(
            (s for s in file.suppressions if s.covers(candidate.line, candidate.end_line, candidate.rule)),
            None,
        )
        if suppression is not None:
            file.used.add(suppression)
        mark = fingerprint(file.source.path, candidate.rule, lines, candidate.line)
        state: FindingState = "baseline" if mark in self._baseline else "new"
        finding = Finding(
            path=file.source.path,
            line=candidate.line,
            end_line=candidate.end_line,
            severity=candidate.severity,
            rule=candidate.rule,
            title=candidate.title,
            message=candidate.message,
            suggestion=candidate.suggestion if _changes(candidate, lines) else "",
            confidence=sure.confidence,
            line_text="\n".join(lines[candidate.line - 1 : candidate.end_line]),
            fingerprint=mark,
            state="suppressed" if suppression is not None else state,
        )
        place = (finding.path, finding.line, finding.rule)
        known = self._findings.get(place)
        if known is None:
            self._findings[place] = finding
            return finding
        self._dropped[DUPLICATE] += 1
        if finding.confidence > known.confidence:
            self._findings[place] = finding
        return None

    def is_done(self, path: str) -> bool:
        """Whether every chunk of the file that the review looks at has its result."""
        return self._files[path].num_done == self._files[path].num_chunks

    def num_findings(self, path: str) -> int:
        """New ones."""
        return sum(found.path == path and found.state == "new" for found in self._findings.values())

    def status(self, path: str) -> FileStatus:
        """Of the file as it stands."""
        if self.reason(path):
            return "stopped" if not self.is_done(path) else "failed"
        return "findings" if self.num_findings(path) else "clean"

    def reason(self, path: str) -> str:
        """Why the file is not reviewed, or not completely; empty when it is."""
        file = self._files[path]
        if file.failure:
            return file.failure
        if not self.is_done(path):
            return STOPPED
        if file.over_budget:
            whole = file.num_chunks == 0
            return (
                BUDGET if whole else f"{BUDGET}: not reviewed from line {file.over_budget[0].chunk.start} on"
            )
        return ""

    def from_cache(self, path: str) -> bool:
        """Whether the model was not needed for any part of the file."""
        file = self._files[path]
        return file.num_chunks > 0 and file.num_pending == 0

    def fail_rest(self, reason: str) -> list[str]:
        """The model is gone: what is not done has failed for this reason. Returns the paths."""
        rest = [path for path in self._files if not self.is_done(path)]
        for path in rest:
            file = self._files[path]
            file.failure = file.failure or reason
            file.num_done = file.num_chunks
        return rest

    def report(self, base: Report, max_findings: int | None, stopped: bool, notes: tuple[str, ...]) -> Report:
        """`base`, which says what was reviewed with what, completed. A stop that came after the end interrupts nothing."""
        findings = sorted(self._findings.values(), key=lambda f: (f.path, f.line, f.rule))
        kept = _most_important(findings, max_findings)
        dropped = self._dropped + Counter({OVER_LIMIT: len(findings) - len(kept)})
        failed = [Skipped(path, reason) for path in self._files if (reason := self.reason(path))]
        return replace(
            base,
            findings=tuple(kept),
            reviewed=tuple(path for path in self._files if not self.reason(path)),
            failed=tuple(sorted((*base.failed, *failed), key=lambda failure: failure.path)),
            dropped=dict(sorted((+dropped).items())),
            unused_suppressions=tuple(self._unused()),
            raw_answers=tuple(sorted(self._raw)),
            complete=not failed and not base.failed,
            interrupted=stopped and bool(failed),
            notes=notes,
        )

    def _unused(self) -> list[tuple[str, int, str]]:
        """Comments that suppress nothing, where a finding could have been kept, in files that have failed nowhere."""
        return [
            (path, suppression.line, ", ".join(suppression.names))
            for path, file in self._files.items()
            if not self.reason(path)
            for suppression in file.suppressions
            if suppression not in file.used and file.was_looked_at(suppression.line)
        ]


def _changes(candidate: Candidate, lines: Sequence[str]) -> bool:
    """Whether the suggestion is another text than what stands there; white space at the ends of lines is none."""
    present = lines[candidate.line - 1 : candidate.end_line]
    suggested = candidate.suggestion.split("\n")
    return [line.rstrip() for line in suggested] != [line.rstrip() for line in present]


def _most_important(findings: Sequence[Finding], limit: int | None) -> list[Finding]:
    """All findings but the new ones beyond the limit, which are the least severe, then the least certain."""
    new = [finding for finding in findings if finding.state == "new"]
    if limit is None or len(new) <= limit:
        return list(findings)
    new.sort(key=lambda f: (-f.severity, -f.confidence, f.path, f.line, f.rule))
    left_out = {(f.path, f.line, f.rule) for f in new[limit:]}
    return [f for f in findings if (f.path, f.line, f.rule) not in left_out]
