"""The same work on many things at once, in threads that each compute alone. Knows no tensor names and no files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

import torch

T = TypeVar("T")


class Workers:
    """`count` threads; with one the caller's own does the work. Conversions hold no interpreter lock while they compute."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = (
            ThreadPoolExecutor(count, "convert", initializer=torch.set_num_threads, initargs=(1,))
            if count > 1
            else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for what has begun; what has not is called off."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def each(self, things: Sequence[T], work: Callable[[T], None]) -> Iterator[T]:
        """Each thing once `work` of it and of all before it is done. The first error of theirs is raised here."""
        if self._pool is None or len(things) < 2:
            for thing in things:
                work(thing)
                yield thing
            return
        futures = [self._pool.submit(work, thing) for thing in things]
        try:
            for thing, future in zip(things, futures, strict=True):
                future.result()
                yield thing
        finally:
            for future in futures:
                future.cancel()
