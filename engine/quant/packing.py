"""Weights in the order that native kernels read them: who packs, and what comes of it. Knows no kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from engine.quant.matrix import Format, Layout, Matrix, MatrixStack


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
    return MatrixStack(
        like.format,
        torch.empty(count, packer.packed_bytes(like, heads), dtype=torch.uint8),
        block=like.block,
        layout=Layout.PANELS if heads is None else Layout.HEADS,
        packed_shape=like.shape,
        group=like.group,
    )
