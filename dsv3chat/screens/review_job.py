"""What the review screen is given: a review that is ready to run, and what its command decided. Knows no widget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from dsv3chat.review.values import Report, ReviewEvent, Scope
from engine import LoadProgress

if TYPE_CHECKING:
    from dsv3chat.review.formats import Document


class RunningReview(Protocol):
    """The reviewer, as the screen uses it: `events` on a thread of its own, everything else from any thread."""

    def events(self) -> Iterator[ReviewEvent]:
        """Loads the model if it must, then reviews. ReviewStarted is first, ReviewFinished last, also after `stop`."""

    def stop(self) -> None:
        """End soon, with what there is. Returns at once; idempotent."""

    def seconds_left(self) -> float | None:
        """The time until the end; None while nothing is known."""


@dataclass(frozen=True, slots=True)
class ReviewJob:
    """One review. `document` gives a report the exit code and the threshold of its command, for the screen and exports.

    `outputs` says in words what the command will write where ("sarif → review.sarif"); the screen itself writes none.
    """

    review: RunningReview
    scope: Scope
    document: Callable[[Report], Document]
    baseline: Path | None = None  # the file that `i` writes; None: the default one in the scope's root
    outputs: tuple[str, ...] = ()


# Called on a worker thread, with what is to be told of the loading (Review's `on_load`); called again for a second run.
# What it raises ends the screen of a command and is shown in a chat: its message is for a person.
Prepare: TypeAlias = Callable[[Callable[[LoadProgress], None]], ReviewJob]


@dataclass(frozen=True, slots=True)
class ReviewOutcome:
    """How the screen was left.

    `report` has the state of every finding as the person left it: ignored ones are "baseline", false ones "suppressed".
    After a stop it is the partial report (complete False, interrupted True); None when no review began. `code` is 0 when
    the screen was left by choice and 128 + n after signal n: a caller returns `code` if it is not 0, else the report's.
    """

    report: Report | None
    code: int
