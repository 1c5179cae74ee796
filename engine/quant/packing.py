"""Weights in the order that native kernels read them: who packs, and what comes of it. Knows no kernel."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from engine.quant.matrix import Format, Layout, Matrix, MatrixStack

_LARGE_FROM = 1 << 22
"""Bytes of an allocation from which large pages are asked for: smaller ones gain nothing and would round memory up."""


@dataclass(frozen=True, slots=True)
class HeadShape:
    """How kv_b (heads * (nope + v), rank) falls into heads."""

    heads: int
    nope: int
    v: int


class Packer(Protocol):
    """Packs matrices; the kernels that read the result offer it. A packed matrix keeps its format, bit by bit."""

    def takes(self, fmt: Format, block: tuple[int, int], group: int, heads: HeadShape | None = None) -> bool:
        """Whether matrices of this format, block and group can be packed; `heads`: as a kv_b of these heads."""

    def packed_bytes(self, matrix: Matrix, heads: HeadShape | None = None) -> int:
        """Bytes of it, scales and padding included."""

    def pack(self, rows: Matrix, out: torch.Tensor) -> None:
        """Layout.ROWS -> (packed_bytes,) uint8 in Layout.PANELS."""

    def pack_heads(self, rows: Matrix, heads: HeadShape, out: torch.Tensor) -> None:
        """kv_b (heads * (nope + v), rank) in Layout.ROWS -> Layout.HEADS."""


def empty_packed(packer: Packer, count: int, like: Matrix, heads: HeadShape | None = None) -> MatrixStack:
    """`count` matrices of `like`'s shape and format in one allocation, to be packed into; `heads`: each is a kv_b."""
    data = torch.empty(count, packer.packed_bytes(like, heads), dtype=torch.uint8)
    advise_large_pages(data)
    return MatrixStack(
        like.format,
        data,
        block=like.block,
        layout=Layout.PANELS if heads is None else Layout.HEADS,
        packed_shape=like.shape,
        group=like.group,
    )


def advise_large_pages(memory: torch.Tensor) -> None:
    """Asks the system for large pages under `memory`, which nobody has written to yet.

    Products then read it about a tenth faster on a Zen 3 core, since fewer addresses have to be looked up. It is advice:
    a system that has no such pages, or none left, gives small ones.
    """
    if memory.numel() < _LARGE_FROM or (madvise := _madvise()) is None:
        return
    start, end = memory.data_ptr(), memory.data_ptr() + memory.numel()
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    madvise(first, (end - first) // mmap.PAGESIZE * mmap.PAGESIZE)


def _madvise() -> Callable[[int, int], object] | None:
    if sys.platform != "linux":
        return None
    call = ctypes.CDLL(None).madvise
    return lambda address, size: call(ctypes.c_void_p(address), ctypes.c_size_t(size), mmap.MADV_HUGEPAGE)
