"""The kernels' benchmark: every kernel of a shape and format, with bytes, rates and a share where reading bounds it."""

import pytest

from engine import benchmark_kernels
from engine.bandwidth import RamRate
from engine.benchmark import kernels as measured
from engine.benchmark.shapes import SHAPES


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(measured, "_UNCACHED_BYTES", 1 << 20)
    monkeypatch.setattr(measured, "_MAX_COPIES", 8)
    monkeypatch.setattr(measured, "_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(measured, "measure_ram", lambda threads: RamRate(1e10, threads, 1))


@pytest.mark.parametrize("fmt", ["bf16", "int4"])
def test_each_kernel_has_a_row_for_one_token_and_for_many(tiny, fmt):
    found = benchmark_kernels(("nano",), (fmt,), threads=1, runs=3)
    names = [(row.kernel.split(",")[0], row.rows == 1) for row in found.rows]
    assert names == [
        ("linear", True), ("linear", False), ("experts", True), ("experts", False),
        ("attention", True), ("attention", True), ("attention", False),
    ]  # fmt: skip
    for row in found.rows:
        assert row.seconds_least <= row.seconds <= row.seconds_most
        assert row.gb_per_s == pytest.approx(row.nbytes / row.seconds / 1e9)
        assert row.share_of_bandwidth in (None, pytest.approx(row.gb_per_s / 10))
        assert (row.share_of_bandwidth is None) == (row.rows > 1)
    linear = found.rows[0]
    shape = SHAPES["nano"]
    values = shape.hidden * shape.heads * shape.v
    bits = {"bf16": 16, "int4": 4.5}[fmt]
    assert linear.nbytes == values * bits / 8
    assert linear.gflop_per_s == pytest.approx(2 * values / linear.seconds / 1e9)
    assert found.complete
    assert found.threads == 1


def test_a_stop_keeps_the_rows_that_there_are(tiny):
    seen = []
    found = benchmark_kernels(
        ("nano",), ("int8", "int4"), 1, 3, on_progress=seen.append, cancelled=lambda: len(seen) > 2
    )
    assert len(found.rows) == 3
    assert not found.complete
