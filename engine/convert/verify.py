"""A converted folder against its source, read again: checksums, and how far each format is from the values. Knows no model.

The error of a tensor is relative RMS: sqrt(sum (w' - w)^2 / sum w^2), of a format the same over all of its tensors.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.convert.plan import described_format
from engine.convert.record import RECORD, read_record
from engine.convert.run import Cancelled, OnProgress
from engine.convert.shard_file import sha256
from engine.errors import ConversionError, LoadCancelledError
from engine.events import LoadProgress
from engine.hardware import probe_cpu
from engine.quant.matrix import Matrix
from engine.quant.widen import widen_rows
from engine.weights.checkpoint import Checkpoint
from engine.weights.crew import crew, work_through
from engine.weights.names import TensorSpec
from engine.weights.safetensors_file import SafetensorsFiles
from engine.weights.stored import stored_matrix

WORST = 10
_TILE_VALUES = 1 << 18  # two tiles of 1 MiB a thread: both stay in cache


@dataclass(frozen=True, slots=True)
class TensorError:
    name: str
    format: str
    relative_rms: float


@dataclass(frozen=True, slots=True)
class FormatError:
    """`worst_rms` is that of its worst tensor."""

    format: str
    num_tensors: int
    relative_rms: float
    worst_rms: float


@dataclass(frozen=True, slots=True)
class Verification:
    """`worst`: the tensors that are furthest off, the worst first; those without any error are not listed."""

    formats: tuple[FormatError, ...]
    worst: tuple[TensorError, ...]
    num_shards: int


@dataclass(frozen=True, slots=True)
class _Measured:
    spec: TensorSpec
    format: str
    squared_error: float
    squared: float


def verify_conversion(
    source: Path,
    target: Path,
    *,
    workers: int | None = None,
    on_progress: OnProgress = lambda progress: None,
    cancelled: Cancelled = lambda: False,
) -> Verification:
    """Check every shard of `target` against its checksum, then every tensor against `source`.

    ConversionError for what `convert` did not write, a shard that has changed or another model; what opening raises;
    LoadCancelledError.
    """
    after = Checkpoint.open(target)
    num_shards = _check_shards(target, on_progress, cancelled)
    before = Checkpoint.open(source)
    if before.specs != after.specs:
        raise ConversionError(f"{target} is not a conversion of {source}: they are of different shapes")
    total = sum(info.nbytes for name, info in before.tensors.items() if name in before.specs)
    done = 0
    results: list[_Measured] = []
    with (
        before.open_files() as original_files,
        after.open_files() as files,
        crew(workers or probe_cpu().usable_cores) as threads,
    ):

        def work(spec: TensorSpec) -> _Measured:
            return _measured(before, original_files, after, files, spec)

        with closing(work_through(threads, work, before.specs.values(), cancelled)) as finished:
            for measured in finished:
                results.append(measured)
                done += before.tensors[measured.spec.name].nbytes
                on_progress(LoadProgress("comparing", done, total))
    if len(results) < len(before.specs):
        raise _stopped()
    return _summed(results, num_shards)


def _check_shards(folder: Path, on_progress: OnProgress, cancelled: Cancelled) -> int:
    record = read_record(folder)
    if record is None:
        raise ConversionError(
            f"{folder} has no {RECORD}; expected a folder that `dsv3chat convert` has finished"
        )
    total, done = sum(shard.nbytes for shard in record.shards.values()), 0
    for name, shard in record.shards.items():
        on_progress(LoadProgress("checking checksums", done, total, name))
        digest = sha256(folder / name, cancelled)
        if digest is None:
            raise _stopped()
        if digest != shard.sha256:
            raise ConversionError(
                f"{folder / name} is not what was written (its SHA-256 differs); convert again into another folder"
            )
        done += shard.nbytes
    return len(record.shards)


def _measured(
    before: Checkpoint,
    original_files: SafetensorsFiles,
    after: Checkpoint,
    files: SafetensorsFiles,
    spec: TensorSpec,
) -> _Measured:
    if spec.kind.is_matrix:
        original = stored_matrix(before, original_files, spec.name)
        matrix = stored_matrix(after, files, spec.name)
        error, squared = _squares(original, matrix)
        return _Measured(spec, described_format(matrix.format, matrix.group), error, squared)
    values = original_files.map(spec.name).double()
    difference = files.map(spec.name).double() - values
    return _Measured(
        spec, described_format(None, 0), float(difference.square().sum()), float(values.square().sum())
    )


def _squares(original: Matrix, matrix: Matrix) -> tuple[float, float]:
    """(sum of squared errors, sum of squared values), tile by tile, summed in float64 over the tiles."""
    rows, columns = original.shape
    step = max(1, _TILE_VALUES // max(1, columns))
    tile, other = (torch.empty(min(step, rows), columns) for _ in range(2))
    error = squared = 0.0
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        wanted, found = tile[: stop - start], other[: stop - start]
        widen_rows(original, start, stop, wanted)
        widen_rows(matrix, start, stop, found)
        found.sub_(wanted)
        error += float(torch.linalg.vector_norm(found, dtype=torch.float64)) ** 2
        squared += float(torch.linalg.vector_norm(wanted, dtype=torch.float64)) ** 2
    return error, squared


def _summed(results: Iterable[_Measured], num_shards: int) -> Verification:
    by_format: dict[str, list[_Measured]] = defaultdict(list)
    for measured in results:
        by_format[measured.format].append(measured)
    formats = tuple(
        FormatError(
            name,
            len(group),
            _relative(math.fsum(m.squared_error for m in group), math.fsum(m.squared for m in group)),
            max(_relative(m.squared_error, m.squared) for m in group),
        )
        for name, group in sorted(by_format.items())
    )
    errors = [
        TensorError(m.spec.name, m.format, _relative(m.squared_error, m.squared))
        for group in by_format.values()
        for m in group
        if m.squared_error
    ]
    worst = heapq.nsmallest(WORST, errors, key=lambda error: (-error.relative_rms, error.name))
    return Verification(formats, tuple(worst), num_shards)


def _relative(squared_error: float, squared: float) -> float:
    return math.sqrt(squared_error / squared) if squared else math.sqrt(squared_error)


def _stopped() -> LoadCancelledError:
    return LoadCancelledError("the verification was stopped; what was converted stays")
