"""What the review screen is given: a review that is ready to run, and what its command decided. Knows no widget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from dsv3chat.review.values import Report, ReviewEvent, Scope


class RunningReview(Protocol):
    """The reviewer, as the screen uses it: `events` on a thread of its own, `stop` from any thread."""

    def events(self) -> Iterator[ReviewEvent]:
        """Reviews; ReviewStarted is the first event, ReviewFinished the last one, also after `stop`."""

    def stop(self) -> None:
        """End soon, with what there is. Returns at once; idempotent."""


@dataclass(frozen=True, slots=True)
class ReviewJob:
    """One review. `baseline` is the file that `i` writes; `outputs` says in words what the command will write where."""

    review: RunningReview
    scope: Scope
    exit_code: Callable[[Report], int]
    threshold: str = "high"  # of --fail-on
    baseline: Path | None = None  # None: the default file in the scope's root
    outputs: tuple[str, ...] = field(default=())  # "sarif → review.sarif"


# Called on a worker thread once the model is loaded; may be called again for a second run. It raises what the command
# knows how to report; a message for a person in any case.
Prepare: TypeAlias = Callable[[], ReviewJob]


@dataclass(frozen=True, slots=True)
class ReviewOutcome:
    """How the screen was left.

    `report` has the state of every finding as the person left it: ignored ones are "baseline", false ones "suppressed";
    None when no review began. After a stop it is the partial report (complete False, interrupted True). `code` is 0
    when it was left by choice, 130 when the loading was stopped, 128 + n after signal n: a caller returns `code` if it
    is not 0, and otherwise the exit code of the report.
    """

    report: Report | None
    code: int
