"""The machine as a few files describe it: limits, cores, instruction set, GPUs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.hardware import Gpu, MemoryInfo, available_memory, probe, probe_cpu, probe_gpus

GIB = 2**30
MACHINE = {
    "proc/meminfo": f"MemTotal:       {64 * 2**20} kB\nMemFree: 1 kB\nMemAvailable:   {40 * 2**20} kB\n"
}


def build(root: Path, files: dict[str, str]) -> tuple[Path, Path]:
    """Write `files` below root; the paths of proc and of the cgroup file system."""
    (root / "cgroup").mkdir()
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "proc", root / "cgroup"


def memory(root: Path, files: dict[str, str]) -> MemoryInfo:
    return available_memory(*build(root, MACHINE | files))


def test_without_a_limit_the_machine_is_the_limit(tmp_path: Path) -> None:
    assert memory(tmp_path, {}) == MemoryInfo(64 * GIB, 40 * GIB, 64 * GIB, "machine")


def test_the_smallest_limit_up_the_hierarchy_counts_and_is_named(tmp_path: Path) -> None:
    info = memory(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice/app.scope\n",
            "cgroup/user.slice/memory.max": f"{8 * GIB}\n",
            "cgroup/user.slice/memory.current": f"{5 * GIB}\n",
            "cgroup/user.slice/memory.stat": f"anon 1\nactive_file {GIB}\ninactive_file {GIB}\n",
            "cgroup/user.slice/app.scope/memory.max": f"{16 * GIB}\n",
            "cgroup/user.slice/app.scope/memory.current": f"{GIB}\n",
        },
    )
    assert (info.limit_bytes, info.limit_source) == (8 * GIB, "cgroup v2 /user.slice")
    assert info.available_bytes == 5 * GIB  # 8 - (5 - 2 of droppable file pages)


def test_the_fullest_level_decides_what_is_available(tmp_path: Path) -> None:
    info = memory(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b\n",
            "cgroup/a/memory.max": f"{16 * GIB}",
            "cgroup/a/memory.current": f"{15 * GIB}",
            "cgroup/a/b/memory.max": f"{8 * GIB}",
            "cgroup/a/b/memory.current": f"{GIB}",
        },
    )
    assert (info.limit_bytes, info.available_bytes) == (8 * GIB, GIB)


def test_a_limit_that_is_passed_leaves_nothing_and_never_less(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "cgroup/memory.max": f"{GIB}",
        "cgroup/memory.current": f"{2 * GIB}",
    }
    assert memory(tmp_path, files).available_bytes == 0


def test_a_version_1_limit_is_read_and_its_huge_number_is_none(tmp_path: Path) -> None:
    info = memory(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n",
            "cgroup/unified/cgroup.procs": "",
            "cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "cgroup/memory/docker/abc/memory.limit_in_bytes": f"{4 * GIB}\n",
            "cgroup/memory/docker/abc/memory.usage_in_bytes": f"{3 * GIB}\n",
            "cgroup/memory/docker/abc/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB}\n",
        },
    )
    assert info == MemoryInfo(64 * GIB, 2 * GIB, 4 * GIB, "cgroup v1 /docker/abc")


@pytest.mark.parametrize("path", ["/docker/of-the-host", "/../../other", "/"])
def test_a_container_that_sees_only_its_own_root_finds_its_limit(tmp_path: Path, path: str) -> None:
    info = memory(tmp_path, {"proc/self/cgroup": f"0::{path}\n", "cgroup/memory.max": f"{2 * GIB}"})
    assert (info.limit_bytes, info.limit_source) == (2 * GIB, "cgroup v2 /")


def test_max_and_a_limit_above_the_machine_are_no_limits(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/a\n",
        "cgroup/memory.max": f"{999 * GIB}",
        "cgroup/a/memory.max": "max\n",
    }
    assert memory(tmp_path, files).limit_source == "machine"


def cpuinfo(cores: int, threads: int, flags: str) -> str:
    """`threads` per core of one socket, numbered as Linux does: first all cores, then their second threads."""
    return "".join(
        f"processor\t: {t * cores + c}\nmodel name\t: Test CPU @ 3: GHz\nphysical id\t: 0\n"
        f"core id\t\t: {c}\nflags\t\t: {flags}\n\n"
        for t in range(threads)
        for c in range(cores)
    )


def test_cores_are_counted_under_affinity_and_quota(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": cpuinfo(8, 2, "avx2 fma avx512_vnni xyz amx_tile"),
        "proc/self/cgroup": "0::/a/b\n",
        "cgroup/a/cpu.max": "350000 100000\n",
        "cgroup/a/b/cpu.max": "max 100000\n",
    }
    proc, cgroup = build(tmp_path, files)
    cpu = probe_cpu(proc, cgroup, affinity={0, 1, 2, 3, 4, 8, 9})
    assert (cpu.model, cpu.logical_cpus, cpu.physical_cores) == ("Test CPU @ 3: GHz", 16, 8)
    assert (cpu.usable_cpus, cpu.usable_cores, cpu.quota_cores) == (7, 3, 3.5)
    assert cpu.instruction_set == ("avx2", "fma", "avx512_vnni", "amx_tile")
    assert probe_cpu(proc, tmp_path / "none", affinity={0, 8}).usable_cores == 1


def test_a_quota_below_one_core_still_leaves_one(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": cpuinfo(2, 1, ""),
        "proc/self/cgroup": "3:cpu,cpuacct:/\n",
        "cgroup/cpu/cpu.cfs_quota_us": "50000\n",
        "cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    cpu = probe_cpu(*build(tmp_path, files), affinity={0, 1})
    assert (cpu.usable_cores, cpu.quota_cores) == (1, 0.5)


def test_an_arm_machine_names_its_features(tmp_path: Path) -> None:
    text = "".join(
        f"processor\t: {i}\nFeatures\t: fp asimd asimddp i8mm\nCPU part\t: 0xd4f\n\n" for i in (0, 1)
    )
    cpu = probe_cpu(*build(tmp_path, {"proc/cpuinfo": text + "Hardware\t: board\n"}), affinity={0, 1})
    assert cpu.instruction_set == ("asimd", "dotprod", "i8mm")
    assert (cpu.logical_cpus, cpu.physical_cores) == (2, 2)


def test_only_what_every_core_has_counts(tmp_path: Path) -> None:
    text = "processor: 0\nflags: avx2 avx512f\n\nprocessor: 1\nflags: avx2\n\n"
    assert probe_cpu(*build(tmp_path, {"proc/cpuinfo": text})).instruction_set == ("avx2",)


def test_this_machine_is_described_without_an_error() -> None:
    hardware = probe()
    assert hardware.cpu.usable_cores >= 1
    assert 0 < hardware.memory.available_bytes <= hardware.memory.limit_bytes
    assert hardware.gpus or hardware.gpu_reason


def test_without_proc_the_machine_is_still_described(tmp_path: Path) -> None:
    assert available_memory(tmp_path, tmp_path).total_bytes > 0
    assert probe_cpu(tmp_path, tmp_path).logical_cpus >= 1


class NVMLError(Exception):
    """As pynvml's."""


class NVMLNotSupportedError(NVMLError):
    """As pynvml's."""


def nvml(count: int, **changes: Any) -> SimpleNamespace:
    """A stand-in for pynvml with `count` GPUs."""
    state = SimpleNamespace(open=0)

    def start() -> None:
        state.open += 1

    def stop() -> None:
        state.open -= 1

    names = {
        "NVMLError": NVMLError,
        "NVMLError_NotSupported": NVMLNotSupportedError,
        "nvmlInit": start,
        "nvmlShutdown": stop,
        "nvmlSystemGetDriverVersion": lambda: "550.1",
        "nvmlDeviceGetCount": lambda: count,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: b"Card",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=24 * GIB, free=20 * GIB),
        "nvmlDeviceGetCudaComputeCapability": lambda handle: (8, 9),
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=38),
        "nvmlDeviceGetTemperature": lambda handle, sensor: 71,
        "nvmlDeviceGetPowerUsage": lambda handle: 212_000,
        "state": state,
    }
    return SimpleNamespace(**(names | changes))


def raising(error: Exception) -> Any:
    def call(*args: Any) -> Any:
        raise error

    return call


def test_gpus_are_read_and_the_library_is_closed() -> None:
    library = nvml(2)
    gpus, reason = probe_gpus(library)
    assert gpus[1] == Gpu(1, "Card", 24 * GIB, 20 * GIB, (8, 9), "550.1", 38, 71, 212.0)
    assert (len(gpus), reason, library.state.open) == (2, "", 0)


def test_no_driver_and_no_gpu_each_have_their_reason() -> None:
    assert probe_gpus(nvml(0)) == ((), "the NVIDIA driver is there, but no GPU")
    library = nvml(0, nvmlInit=raising(NVMLError("Shared Library Not Found")))
    assert probe_gpus(library) == ((), "no NVIDIA driver: Shared Library Not Found")


def test_a_gpu_that_cannot_be_read_does_not_hide_the_others() -> None:
    def handle(index: int) -> int:
        if index == 0:
            raise NVMLError("lost")
        return index

    library = nvml(2, nvmlDeviceGetHandleByIndex=handle)
    gpus, reason = probe_gpus(library)
    assert ([gpu.index for gpu in gpus], reason, library.state.open) == ([1], "GPU 0: lost", 0)


def test_memory_that_a_gpu_does_not_report_is_unknown_and_not_zero() -> None:
    gpus, _ = probe_gpus(nvml(1, nvmlDeviceGetMemoryInfo=raising(NVMLNotSupportedError("no"))))
    assert (gpus[0].total_bytes, gpus[0].free_bytes) == (None, None)


def test_a_sensor_that_a_gpu_lacks_is_unknown_and_hides_nothing() -> None:
    gpus, reason = probe_gpus(nvml(1, nvmlDeviceGetPowerUsage=raising(NVMLNotSupportedError("no"))))
    assert (gpus[0].power_w, gpus[0].temperature_c, reason) == (None, 71, "")
