"""What a review is made of, as frozen values. Knows no file system, no model and no output format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Literal, TypeAlias

FileStatus: TypeAlias = Literal["clean", "findings", "failed", "stopped"]
FindingState: TypeAlias = Literal["new", "baseline", "suppressed"]


class Severity(IntEnum):
    """How bad, in order: `--fail-on` compares these."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A text file to review. `changed` holds the added and changed lines of a diff, None where every line counts."""

    path: str  # relative to the scope's root, with /
    language: str  # "python", "c", ... or "text"
    lines: tuple[str, ...]  # without line ends; lines[0] is line 1
    digest: str  # SHA-256 of the bytes
    changed: frozenset[int] | None = None
    hunks: tuple[Hunk, ...] = ()  # of a diff, in order; empty: the whole file
    partial: bool = False  # only the hunks' lines are known, all others are "" (a diff without its file)


@dataclass(frozen=True, slots=True)
class Hunk:
    """One hunk of a diff, on the new side: lines [start, end] of the file, context included."""

    start: int
    end: int
    changed: frozenset[int]  # added or changed lines; empty: the hunk only deletes
    removed: tuple[str, ...] = ()  # the text of the lines that it deletes


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is in scope and is not reviewed, with the reason in a few words ("binary", "generated")."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Scope:
    """Everything that a review covers."""

    root: Path
    description: str  # "src", "git diff main...HEAD", "a diff from standard input"
    files: tuple[SourceFile, ...]  # by path
    skipped: tuple[Skipped, ...]  # by path
    is_diff: bool = False
    failed: tuple[Skipped, ...] = ()  # by path; to be reviewed, but the diff that says how is damaged


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive lines of one file that go to the model in one prompt, with their true line numbers."""

    path: str
    language: str
    start: int  # line number of lines[0]
    lines: tuple[str, ...]
    changed: frozenset[int] | None = None  # None: a finding may stand on any line
    removed: tuple[str, ...] = ()  # deleted lines, where the chunk comes from a hunk that only deletes

    @property
    def end(self) -> int:
        """The last line's number."""
        return self.start + len(self.lines) - 1

    def line(self, number: int) -> str:
        return self.lines[number - self.start]


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect at a place. `line_text` is the source of its lines when they were reviewed, joined by line feeds."""

    path: str
    line: int
    end_line: int
    severity: Severity
    rule: str  # one of the protocol's fixed list
    title: str  # one line
    message: str
    suggestion: str  # the whole corrected line or lines [line, end_line], or empty
    confidence: float  # the model's own probability of the finding, 0 to 1
    line_text: str
    fingerprint: str = ""  # hex; of path, rule and normalised code, never of the message
    state: FindingState = "new"


@dataclass(frozen=True, slots=True)
class ReviewOptions:
    """What a caller asks of a review, whatever its scope. None: the protocol's own value."""

    min_confidence: float | None = None
    max_findings: int | None = None  # over the whole review, the most severe and most certain first
    passes: int = 1
    verify: bool | None = None
    seed: int | None = None
    context_findings: bool = False  # keep findings on unchanged lines of a diff
    max_prompt_tokens: int | None = None  # the budget: chunks beyond it are listed as not reviewed
    resume: bool = False


# Events of a running review, in the order they happen. A reader may take any part of them.


@dataclass(frozen=True, slots=True)
class ReviewStarted:
    """The first event. Tokens count whole prompts, the shared prefix included."""

    description: str
    num_files: int
    num_chunks: int
    prompt_tokens: int
    skipped: tuple[Skipped, ...]
    seconds_left: float | None = None  # from the last review with this model and profile; None: not known yet


@dataclass(frozen=True, slots=True)
class FileStarted:
    path: str
    num_chunks: int


@dataclass(frozen=True, slots=True)
class FindingFound:
    """A confirmed finding, as soon as it is. Order of arrival; the report has order of path and line."""

    finding: Finding


@dataclass(frozen=True, slots=True)
class ChunkDone:
    path: str
    done_chunks: int  # over the whole review
    num_chunks: int
    seconds_left: float | None  # None: not known yet


@dataclass(frozen=True, slots=True)
class FileDone:
    path: str
    status: FileStatus
    num_findings: int
    reason: str = ""  # why it failed
    from_cache: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """A review that has ended, completely or not."""

    description: str
    root: Path
    model: str
    profile: str
    protocol: str
    findings: tuple[Finding, ...]  # state "new" and "baseline" and "suppressed", by path, line, rule
    reviewed: tuple[str, ...]  # paths
    skipped: tuple[Skipped, ...]
    failed: tuple[Skipped, ...]  # paths that were to be reviewed and were not, with the reason
    dropped: Mapping[str, int] = field(
        default_factory=dict
    )  # reason ("below confidence", "outside the chunk", ...): count
    unused_suppressions: tuple[tuple[str, int, str], ...] = ()  # (path, line, category)
    num_chunks: int = 0
    cached_chunks: int = 0  # answered from the review cache, without the model
    prompt_tokens: int = 0
    reused_tokens: int = 0  # of these, served by the prefix cache
    completion_tokens: int = 0
    seconds: float = 0.0
    complete: bool = True  # False: a file failed, the budget ran out, or it was stopped
    interrupted: bool = False
    raw_answers: tuple[tuple[str, int, str], ...] = ()  # answers that are none: (path, chunk's start, text)
    notes: tuple[str, ...] = ()  # what a person should know: last words of the engine, a cache without use

    @property
    def new_findings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.state == "new")


@dataclass(frozen=True, slots=True)
class ReviewFinished:
    """The last event."""

    report: Report


ReviewEvent: TypeAlias = ReviewStarted | FileStarted | FindingFound | ChunkDone | FileDone | ReviewFinished
