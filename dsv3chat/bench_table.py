"""A benchmark as tables for people and as JSON for programs. Knows no command line and measures nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from dsv3chat.markdown_table import aligned
from dsv3chat.sanitize import clean_line
from engine import ChunkSpeed, KernelBenchmark, KernelSpeed, ModelBenchmark, ModelSpeed

_NONE = "-"
_MODEL = ("profile", "load s", "prefill tok/s", "decode tok/s", "MB a token", "GB/s", "of memory", "peak GB")
_CHUNKS = ("profile", "chunk_size", "longest step s", "whole prompt s", "prefill tok/s")
_KERNELS = ("kernel", "shape", "format", "rows", "us", "least to most", "MB", "GB/s", "GFLOP/s", "of memory")


def model_json(found: ModelBenchmark) -> dict[str, Any]:
    """`profiles` has one object a profile; rates are medians, `samples` what they are of."""
    return {
        "model": found.model,
        "random_weights": found.random_weights,
        **asdict(found.task),
        "threads": found.threads,
        "kernels": found.kernels,
        "complete": found.complete,
        "profiles": [asdict(speed) for speed in found.profiles],
        "chunks": [asdict(chunk) for chunk in found.chunks],
        "not_measured": [asdict(missing) for missing in found.not_measured],
        "notes": list(found.notes),
    }


def kernels_json(found: KernelBenchmark) -> dict[str, Any]:
    """Every value; seconds of a call, bytes, and bytes per second for `bandwidth`."""
    document = asdict(found)
    document["kernels"], document["rows"] = found.kernels, document.pop("rows")
    return document


def model_text(found: ModelBenchmark) -> str:
    """The table, above it what was measured, below it what was not."""
    return "\n".join(_model_lines(found))


def _model_lines(found: ModelBenchmark) -> Iterator[str]:
    task = found.task
    weights = ", random weights" if found.random_weights else ""
    depth = "behind it" if task.depth is None else f"behind {task.depth_tokens} tokens"
    yield (
        f"{clean_line(found.model)}{weights}: a prompt of {task.prompt_tokens} tokens, {task.new_tokens} new ones {depth}; "
        f"{_times(found.threads, 'thread')}, {found.kernels} kernels; medians of {_times(task.runs, 'run')}, least to most in brackets"
    )
    if found.profiles:
        yield ""
        yield from aligned([_MODEL, *map(_model_row, found.profiles)])
    if found.chunks:
        yield ""
        yield from aligned([_CHUNKS, *map(_chunk_row, found.chunks)])
    for missing in found.not_measured:
        yield ""
        yield f"{clean_line(missing.profile)} was not measured{' to the end' if missing.fits else ''}: {clean_line(missing.message)}"
    if found.notes:
        yield ""
        yield from (f"Note: {clean_line(note)}" for note in found.notes)


def _model_row(speed: ModelSpeed) -> list[str]:
    samples = speed.samples
    return [
        clean_line(speed.profile),
        f"{speed.load_seconds:.1f}",
        _spread(speed.prefill_tokens_per_s, samples.prefill_tokens_per_s),
        _spread(speed.decode_tokens_per_s, samples.decode_tokens_per_s),
        f"{speed.bytes_per_token / 1e6:.1f}",
        _NONE if speed.gb_per_s is None else f"{speed.gb_per_s:.1f}",
        _percent(speed.share_of_bandwidth),
        f"{speed.peak_memory_bytes / 1e9:.2f}",
    ]


def _chunk_row(chunk: ChunkSpeed) -> list[str]:
    return [
        clean_line(chunk.profile),
        str(chunk.chunk_size),
        f"{chunk.longest_chunk_seconds:.2f}",
        f"{chunk.prompt_seconds:.2f}",
        _rate(chunk.prefill_tokens_per_s),
    ]


def kernels_text(found: KernelBenchmark) -> str:
    """The table, and above it what the memory gives."""
    head = (
        f"{_times(found.threads, 'thread')}, {found.kernels} kernels; memory is read at {found.bandwidth / 1e9:.1f} GB/s; "
        "times are medians of a call"
    )
    return "\n".join([head, "", *aligned([_KERNELS, *map(_kernel_row, found.rows)])])


def _kernel_row(row: KernelSpeed) -> list[str]:
    return [
        row.kernel,
        row.shape,
        row.format,
        str(row.rows),
        f"{row.seconds * 1e6:.0f}",
        f"{row.seconds_least * 1e6:.0f}–{row.seconds_most * 1e6:.0f}",
        f"{row.nbytes / 1e6:.1f}",
        f"{row.gb_per_s:.1f}",
        f"{row.gflop_per_s:.0f}",
        _percent(row.share_of_bandwidth),
    ]


def _spread(value: float | None, samples: Sequence[float]) -> str:
    if value is None:
        return _NONE
    return f"{_rate(value)} ({_rate(min(samples))}–{_rate(max(samples))})"


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _percent(share: float | None) -> str:
    return _NONE if share is None else f"{100 * share:.0f} %"


def _times(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
