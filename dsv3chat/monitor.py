"""One reading of the machine and the engine for the gauges. Knows no widgets.

Unknown is None and is shown as n/a, never as 0.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import psutil

from engine import Gpu, MemoryInfo, StepStats, available_memory, probe_gpus

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Sample:
    """What the gauges show. Bytes are bytes, rates are per second, lag is in milliseconds."""

    gpus: tuple[Gpu, ...]
    no_gpu_reason: str  # "" when there is a GPU
    memory: MemoryInfo | None
    own_rss_bytes: int | None
    stats: StepStats | None
    ui_lag_p95_ms: float | None = None


class Monitor:
    """Takes samples; cheap enough for once a second on the interface thread."""

    def __init__(
        self,
        read_stats: Callable[[], StepStats | None],
        read_memory: Callable[[], MemoryInfo] = available_memory,
        read_gpus: Callable[[], tuple[tuple[Gpu, ...], str]] = probe_gpus,
    ) -> None:
        self._read_stats = read_stats
        self._read_memory = read_memory
        self._read_gpus = read_gpus
        self._process = psutil.Process(os.getpid())
        self._gpus, self._no_gpu_reason = read_gpus()

    def sample(self, ui_lag_p95_ms: float | None = None) -> Sample:
        """Read everything once. What cannot be read is None."""
        if self._gpus:
            self._gpus, self._no_gpu_reason = self._read_gpus()
        return Sample(
            gpus=self._gpus,
            no_gpu_reason=self._no_gpu_reason,
            memory=_or_none(self._read_memory),
            own_rss_bytes=_or_none(lambda: int(self._process.memory_info().rss)),
            stats=self._read_stats(),
            ui_lag_p95_ms=ui_lag_p95_ms,
        )


def _or_none(read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except (OSError, psutil.Error):
        return None
