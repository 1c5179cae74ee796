"""This machine or a described one: what is given stands, the rest is measured, and each figure says where it is from."""

import pytest

from engine.bandwidth import DiskRate, RamRate, Rates
from engine.hardware import Cpu, Gpu, Hardware, MemoryInfo
from engine.planner import describe_machine

CPU = Cpu("a CPU", 2, 2, 2, 2, None, ())
MEMORY = MemoryInfo(64 << 30, 3 << 30, 4 << 30, "cgroup v2 /box")
CARD = Gpu(0, "NVIDIA GeForce RTX 4090", 24 << 30, 20 << 30, (8, 9), "1")
DISK = DiskRate(2e9, 8 << 20, 4, 1 << 28, "bypassed", "a.bin")
RATES = Rates(RamRate(50e9, 2, 1 << 28), DISK, "", 200e9, "2026-01-02T03:04:05+00:00")


def described(gpus=(), rates=RATES, **given):
    asked = []

    def measure():
        asked.append(1)
        return rates

    hardware = Hardware(CPU, MEMORY, tuple(gpus), "no NVIDIA driver")
    return describe_machine(hardware, measure, **given), len(asked)


def test_without_flags_it_is_this_machine_and_its_limit_is_named():
    machine, asked = described([CARD])
    assert asked == 1
    assert (machine.ram.value, machine.ram.origin) == (3 << 30, "free now, limit: cgroup v2 /box")
    assert machine.capacity("cuda:0").value == 20 << 30
    assert machine.gpu_bandwidth.value == 1008e9
    assert "measured 2026-01-02" in machine.ram_bandwidth.origin
    assert "8 MiB blocks, 4 in flight, past the page cache" in machine.disk_bandwidth.origin


def test_a_described_machine_is_not_measured_and_keeps_a_tenth_of_its_ram():
    machine, asked = described(
        [CARD], ram=100, vram=[7, 7], ram_bandwidth=80.0, disk_bandwidth=5.0, gpu_bandwidth=9.0
    )
    assert asked == 0
    assert machine.ram.value == pytest.approx(90)
    assert [figure.value for figure in machine.vram] == [7, 7]
    assert [f.value for f in (machine.ram_bandwidth, machine.disk_bandwidth, machine.gpu_bandwidth)] == [
        80.0,
        5.0,
        9.0,
    ]
    assert machine.flops.value is None
    assert machine.capacity("cuda:2") is None


def test_no_vram_is_a_machine_without_a_gpu():
    machine, _ = described([CARD], vram=[0])
    assert machine.vram == ()
    assert machine.no_gpu_reason == "none is described"
    assert described()[0].no_gpu_reason == "no NVIDIA driver"


def test_a_card_that_nobody_knows_has_no_bandwidth_and_says_which_flag_gives_it():
    figure = described([Gpu(0, "Strange 1", 8 << 30, 8 << 30, None, "1")])[0].gpu_bandwidth
    assert figure.value is None
    assert "Strange 1; --gpu-bandwidth" in figure.origin


def test_a_disk_that_could_not_be_read_says_why_and_one_in_the_page_cache_too():
    failed = Rates(RATES.ram, None, "the disk is full", 1.0, RATES.measured_at)
    assert described(rates=failed)[0].disk_bandwidth.origin == "the disk is full"
    cached = Rates(RATES.ram, DiskRate(9e9, 8 << 20, 4, 1, "answered", "a"), "", 1.0, RATES.measured_at)
    assert "answered by the page cache" in described(rates=cached)[0].disk_bandwidth.origin
