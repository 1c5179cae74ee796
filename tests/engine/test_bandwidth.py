"""Read rates of a machine: measured once, kept, and honest about how they were read."""

import json

import pytest

from engine import bandwidth
from engine.bandwidth import DiskRate, RamRate, Rates, measure_disk, measure_ram, read_rates
from engine.paths import cache_dir

RATES = Rates(
    RamRate(1e10, 2, 1 << 28), DiskRate(1e9, 8 << 20, 4, 1 << 27, "bypassed", "x"), "", 1e11, "2026-01-01T00:00:00+00:00"
)  # fmt: skip


@pytest.fixture
def measured(monkeypatch):
    """The calls of `measure`, which then measures nothing."""
    calls = []
    monkeypatch.setattr(bandwidth, "measure", lambda *given: calls.append(given) or RATES)
    return calls


def test_rates_are_measured_once_and_kept(measured):
    assert read_rates() == read_rates() == RATES
    assert len(measured) == 1
    read_rates(fresh=True)
    assert len(measured) == 2


def test_another_processor_or_number_of_cores_is_measured_anew(measured, monkeypatch):
    read_rates()
    monkeypatch.setattr(bandwidth, "_key", lambda cpu, place: "another machine")
    read_rates()
    assert len(measured) == 2


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}'])
def test_a_damaged_file_is_measured_over(measured, text):
    cache_dir().mkdir(parents=True)
    (cache_dir() / "read-rates.json").write_text(text)
    assert read_rates() == RATES
    assert len(measured) == 1


def test_an_entry_of_another_form_is_measured_over(measured):
    read_rates()
    file = cache_dir() / "read-rates.json"
    file.write_text(json.dumps({key: {"ram": 1} for key in json.loads(file.read_text())}))
    assert read_rates() == RATES
    assert len(measured) == 2


def test_a_cache_folder_that_cannot_be_written_costs_only_the_keeping(measured, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DSV3CHAT_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert read_rates() == RATES


def test_ram_is_read_whole_by_every_thread(monkeypatch):
    monkeypatch.setattr(bandwidth, "RAM_BUFFER_BYTES", 1 << 20)
    found = measure_ram(2)
    assert (found.threads, found.buffer_bytes) == (2, 1 << 20)
    assert found.bytes_per_s > 0


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(bandwidth, "DISK_BLOCK_BYTES", 1 << 16)


@pytest.mark.parametrize("direct", [True, False])
def test_every_block_of_a_file_is_read_once_and_the_page_cache_is_accounted_for(
    tmp_path, monkeypatch, small_blocks, direct
):
    if not direct:
        monkeypatch.setattr(
            bandwidth.os, "O_DIRECT", 0o400000000, raising=False
        )  # a flag that no file system knows
        monkeypatch.delattr(bandwidth.os, "O_DIRECT")
    file = tmp_path / "weights"
    file.write_bytes(bytes(10 << 16) + b"rest")
    found = measure_disk(file, seconds=60)
    assert found.read_bytes == 10 << 16
    assert (found.block_bytes, found.reads_in_flight) == (1 << 16, bandwidth.READS_IN_FLIGHT)
    assert found.page_cache in (
        ("bypassed", "unknown", "dropped", "answered") if direct else ("dropped", "answered", "unknown")
    )


def test_a_file_below_one_block_is_no_measurement(tmp_path, small_blocks):
    (tmp_path / "tiny").write_bytes(b"x")
    with pytest.raises(OSError, match="smaller than one block"):
        measure_disk(tmp_path / "tiny")


def test_a_measurement_leaves_no_scratch_file_and_a_full_disk_is_a_reason(
    tmp_path, monkeypatch, small_blocks
):
    monkeypatch.setattr(bandwidth, "RAM_BUFFER_BYTES", 1 << 20)
    monkeypatch.setattr(bandwidth, "SCRATCH_BYTES", 1 << 20)
    monkeypatch.setattr(bandwidth, "_PRODUCT", 8)
    found = bandwidth.measure(1, tmp_path)
    assert found.disk.read_bytes == 1 << 20
    assert list(tmp_path.iterdir()) == []

    def full(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bandwidth, "_write_scratch", full)
    failed = bandwidth.measure(1, tmp_path)
    assert failed.disk is None
    assert "No space left" in failed.disk_reason
    assert list(tmp_path.iterdir()) == []
