"""What a benchmark is asked for and what it gives, as frozen values. Knows no model.

Rates of a row are medians of its samples; a value that was not reached, since somebody stopped it, is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class BenchmarkTask:
    """`depth`: tokens in the cache before the answer; None: the prompt's, whose answer it then is. `chunk_sizes`: of the
    sweep, empty for none. One request at a time; greedy, so that sampling costs least."""

    prompt_tokens: int = 2000
    new_tokens: int = 128
    depth: int | None = None
    runs: int = 3
    chunk_sizes: tuple[int, ...] = ()

    @property
    def depth_tokens(self) -> int:
        """Tokens before the answer; a model cannot begin without one."""
        return self.prompt_tokens if self.depth is None else max(1, self.depth)


@dataclass(frozen=True, slots=True)
class BenchmarkProgress:
    """What is being measured, in a few words; `done` of `total`, both 0 where nothing is counted."""

    profile: str
    stage: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class ModelSamples:
    """One entry a run; `bandwidth`, bytes per second, also one before the first run."""

    prefill_tokens_per_s: tuple[float, ...] = ()
    decode_tokens_per_s: tuple[float, ...] = ()
    bandwidth: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelSpeed:
    """One profile. `bytes_per_token`: what a decode step must read, weights (of the routed experts k / E) and the latents
    of the tokens before it. gb_per_s = bytes_per_token * decode_tokens_per_s; `share_of_bandwidth` is that of the rate at which
    as many threads read memory, measured between the runs. Bytes are of RAM and GPUs; with a GPU there is no share."""

    profile: str
    load_seconds: float
    prefill_tokens_per_s: float | None
    decode_tokens_per_s: float | None
    bytes_per_token: int
    gb_per_s: float | None
    share_of_bandwidth: float | None
    peak_memory_bytes: int
    samples: ModelSamples


@dataclass(frozen=True, slots=True)
class ChunkSpeed:
    """The same prompt under another chunk_size: how long others wait for a step, against how long the prompt takes."""

    profile: str
    chunk_size: int
    longest_chunk_seconds: float
    prompt_seconds: float
    prefill_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """A profile that could not be measured, or not to the end, and why. `fits`: it is not for want of memory."""

    profile: str
    message: str
    fits: bool = False


@dataclass(frozen=True, slots=True)
class ModelBenchmark:
    """`threads` of the first profile, `kernels` what computes ("native avx2", "torch"). `complete`: nobody stopped it."""

    model: str
    random_weights: bool
    task: BenchmarkTask
    threads: int
    kernels: str
    profiles: tuple[ModelSpeed, ...]
    chunks: tuple[ChunkSpeed, ...]
    not_measured: tuple[NotMeasured, ...]
    notes: tuple[str, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class KernelSpeed:
    """One kernel on one matrix, layer or cache of a model's shape. Seconds of a call: median, least, most.

    `nbytes` are what it must read; `share_of_bandwidth` where reading bounds it, None for products of many rows.
    """

    kernel: str
    shape: str
    format: str
    rows: int
    seconds: float
    seconds_least: float
    seconds_most: float
    nbytes: int
    gb_per_s: float
    gflop_per_s: float
    share_of_bandwidth: float | None


@dataclass(frozen=True, slots=True)
class KernelBenchmark:
    """`bandwidth`: bytes per second that as many threads read, measured before each format of each shape; the median."""

    threads: int
    kernels: str
    bandwidth: float
    rows: tuple[KernelSpeed, ...]
    complete: bool


def median_or_none(samples: Sequence[float]) -> float | None:
    return median(samples) if samples else None
