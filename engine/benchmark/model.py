"""Measures a model under profiles: load, prefill, decode, memory, and the chunk size's trade-off. Knows no table.

One model is in memory at a time, one request runs at a time. Each run asks another prompt, so that no prefix is reused;
between runs the same number of threads read memory, for the share.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeAlias

from engine.api import Engine
from engine.bandwidth import measure_ram
from engine.benchmark.memory import PeakMemory
from engine.benchmark.source import NO_TOKENIZER, Source, bytes_per_token
from engine.benchmark.values import (
    BenchmarkProgress,
    BenchmarkTask,
    ChunkSpeed,
    ModelBenchmark,
    ModelSamples,
    ModelSpeed,
    NotMeasured,
    median_or_none,
)
from engine.errors import (
    CheckpointError,
    GenerationError,
    LoadCancelledError,
    PlacementError,
    RequestTooLargeError,
)
from engine.events import Failed, Finished, LoadProgress, PrefillProgress, Queued, Usage
from engine.kernels.extension import native_status
from engine.profile import Profile
from engine.runtime.assembly import PAGE_TOKENS, Design, check_memory, design
from engine.sampling import SamplingParams

Report: TypeAlias = Callable[[BenchmarkProgress], None]
_WARM_UP = BenchmarkTask(prompt_tokens=24, new_tokens=4)


class _StoppedError(Exception):
    """Somebody stopped the benchmark; what was measured stays."""


def benchmark_model(
    model: str,
    profiles: Mapping[str, Profile],
    task: BenchmarkTask,
    *,
    random_weights: bool = False,
    layers: tuple[int | None, int] | None = None,
    on_progress: Report = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ModelBenchmark:
    """`profiles` by the name in the table. `random_weights`: `model` may be a config.json; `layers` as Source.of_shape.

    Every profile is checked before the first is measured; one that does not fit into memory, or fails, is passed by, with
    the reason in the result. When `cancelled` answers True, the result is what was measured until then. Raises ModelError,
    PlacementError for rules that cannot have their way, RequestTooLargeError.
    """
    source = Source.of_shape(model, layers) if random_weights else Source.of_model(model)
    designs = {name: design(source.checkpoint, profile) for name, profile in profiles.items()}
    for name, designed in designs.items():
        _check_fits(name, designed, source, task)
    speeds: list[ModelSpeed] = []
    chunks: list[ChunkSpeed] = []
    missing: list[NotMeasured] = []
    notes: list[str] = []
    complete = True
    for name, designed in designs.items():
        try:
            check_memory(designed)
        except PlacementError as error:
            missing.append(NotMeasured(name, str(error)))
            continue
        measuring = _Measuring(name, source, designed, task, on_progress, cancelled)
        try:
            measuring.run()
        except (_StoppedError, LoadCancelledError):
            complete = False
        except PlacementError as error:
            missing.append(NotMeasured(name, str(error)))
        except (CheckpointError, GenerationError) as error:
            missing.append(NotMeasured(name, str(error), fits=True))
        finally:
            measuring.close()
        notes += [note for note in measuring.notes if note not in notes]
        speeds += measuring.speed()
        chunks += measuring.chunks
        if not complete:
            break
    isa = native_status().isa
    return ModelBenchmark(
        model=str(source.checkpoint.config.metadata.get("name") or source.checkpoint.name),
        random_weights=random_weights,
        task=task,
        threads=next(iter(designs.values())).threads,
        kernels="torch" if isa is None else f"native {isa}",
        profiles=tuple(speeds),
        chunks=tuple(chunks),
        not_measured=tuple(missing),
        notes=tuple(notes),
        complete=complete,
    )


def _check_fits(name: str, designed: Design, source: Source, task: BenchmarkTask) -> None:
    pool, positions = designed.num_blocks * PAGE_TOKENS, source.checkpoint.config.max_position_embeddings
    needed = max(task.prompt_tokens + 1, task.depth_tokens + task.new_tokens)
    if needed > min(pool, positions):
        limit = "cache_lens" if pool <= positions else "max_position_embeddings of the model"
        raise RequestTooLargeError(
            f"profile {name}: {needed} tokens are asked for, {min(pool, positions)} have room ({limit}); ask for a "
            "shorter prompt, depth or answer" + (", or raise cache_lens" if pool <= positions else "")
        )


@dataclass(slots=True)
class _Measuring:
    """One profile; what is measured is kept as it comes."""

    name: str
    source: Source
    designed: Design
    task: BenchmarkTask
    on_progress: Report
    cancelled: Callable[[], bool]
    chunks: list[ChunkSpeed] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    _engine: Engine | None = None
    _load_seconds: float | None = None
    _peak_bytes: int = 0
    _prefill: list[float] = field(default_factory=list)
    _decode: list[float] = field(default_factory=list)
    _bandwidth: list[float] = field(default_factory=list)
    _num_prompts: int = 0

    def run(self) -> None:
        """Raises _StoppedError or LoadCancelledError when somebody stopped it."""
        task = self.task
        self._measure_bandwidth()
        memory = PeakMemory()
        begun = time.perf_counter()
        try:
            self._engine = engine = self.source.load(self.designed, self._loading, self.cancelled)
        except (RuntimeError, MemoryError) as error:  # torch tells with these that memory is short
            raise PlacementError(f"profile {self.name} could not be loaded: {error}") from error
        self._load_seconds = time.perf_counter() - begun
        self.notes = tuple(note for note in engine.info.notes if note != NO_TOKENIZER)
        self._ask(engine, self._prompt(_WARM_UP.prompt_tokens), _WARM_UP.new_tokens)
        for run in range(task.runs):
            self._report("measuring", run, task.runs)
            self._one_run(engine)
            self._peak_bytes = memory.read()
            self._measure_bandwidth()
            memory.resume()
        for size in task.chunk_sizes:
            self._sweep(engine, size)
        self._peak_bytes = memory.read()

    def speed(self) -> list[ModelSpeed]:
        """One row; none where nothing was loaded."""
        if self._load_seconds is None:
            return []
        decode, bandwidth = median_or_none(self._decode), median_or_none(self._bandwidth)
        config = self.source.checkpoint.config
        placement = self.designed.placement
        nbytes = bytes_per_token(
            placement, config.num_experts_per_tok, config.n_routed_experts, config.tie_word_embeddings
        )
        tokens = self.task.depth_tokens + self.task.new_tokens // 2
        nbytes += self.designed.cache_bytes // (self.designed.num_blocks * PAGE_TOKENS) * tokens
        rate = None if decode is None else nbytes * decode
        in_ram = set(placement.bytes_by_tier) == {"ram"}
        return [
            ModelSpeed(
                profile=self.name,
                load_seconds=self._load_seconds,
                prefill_tokens_per_s=median_or_none(self._prefill),
                decode_tokens_per_s=decode,
                bytes_per_token=nbytes,
                gb_per_s=None if rate is None else rate / 1e9,
                share_of_bandwidth=None if rate is None or not bandwidth or not in_ram else rate / bandwidth,
                peak_memory_bytes=self._peak_bytes,
                samples=ModelSamples(tuple(self._prefill), tuple(self._decode), tuple(self._bandwidth)),
            )
        ]

    def close(self) -> None:
        """Free the model before the next one is read."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        gc.collect()

    def _one_run(self, engine: Engine) -> None:
        task = self.task
        if task.depth is None:
            usage, _ = self._ask(engine, self._prompt(task.prompt_tokens), task.new_tokens)
            self._prefill.append(usage.prefill_tokens_per_s or 0.0)
        else:
            usage, _ = self._ask(engine, self._prompt(task.prompt_tokens), 1)
            self._prefill.append(usage.prefill_tokens_per_s or 0.0)
            usage, _ = self._ask(
                engine, self.source.prompt(task.depth_tokens), task.new_tokens
            )  # a reused prefix
        self._decode.append(usage.decode_tokens_per_s or 0.0)

    def _sweep(self, engine: Engine, chunk_size: int) -> None:
        """Other chunks read no weights: a switch keeps them all."""
        self._report(f"chunks of {chunk_size}", len(self.chunks), len(self.task.chunk_sizes))
        engine.switch(replace(self.designed.profile, chunk_size=chunk_size))
        longest, whole, rates = [], [], []
        for _ in range(self.task.runs):
            usage, steps = self._ask(engine, self._prompt(self.task.prompt_tokens), 1)
            longest.append(max(steps))
            whole.append(sum(steps))
            rates.append(usage.prefill_tokens_per_s or 0.0)
        medians = [median_or_none(samples) or 0.0 for samples in (longest, whole, rates)]
        self.chunks.append(ChunkSpeed(self.name, chunk_size, *medians))

    def _ask(self, engine: Engine, ids: Sequence[int], new_tokens: int) -> tuple[Usage, list[float]]:
        """What it cost, and the seconds of each step that read the prompt."""
        params = SamplingParams(max_new_tokens=new_tokens, temperature=0.0, ignore_eos=True)
        generation = engine.submit(ids, params)
        marks: list[float] = []
        reading = True
        for event in generation:
            if isinstance(event, Queued):
                continue
            if reading:
                marks.append(time.perf_counter())
            reading = reading and isinstance(event, PrefillProgress)
            if self.cancelled():
                generation.cancel()
            if isinstance(event, Failed):
                raise GenerationError(event.message)
            if isinstance(event, Finished):
                if event.reason == "cancelled":
                    raise _StoppedError
                steps = [after - before for before, after in pairwise(marks)]
                return event.usage, steps or [event.usage.prefill_seconds]
        raise GenerationError("the answer ended without a last word")

    def _prompt(self, num_tokens: int) -> list[int]:
        """Another one each time, as long, that begins with a token of its own."""
        self._num_prompts += 1
        start = self._num_prompts % num_tokens
        ids = self.source.prompt(num_tokens)
        return [*ids[start:], *ids[:start]]

    def _measure_bandwidth(self) -> None:
        self._report("reading memory")
        self._bandwidth.append(measure_ram(self.designed.threads).bytes_per_s)

    def _loading(self, progress: LoadProgress) -> None:
        self._report(progress.stage, progress.done_bytes, progress.total_bytes)

    def _report(self, stage: str, done: int = 0, total: int = 0) -> None:
        if self.cancelled():
            raise _StoppedError
        self.on_progress(BenchmarkProgress(self.name, stage, done, total))
