"""What a review says on standard error: how far it is, when it will be done, what it cost. Knows no model.

On a terminal one line is redrawn; elsewhere a line comes at the start, when the time left is known, and then at most every
half minute.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from dsv3chat.plain_output import Narrator
from dsv3chat.review.formats.document import computed_per_second, counted, one_line, shown_path
from dsv3chat.review.values import (
    ChunkDone,
    FileDone,
    FileStarted,
    FindingFound,
    Report,
    ReviewEvent,
    ReviewStarted,
    Skipped,
)
from engine import LoadProgress

_REDRAW_S = 0.2
_LINE_S = 30.0
_SHOWN_NAMES = 3


class ReviewNarrator:
    """`seconds_left` asks the running review, so that the time runs between two chunks too."""

    def __init__(
        self,
        narrator: Narrator,
        redraws: bool,
        seconds_left: Callable[[], float | None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._narrator = narrator
        self._redraws = redraws
        self._now = now
        self.seconds_left = seconds_left
        self._started: ReviewStarted | None = None
        self._files = self._chunks = self._findings = 0
        self._last = now()
        self._told_time = False

    def load(self, progress: LoadProgress) -> None:
        """What the loading of the model does."""
        self._narrator.progress(progress)

    def event(self, event: ReviewEvent) -> None:
        """Counts, and says what a person can use already: each finding as it is confirmed, each file that failed."""
        match event:
            case ReviewStarted():
                self._started = event
                self._last = self._now()
                self._narrator.say(f"{event.description}: {self._size(event)}; {self._left()}")
            case FindingFound(finding) if finding.state == "new":
                self._findings += 1
                place = f"{shown_path(finding.path)}:{finding.line}"
                what = f"{finding.severity.label} {finding.rule} ({finding.confidence:.2f})"
                self._narrator.say(f"{place}: {what}: {one_line(finding.title or finding.message)}")
            case FileDone(path, "failed", _, reason):
                self._files += 1
                self._narrator.say(f"{shown_path(path)}: not reviewed: {reason}")
            case FileDone():
                self._files += 1
            case ChunkDone():
                self._chunks = event.done_chunks
            case FileStarted():
                return
        self.tick()

    def tick(self) -> None:
        """Draw the progress, if it is time; to be called a few times a second."""
        if self._started is None:
            return
        newly_known = not (self._redraws or self._told_time) and self.seconds_left() is not None
        if not newly_known and self._now() - self._last < (_REDRAW_S if self._redraws else _LINE_S):
            return
        self._last = self._now()
        start = self._started
        parts = (
            f"{self._files}/{start.num_files} files",
            f"{self._chunks}/{start.num_chunks} chunks",
            counted(self._findings, "finding"),
            self._left(),
        )
        if self._redraws:
            self._narrator.draw("reviewing " + " · ".join(parts))
        else:
            self._narrator.say(", ".join(parts))

    def end(self, report: Report) -> None:
        """The report on itself."""
        self._narrator.erase()
        for line in summary(report):
            self._narrator.say(line)

    def _size(self, event: ReviewStarted) -> str:
        parts = (
            counted(event.num_files, "file"),
            counted(event.num_chunks, "chunk"),
            f"{event.prompt_tokens:,} tokens",
        )
        return ", ".join(parts)

    def _left(self) -> str:
        seconds = self.seconds_left()
        self._told_time = self._told_time or seconds is not None
        return "time left not known yet" if seconds is None else f"about {clock(seconds)} left"


def clock(seconds: float) -> str:
    """`0:07`, `12:40`, `1:02:03`."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def summary(report: Report) -> list[str]:
    """What was reviewed and at what cost, what was dropped and why, what was skipped and why."""
    lines: list[str] = []
    if report.num_chunks:
        parts = [f"{counted(len(report.reviewed), 'file')}, {counted(report.num_chunks, 'chunk')}"]
        if report.cached_chunks:
            parts.append(f"{report.cached_chunks} from the review cache")
        if report.prompt_tokens:
            reused = f" ({report.reused_tokens:,} from the prefix cache)" if report.reused_tokens else ""
            parts.append(f"{report.prompt_tokens:,} tokens in{reused}, {report.completion_tokens:,} out")
        rate = computed_per_second(report)
        parts.append(clock(report.seconds) + ("" if rate is None else f", {rate:.1f} tok/s"))
        lines.append("; ".join(parts))
    lines += [one_line(note) for note in report.notes]
    if report.dropped:
        reasons = ", ".join(f"{number} {one_line(why)}" for why, number in sorted(report.dropped.items()))
        lines.append(f"findings dropped: {reasons}")
    if report.skipped:
        lines.append(f"skipped: {grouped(report.skipped)}")
    return lines


def grouped(places: Sequence[Skipped]) -> str:
    """`12 files: nano reviews Python (10: a.c, b.c, c.c, ...), binary (2: x.png, y.png)`, the commonest reason first."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for place in places:
        names[one_line(place.reason)].append(shown_path(place.path))
    parts = []
    for reason, number in Counter({reason: len(found) for reason, found in names.items()}).most_common():
        shown = ", ".join(names[reason][:_SHOWN_NAMES]) + (", ..." if number > _SHOWN_NAMES else "")
        parts.append(f"{reason} ({number}: {shown})")
    return f"{counted(len(places), 'file')}: {', '.join(parts)}"
