"""How fast this machine reads RAM and a disk, measured once and kept in the cache folder. Knows no model and no torch.

What was read and how stands beside each figure: a disk read in large blocks is not the disk that single small reads see,
and a file that lies in the page cache is no disk at all. Rates are bytes per second.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from engine.hardware import Cpu, probe_cpu
from engine.paths import cache_dir, private_dir

PageCache: TypeAlias = Literal["bypassed", "dropped", "answered", "unknown"]

RAM_BUFFER_BYTES = 256 << 20  # well beyond any last-level cache that a share of a core has
DISK_BLOCK_BYTES = 8 << 20  # one projection of an expert of DeepSeek-V3 at 4.5 bit
READS_IN_FLIGHT = 4
SCRATCH_BYTES = 128 << 20
DISK_SECONDS = 1.5
_PRODUCT = 2048  # rows and columns of the matrices behind `float32_flops`
_VERSION = 2


@dataclass(frozen=True, slots=True)
class RamRate:
    """`threads` sum up parts of one buffer; the best of three passes."""

    bytes_per_s: float
    threads: int
    buffer_bytes: int


@dataclass(frozen=True, slots=True)
class DiskRate:
    """Blocks at random places of one file. `page_cache`: bypassed (O_DIRECT), dropped before and not found again,
    answered (the figure is RAM's), or unknown."""

    bytes_per_s: float
    block_bytes: int
    reads_in_flight: int
    read_bytes: int
    page_cache: PageCache
    file: str


@dataclass(frozen=True, slots=True)
class Rates:
    """`disk` is None with a reason where no file could be read or written. `measured_at` is UTC, ISO 8601."""

    ram: RamRate
    disk: DiskRate | None
    disk_reason: str
    float32_flops: float  # multiplications and additions a second of a large float32 product on every core
    measured_at: str


def read_rates(weights_file: Path | None = None, fresh: bool = False) -> Rates:
    """This machine's rates: those of the cache folder, or measured now (about 2 s) and kept there.

    `weights_file`: a large file on the disk in question; without one a scratch file is written into the cache folder,
    read and removed. `fresh` measures again. A cache folder that cannot be written costs nothing but the keeping.
    """
    cpu = probe_cpu()
    folder = cache_dir()
    path = folder / "read-rates.json"
    key = _key(cpu, weights_file or folder)
    kept = _kept(path)
    if not fresh and key in kept:
        try:
            return _from_json(kept[key])
        except (KeyError, TypeError, ValueError):
            pass  # written by another version
    rates = measure(cpu.usable_cores, folder, weights_file)
    kept[key] = asdict(rates)
    try:
        private_dir(folder)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        pass
    return rates


def measure(threads: int, folder: Path, weights_file: Path | None = None) -> Rates:
    """Measure now; see `read_rates`."""
    ram, flops = measure_ram(threads), _float32_flops()
    disk, reason = None, ""
    try:
        if weights_file is not None and weights_file.stat().st_size >= SCRATCH_BYTES:
            disk = measure_disk(weights_file)
        else:
            private_dir(folder)
            scratch = folder / f"read-rate-{os.getpid()}.bin"
            try:
                _write_scratch(scratch)
                disk = measure_disk(scratch)
            finally:
                scratch.unlink(missing_ok=True)
    except OSError as error:
        reason = f"the disk could not be measured in {folder}: {error.strerror or error}"
    return Rates(ram, disk, reason, flops, datetime.now(UTC).isoformat(timespec="seconds"))


def measure_ram(threads: int) -> RamRate:
    """A maximum over integers, which costs nothing beside the reading. One Zen 3 core: 12 GB/s, two: 14.5."""
    buffer = np.ones(RAM_BUFFER_BYTES // 4, dtype=np.int32)
    parts = np.array_split(buffer, threads)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(np.maximum.reduce, parts))
        seconds = min(_seconds(lambda: list(pool.map(np.maximum.reduce, parts))) for _ in range(3))
    return RamRate(buffer.nbytes / seconds, threads, buffer.nbytes)


def measure_disk(file: Path, seconds: float = DISK_SECONDS) -> DiskRate:
    """Read blocks of `file` at random places, several at once, each block at most once. OSError when it cannot be read."""
    descriptor, direct = _open(file)
    try:
        starts = list(
            range(0, os.fstat(descriptor).st_size // DISK_BLOCK_BYTES * DISK_BLOCK_BYTES, DISK_BLOCK_BYTES)
        )
        random.Random(0).shuffle(starts)
        if not direct and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        fetched = _fetched_bytes()
        begun = time.perf_counter()

        def read(mine: list[int]) -> int:
            block = mmap.mmap(-1, DISK_BLOCK_BYTES)  # page-aligned, as O_DIRECT wants it
            total = 0
            for start in mine:
                if time.perf_counter() - begun > seconds:
                    break
                total += os.preadv(descriptor, [block], start)
            return total

        with ThreadPoolExecutor(READS_IN_FLIGHT) as pool:
            total = sum(pool.map(read, [starts[i::READS_IN_FLIGHT] for i in range(READS_IN_FLIGHT)]))
        taken = time.perf_counter() - begun
        after = _fetched_bytes()
    finally:
        os.close(descriptor)
    if not total:
        raise OSError(0, f"{file} is smaller than one block of {DISK_BLOCK_BYTES >> 20} MiB")
    cache: PageCache = "unknown"
    if direct:
        cache = "bypassed"
    elif fetched is not None and after is not None:
        cache = "dropped" if after - fetched >= 0.9 * total else "answered"
    return DiskRate(total / taken, DISK_BLOCK_BYTES, READS_IN_FLIGHT, total, cache, str(file))


def _open(file: Path) -> tuple[int, bool]:
    """A descriptor, and whether it passes the page cache by."""
    if hasattr(os, "O_DIRECT"):
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
        except OSError:  # a file system without it
            return os.open(file, os.O_RDONLY | os.O_CLOEXEC), False
        try:
            os.preadv(descriptor, [mmap.mmap(-1, mmap.PAGESIZE)], 0)
            return descriptor, True
        except OSError:
            os.close(descriptor)
    return os.open(file, os.O_RDONLY | os.O_CLOEXEC), False


def _write_scratch(path: Path) -> None:
    """Random bytes, on the disk and not only in memory: zeros may be stored as nothing."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for _ in range(SCRATCH_BYTES // DISK_BLOCK_BYTES):
            file.write(os.urandom(DISK_BLOCK_BYTES))
        file.flush()
        os.fsync(file.fileno())


def _float32_flops() -> float:
    factor = np.full((_PRODUCT, _PRODUCT), 0.5, dtype=np.float32)
    return 2 * _PRODUCT**3 / min(_seconds(lambda: factor @ factor) for _ in range(3))


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _fetched_bytes() -> int | None:
    """Bytes that this process has had fetched from storage so far; None where the kernel does not say."""
    try:
        text = Path("/proc/self/io").read_text(encoding="ascii")
        return int(text.split("read_bytes:", 1)[1].split()[0])
    except (OSError, IndexError, ValueError):
        return None


def _key(cpu: Cpu, place: Path) -> str:
    """What the figures hold for: this processor with these cores, and the disk that `place` is on."""
    existing = next((p for p in (place, *place.parents) if p.exists()), Path("/"))
    return f"{_VERSION} {cpu.model}, {cpu.usable_cores} cores, device {existing.stat().st_dev}"


def _kept(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _from_json(value: dict[str, Any]) -> Rates:
    disk = None if value["disk"] is None else DiskRate(**value["disk"])
    rest = {key: value[key] for key in ("disk_reason", "float32_flops", "measured_at")}
    return Rates(ram=RamRate(**value["ram"]), disk=disk, **rest)
