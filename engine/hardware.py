"""What the machine offers: cores, instruction set, memory and its limits, GPUs. Data only: knows no model, no torch.

Paths of /proc and of the cgroup file system are parameters, so that tests describe any machine with a few files.
Bytes are bytes; a quantity that cannot be found out is None, never 0.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
MACHINE = "machine"

# Name here -> name in /proc/cpuinfo, for what kernels are written for. Lower lines need the upper ones.
_INSTRUCTIONS = {
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "amx_tile": "amx_tile",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "asimd": "asimd",
    "dotprod": "asimddp",
    "i8mm": "i8mm",
    "bf16": "bf16",
}


@dataclass(frozen=True, slots=True)
class Cpu:
    """`usable_*` is what this process may use: its affinity, and no more cores than a cgroup quota is worth."""

    model: str
    logical_cpus: int  # hardware threads of the machine
    physical_cores: int
    usable_cpus: int  # hardware threads in the affinity mask
    usable_cores: int  # physical cores under them, at most the quota (rounded down, at least 1)
    quota_cores: float | None  # cgroup CPU quota in cores, None without one
    instruction_set: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MemoryInfo:
    """RAM. `limit_bytes` is what this process can ever hold, `available_bytes` what it can still take now."""

    total_bytes: int  # of the machine
    available_bytes: (
        int  # smallest of the machine's and of every limit's; droppable file pages count as available
    )
    limit_bytes: int  # total_bytes, or the smallest cgroup limit below it
    limit_source: str  # "machine", "cgroup v2 /path" or "cgroup v1 /path"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA device in NVML's order (by PCI bus)."""

    index: int
    name: str
    total_bytes: int | None
    free_bytes: int | None
    compute_capability: tuple[int, int] | None
    driver: str
    utilization_percent: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    cpu: Cpu
    memory: MemoryInfo
    gpus: tuple[Gpu, ...]
    gpu_reason: str  # why a GPU is missing, for a person; "" when every device was read


def probe(proc: Path = PROC, cgroup: Path = CGROUP) -> Hardware:
    """Everything at once; some milliseconds, more when an NVIDIA driver has to wake up. Never raises."""
    gpus, reason = probe_gpus()
    return Hardware(probe_cpu(proc, cgroup), available_memory(proc, cgroup), gpus, reason)


def probe_cpu(proc: Path = PROC, cgroup: Path = CGROUP, affinity: Set[int] | None = None) -> Cpu:
    """`affinity`: the CPUs this process may run on; None asks the operating system."""
    processors = [
        dict(re.findall(r"^([^\t:]+?)\s*:[ \t]*(.*)$", block, re.MULTILINE))
        for block in _read(proc / "cpuinfo").split("\n\n")
        if re.search(r"^processor\s*:", block, re.MULTILINE)
    ]
    if not processors:  # not Linux
        processors = [{"processor": str(i), "core id": str(i)} for i in range(os.cpu_count() or 1)]
    core_of = {
        int(p["processor"]): (p.get("physical id", "0"), p.get("core id", p["processor"])) for p in processors
    }
    if affinity is None:
        affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(core_of)
    usable = affinity & set(core_of) or set(core_of)
    usable_cores = len({core_of[cpu] for cpu in usable})
    quota = _cpu_quota(proc, cgroup)
    if quota is not None:
        usable_cores = max(1, min(usable_cores, int(quota)))
    flags = set.intersection(*(set((p.get("flags") or p.get("Features") or "").split()) for p in processors))
    return Cpu(
        model=processors[0].get("model name") or platform.processor() or platform.machine() or "unknown",
        logical_cpus=len(processors),
        physical_cores=len(set(core_of.values())),
        usable_cpus=len(usable),
        usable_cores=usable_cores,
        quota_cores=quota,
        instruction_set=tuple(name for name, flag in _INSTRUCTIONS.items() if flag in flags),
    )


def available_memory(proc: Path = PROC, cgroup: Path = CGROUP) -> MemoryInfo:
    """RAM now, a dozen small reads: cheap enough for every second."""
    fields = {
        name: int(kilobytes) * 1024
        for name, kilobytes in re.findall(r"^(\w+):\s+(\d+) kB$", _read(proc / "meminfo"), re.MULTILINE)
    }
    if "MemTotal" in fields and "MemAvailable" in fields:
        total, available = fields["MemTotal"], fields["MemAvailable"]
    else:  # not Linux
        virtual = psutil.virtual_memory()
        total, available = virtual.total, virtual.available
    limit, source = total, MACHINE
    for version, folder, name in _levels(proc, cgroup, "memory"):
        v2 = version == 2
        level_limit = _number(folder / ("memory.max" if v2 else "memory.limit_in_bytes"))
        if level_limit is None or level_limit >= total:  # "max"; v1 writes a huge number
            continue
        used = _number(folder / ("memory.current" if v2 else "memory.usage_in_bytes")) or 0
        used -= _file_pages(folder, "" if v2 else "total_")
        available = min(available, max(0, level_limit - max(0, used)))
        if level_limit < limit:
            limit, source = level_limit, f"cgroup v{version} {name}"
    return MemoryInfo(total, available, limit, source)


def probe_gpus(nvml: Any = None) -> tuple[tuple[Gpu, ...], str]:
    """NVIDIA GPUs through NVML, and why there are none or fewer. `nvml` stands in for the module pynvml in tests."""
    try:
        nvml = nvml or import_module("pynvml")
    except ImportError:
        return (), "the package nvidia-ml-py is not installed"
    try:
        nvml.nvmlInit()
    except Exception as error:  # NVMLError, and OSError from a driver library that cannot be loaded
        return (), f"no NVIDIA driver: {error}"
    gpus: list[Gpu] = []
    failures: list[str] = []
    try:
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                gpus.append(_gpu(nvml, index, driver))
            except nvml.NVMLError as error:
                failures.append(f"GPU {index}: {error}")
    except nvml.NVMLError as error:
        failures.append(str(error))
    finally:
        nvml.nvmlShutdown()
    if not gpus and not failures:
        return (), "the NVIDIA driver is there, but no GPU"
    return tuple(gpus), "; ".join(failures)


def _gpu(nvml: Any, index: int, driver: str) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    total = free = None
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        total, free = int(memory.total), int(memory.free)
    except nvml.NVMLError_NotSupported:  # a GPU without memory of its own
        pass
    capability = _supported(nvml, lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle))
    return Gpu(
        index,
        _text(nvml.nvmlDeviceGetName(handle)),
        total,
        free,
        None if capability is None else (int(capability[0]), int(capability[1])),
        driver,
        _supported(nvml, lambda: int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
        _supported(nvml, lambda: int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
        _supported(nvml, lambda: float(nvml.nvmlDeviceGetPowerUsage(handle)) / 1000),
    )


def _supported(nvml: Any, read: Callable[[], T]) -> T | None:
    """What the device can tell, None for what it cannot."""
    try:
        return read()
    except nvml.NVMLError:
        return None


def _levels(proc: Path, cgroup: Path, controller: str) -> Iterator[tuple[int, Path, str]]:
    """(version, folder, name) of every cgroup from this process's own up to the mounted root.

    Inside a container the path in /proc/self/cgroup may be the host's, of which only the end, or nothing, lies
    below the mount: the longest end that exists is taken. `controller` is memory or cpu.
    """
    for line in _read(proc / "self" / "cgroup").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            version = 2
            unified = cgroup / "unified"  # version 2 beside version 1
            mount = unified if unified.is_dir() else cgroup
        elif controller in controllers.split(","):
            version = 1
            joined = cgroup / controllers
            mount = joined if joined.is_dir() else cgroup / controller
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        while parts and not mount.joinpath(*parts).is_dir():
            parts.pop(0)
        for depth in range(len(parts), -1, -1):
            yield version, mount.joinpath(*parts[:depth]), "/" + "/".join(parts[:depth])


def _cpu_quota(proc: Path, cgroup: Path) -> float | None:
    """The smallest CPU quota up the hierarchy, in cores."""
    quotas: list[float] = []
    for version, folder, _ in _levels(proc, cgroup, "cpu"):
        if version == 2:
            quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
        else:
            quota = _read(folder / "cpu.cfs_quota_us").strip()  # -1: none
            period = _read(folder / "cpu.cfs_period_us").strip()
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _file_pages(folder: Path, prefix: str) -> int:
    """Bytes of file pages charged to a cgroup, which the kernel drops before it refuses or kills."""
    stat = dict(re.findall(r"^(\w+) (\d+)$", _read(folder / "memory.stat"), re.MULTILINE))
    return sum(int(stat.get(f"{prefix}{name}", 0)) for name in ("active_file", "inactive_file"))


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _read(path: Path) -> str:
    """The text of a small file, "" where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _text(value: str | bytes) -> str:
    """NVML's strings are bytes in some versions."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
