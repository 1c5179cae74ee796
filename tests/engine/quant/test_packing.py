"""Memory for packed weights."""

from __future__ import annotations

import mmap

import pytest
import torch

from engine.quant import packing


def test_large_allocations_ask_for_large_pages_inside_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(packing, "_madvise", lambda: lambda address, size: asked.append((address, size)))
    memory = torch.empty((5 << 20) + 100, dtype=torch.uint8)
    packing.advise_large_pages(memory[37:])
    packing.advise_large_pages(torch.empty(1 << 20, dtype=torch.uint8))
    ((address, size),) = asked
    assert address % mmap.PAGESIZE == 0
    assert size % mmap.PAGESIZE == 0
    assert memory.data_ptr() + 37 <= address
    assert address + size <= memory.data_ptr() + memory.numel()
    assert size > memory.numel() - 2 * mmap.PAGESIZE - 37


def test_advice_leaves_what_is_written_readable() -> None:
    memory = torch.empty(8 << 20, dtype=torch.uint8)
    packing.advise_large_pages(memory)
    memory.fill_(7)
    assert bool((memory == 7).all())
