"""A review on a thread of its own; what it tells waits in a queue. Knows no screen and no finding."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TypeAlias

from dsv3chat.review.values import ReviewEvent
from dsv3chat.screens.review_job import Prepare, ReviewJob
from engine import LoadProgress


@dataclass(frozen=True, slots=True)
class Broken:
    """The review ended with an exception; nothing comes after it."""

    error: Exception


News: TypeAlias = ReviewEvent | LoadProgress | ReviewJob | Broken


class ReviewRunner:
    """`start` once; the interface drains, and may stop at any time."""

    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._job: ReviewJob | None = None
        self._thread = threading.Thread(target=self._run, name="review", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Something may still come."""
        return self._thread.is_alive() or not self._news.empty()

    @property
    def stopping(self) -> bool:
        """It was stopped."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """End soon; idempotent."""
        self._stopping.set()
        if self._job is not None:
            self._job.review.stop()

    def drain(self, limit: int = 5000) -> list[News]:
        """What came since the last call, in order, at most `limit` of it."""
        found: list[News] = []
        while len(found) < limit:
            try:
                found.append(self._news.get_nowait())
            except queue.Empty:
                break
        return found

    def join(self, timeout: float) -> bool:
        """Wait for the end. False when it did not come in `timeout` seconds."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        put = self._news.put
        try:
            job = self._job = self._prepare(put)
            put(job)
            if self._stopping.is_set():
                job.review.stop()
            for event in job.review.events():
                put(event)
        except Exception as error:  # the interface says it, or the command does
            put(Broken(error))
