"""A checkpoint into a folder of other formats, in one call; goes on where a stop or a kill left it. Knows no front end.

Everything is written into OUT.partial beside OUT, which takes OUT's name at the end: a folder called OUT is finished.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from engine.convert.plan import ConversionPlan, described_format, make_plan
from engine.convert.record import RECORD, read_record
from engine.convert.run import Cancelled, OnProgress, Run
from engine.errors import ConversionError
from engine.hardware import probe_cpu
from engine.profile.values import Profile, Rule
from engine.quant.half_quadratic import Fit
from engine.weights.checkpoint import Checkpoint

DEFAULT_SHARD_BYTES = 5_000_000_000
_PARTIAL = ".partial"  # a folder of such a name is no model for engine.weights.locate
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

FormatName: TypeAlias = Literal["int4", "int8", "fp8", "bf16"]


@dataclass(frozen=True, slots=True)
class ConvertedFormat:
    """What became of the tensors that are now in one format; "as stored" are norms and routers. Bytes count scales."""

    name: str
    num_tensors: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Conversion:
    """A finished one. `num_kept` of the shards were there already; `seconds` and `converted_bytes` (of the source) count
    what this run did."""

    path: str
    source_bytes: int
    nbytes: int
    num_shards: int
    num_kept: int
    converted_bytes: int
    seconds: float
    formats: tuple[ConvertedFormat, ...]
    notes: tuple[str, ...]


def _format_profile(precision: FormatName, group_size: int | None, tied: bool) -> Profile:
    """What `--format` means: everything that is multiplied in one format. For fp8 a head of its own stays bf16, as in
    DeepSeek's layout, which other programs read. ConversionError for a group size that the format has no use for."""
    if group_size is not None and precision not in ("int4", "int8"):
        raise ConversionError(
            f"a group size of {group_size} means nothing for {precision}, which has no groups; leave it out"
        )
    rules = (Rule("lm_head", precision="bf16"),) if precision == "fp8" and not tied else ()
    return Profile(name=precision, precision=precision, group_size=group_size, rules=rules)


def convert_checkpoint(
    source: Path,
    target: Path,
    formats: Profile | FormatName,
    *,
    group_size: int | None = None,
    fit: Fit | None = None,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    workers: int | None = None,
    on_progress: OnProgress = lambda progress: None,
    cancelled: Cancelled = lambda: False,
) -> Conversion:
    """Write the checkpoint folder `source` as the folder `target`, in the formats of a profile or in one format.

    `group_size` goes with one format's name; `fit` stands above the profile's. The progress counts bytes of the source. The same call after a stop, a kill
    or a full disk redoes the unfinished shard only and makes the same bytes. `workers`: threads, by default the cores.

    Raises ConversionError (something else is at `target`, no room, `source` is a conversion itself), what opening and
    placing raise, and LoadCancelledError. Peak memory: per worker one tensor as it is stored and one as it becomes.
    """
    target = target.expanduser().absolute()
    _check_places(source, target)
    checkpoint = Checkpoint.open(source)
    _refuse_converted(checkpoint)
    if isinstance(formats, str):
        formats = _format_profile(formats, group_size, checkpoint.config.tie_word_embeddings)
    if fit is not None:
        formats = replace(formats, fit=fit)
    plan = make_plan(checkpoint, formats, shard_bytes)
    workers = workers or probe_cpu().usable_cores
    with _disk_errors(target):
        if _is_finished(target, plan):
            return _conversion(plan, target, len(plan.shards), 0, 0.0)
        partial = target.with_name(target.name + _PARTIAL)
        partial.mkdir(parents=True, exist_ok=True)
        with _locked(partial):
            run = Run(plan, partial, target, workers, on_progress, cancelled)
            run.finish()
            return _conversion(plan, target, run.num_kept, run.converted_bytes, run.seconds)


def _check_places(source: Path, target: Path) -> None:
    here, there = source.expanduser().resolve(), target.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise ConversionError(
            f"{target} is {source} or lies inside it, or the other way round; a conversion needs a folder of its own"
        )
    if target.name.endswith(_PARTIAL):
        raise ConversionError(
            f"{target}: names ending in {_PARTIAL} are for what is not finished; take another"
        )


def _refuse_converted(checkpoint: Checkpoint) -> None:
    if checkpoint.converted or (checkpoint.path / RECORD).exists():
        raise ConversionError(
            f"{checkpoint.path} is a conversion already; its errors and new ones would add up: convert the original"
        )


def _is_finished(target: Path, plan: ConversionPlan) -> bool:
    """Whether `target` is this conversion, complete. ConversionError where it is anything else but absent or empty."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    record = read_record(target) if target.is_dir() else None
    if record is None:
        raise ConversionError(
            f"{target} is there and holds something else; remove it, or name another folder"
        )
    if record.identity != plan.identity:
        raise ConversionError(
            f"{target} holds a conversion of another model or with other settings; remove it, or name another folder"
        )
    for shard in plan.shards:
        path = target / shard.name
        if not path.is_file() or path.stat().st_size != shard.nbytes:
            raise ConversionError(f"{path} is missing or cut; remove {target} and convert again")
    return True


def _conversion(
    plan: ConversionPlan, target: Path, num_kept: int, converted_bytes: int, seconds: float
) -> Conversion:
    counts, sizes = Counter[str](), Counter[str]()
    for item in plan.items:
        name = described_format(item.format, item.group)
        counts[name] += 1
        sizes[name] += item.nbytes
    formats = tuple(ConvertedFormat(name, counts[name], sizes[name]) for name in counts)
    return Conversion(
        str(target),
        plan.source_bytes,
        plan.nbytes,
        len(plan.shards),
        num_kept,
        converted_bytes,
        seconds,
        formats,
        plan.checkpoint.notes,
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone in the folder; the kernel frees the lock when its holder dies. ConversionError when another holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConversionError(
                f"another process is converting into {folder}; wait for it, or name another folder"
            ) from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    """A full disk, missing rights and the like, in a person's words."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        at = error.filename or target
        advice = "make room" if error.errno in _NO_ROOM else "get write access there, or name another folder"
        raise ConversionError(
            f"{at}: {reason}; {advice}. Nothing unfinished has a final name, and the same command goes on"
        ) from error
