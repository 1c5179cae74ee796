"""The machine that a plan is for: this one, measured, or one that flags describe; each figure with its origin in words.

Knows no model. Bytes, and bytes per second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.bandwidth import DiskRate, Rates
from engine.hardware import Gpu, Hardware

SYSTEM_SHARE = 0.1  # of a described machine's RAM: the system and other programs have it

# Memory bandwidth as published, GB/s, by what the device's name holds.
_GPU_GB_PER_S = {
    "H200": 4800, "H100 PCIe": 2000, "H100 NVL": 3900, "H100": 3350, "A100": 1555, "L40S": 864, "L4": 300, "A6000": 768,
    "RTX 5090": 1792, "RTX 5080": 960, "RTX 4090": 1008, "RTX 4080": 717, "RTX 3090 Ti": 1008, "RTX 3090": 936, "T4": 320,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """A quantity and where it comes from: "given", or how it was found. `value` None: unknown, and `origin` says why."""

    value: float | None
    origin: str


@dataclass(frozen=True, slots=True)
class Machine:
    """`ram` and `vram` (one per cuda:N) are what the plan may use. `flops`: float32 of all CPU cores."""

    ram: Figure
    vram: tuple[Figure, ...]
    no_gpu_reason: str
    ram_bandwidth: Figure
    gpu_bandwidth: Figure
    disk_bandwidth: Figure
    flops: Figure

    def capacity(self, device: str) -> Figure | None:
        """What a device can hold; None for one that is not there."""
        if device == "cpu":
            return self.ram
        kind, _, index = device.partition(":")
        return self.vram[int(index)] if kind == "cuda" and int(index) < len(self.vram) else None


def describe_machine(
    hardware: Hardware,
    rates: Callable[[], Rates],
    ram: int | None = None,
    vram: Sequence[int] | None = None,
    ram_bandwidth: float | None = None,
    disk_bandwidth: float | None = None,
    gpu_bandwidth: float | None = None,
) -> Machine:
    """Given figures stand; the others are this machine's. `rates` is called only where one of its figures is wanted.

    Of given RAM a tenth is left to the system. The CPU's arithmetic is this machine's only where its RAM's speed is.
    """
    if ram_bandwidth is None or disk_bandwidth is None:
        found = rates()
        when = f"measured {found.measured_at[:10]}"
        own_ram = Figure(found.ram.bytes_per_s, f"{when}, {found.ram.threads} threads")
        own_disk = Figure(None, found.disk_reason) if found.disk is None else _disk(found.disk, when)
        own_flops = Figure(found.float32_flops, f"{when}, float32 products")
    else:
        own_ram = own_disk = own_flops = Figure(None, "not measured")
    own_gpus = () if vram is not None else tuple(_vram(gpu) for gpu in hardware.gpus)
    given_gpus = tuple(Figure(size, "given") for size in vram or () if size)
    memory = hardware.memory
    return Machine(
        ram=Figure(memory.available_bytes, f"free now, limit: {memory.limit_source}")
        if ram is None
        else Figure(ram * (1 - SYSTEM_SHARE), f"given, less {SYSTEM_SHARE:.0%} for the system"),
        vram=given_gpus or own_gpus,
        no_gpu_reason="none is described" if vram is not None else hardware.gpu_reason,
        ram_bandwidth=own_ram if ram_bandwidth is None else Figure(ram_bandwidth, "given"),
        gpu_bandwidth=_gpu_bandwidth(() if vram is not None else hardware.gpus)
        if gpu_bandwidth is None
        else Figure(gpu_bandwidth, "given"),
        disk_bandwidth=own_disk if disk_bandwidth is None else Figure(disk_bandwidth, "given"),
        flops=own_flops if ram_bandwidth is None else Figure(None, "another machine's"),
    )


def _disk(rate: DiskRate, when: str) -> Figure:
    cache = {
        "bypassed": "past the page cache",
        "dropped": "page cache emptied before",
        "answered": "answered by the page cache, so the disk itself is slower",
        "unknown": "whether the page cache answered is not known",
    }[rate.page_cache]
    blocks = f"{rate.block_bytes / 2**20:.0f} MiB blocks, {rate.reads_in_flight} in flight"
    return Figure(rate.bytes_per_s, f"{when}, {blocks}, {cache}")


def _vram(gpu: Gpu) -> Figure:
    if gpu.free_bytes is None:
        return Figure(None, f"{gpu.name} does not say")
    return Figure(gpu.free_bytes, f"free now on {gpu.name}")


def _gpu_bandwidth(gpus: Sequence[Gpu]) -> Figure:
    if not gpus:
        return Figure(None, "no GPU")
    for name, rate in _GPU_GB_PER_S.items():
        if name in gpus[0].name:
            return Figure(rate * 1e9, f"published for {name}")
    return Figure(None, f"not known for {gpus[0].name}; --gpu-bandwidth gives it")
