"""Machines that tests plan for. Knows no model."""

from engine.planner import Figure, Machine

GB, GIB = 10**9, 2**30


def given(value):
    return Figure(value, "given")


def machine(*, ram=128 * GIB, vram=(24 * GIB,), ram_rate=80, gpu_rate=1000, disk_rate=7, flops=None):
    """By default what the article has: 128 GB, a card of 24 GB, one NVMe drive; None as a rate is an unknown one."""
    rates = [given(None if rate is None else rate * 1e9) for rate in (ram_rate, gpu_rate, disk_rate)]
    return Machine(given(ram), tuple(map(given, vram)), "no driver", *rates, given(flops))
