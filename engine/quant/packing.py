"""Weights in the order that native kernels read them: who packs, and what comes of it. Knows no kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from engine.quant.matrix import Format, Layout, MatrixStack


@dataclass(frozen=True, slots=True)
class HeadShape:
    """How kv_b (heads * (nope + v), rank) falls into heads."""

    heads: int
    nope: int
    v: int


class Packer(Protocol):
    """Packs bf16 matrices; the kernels that read the result offer it."""

    def packed_values(self, rows: int, columns: int) -> int:
        """Values of a packed matrix, padding included."""

    def pack(self, rows: torch.Tensor, out: torch.Tensor) -> None:
        """(out, in) bf16, contiguous -> (packed_values,) bf16 in Layout.PANELS."""

    def pack_heads(self, rows: torch.Tensor, heads: HeadShape, out: torch.Tensor) -> None:
        """kv_b (heads * (nope + v), rank) bf16 -> Layout.HEADS."""


def empty_packed(
    packer: Packer, count: int, rows: int, columns: int, heads: HeadShape | None = None
) -> MatrixStack:
    """`count` matrices of (rows, columns) in one allocation, to be packed into; `heads`: each is a kv_b."""
    if heads is None:
        values, layout = packer.packed_values(rows, columns), Layout.PANELS
    else:
        one = packer.packed_values(columns, heads.nope) + packer.packed_values(heads.v, columns)
        values, layout = heads.heads * one, Layout.HEADS
    data = torch.empty(count, values, dtype=torch.bfloat16)
    return MatrixStack(Format.BF16, data, layout=layout, packed_shape=(rows, columns))
