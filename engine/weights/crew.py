"""Threads that take items off a list until it is empty, one of them fails, or somebody stops it. Knows no tensors.

Threads, not processes: torch leaves the interpreter to others while it computes, nothing is copied between them, and each
has one torch thread of its own. At Moonlight's widths two threads take 0 to 20 % more processor time than one for the same
work, so two free cores give 1.7 to 2 times one (tests/bench/convert_speed.py).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@contextmanager
def crew(workers: int) -> Iterator[ThreadPoolExecutor]:
    """`workers` threads, each with one torch thread."""
    with ThreadPoolExecutor(workers, "convert", initializer=torch.set_num_threads, initargs=(1,)) as threads:
        yield threads


def work_through(
    threads: ThreadPoolExecutor,
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    cancelled: Callable[[], bool],
) -> Generator[_Result, None, None]:
    """Results as they come, in any order. Ends early when `cancelled` answers True; raises what the first failure raised.

    Nothing runs any more when it ends or is closed.
    """
    waiting: set[Future[_Result]] = {threads.submit(work, item) for item in items}
    try:
        while waiting and not cancelled():
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    finally:
        for future in waiting:
            future.cancel()
        wait(waiting)
