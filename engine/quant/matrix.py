"""A weight matrix as it lies in memory, in any format. Knows no checkpoint and no kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import torch


class Format(Enum):
    """How a matrix's values are stored. int8 and int4 join here when they are built."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"  # e4m3 with one float32 scale per block of `block` values


class Layout(Enum):
    """In which order the values lie. Native kernels read packed orders only, everything else reads rows."""

    ROWS = "rows"  # (out, in), as in the checkpoint
    PANELS = "panels"  # sixteen rows side by side (engine/native/kernels.h)
    HEADS = "heads"  # kv_b: each head's W_UK transposed and W_UV, both in panels (engine/native/layer.h)


@dataclass(frozen=True, slots=True)
class Matrix:
    """y = x @ W^T with W of (out, in). `scale` is None but for FP8: (ceil(out / block[0]), ceil(in / block[1])) float32."""

    format: Format
    data: torch.Tensor  # (out, in) in the format's dtype; packed: one dimension, padding included
    scale: torch.Tensor | None = None
    block: tuple[int, int] = (128, 128)
    layout: Layout = Layout.ROWS
    packed_shape: tuple[int, int] | None = None  # (out, in) where `data` no longer says it

    @property
    def shape(self) -> tuple[int, int]:
        return (self.data.shape[0], self.data.shape[1]) if self.packed_shape is None else self.packed_shape

    @property
    def nbytes(self) -> int:
        """Bytes really held, scales included."""
        return self.data.nbytes + (0 if self.scale is None else self.scale.nbytes)


@dataclass(frozen=True, slots=True)
class MatrixStack:
    """E matrices of one shape in one allocation: the routed experts' gate, up or down of a layer."""

    format: Format
    data: torch.Tensor  # (E, out, in); packed: (E, values)
    scale: torch.Tensor | None = None  # (E, ceil(out / block[0]), ceil(in / block[1]))
    block: tuple[int, int] = (128, 128)
    layout: Layout = Layout.ROWS
    packed_shape: tuple[int, int] | None = None
    _matrices: tuple[Matrix, ...] = field(
        init=False, repr=False, compare=False
    )  # views, made once: 5 us each

    def __post_init__(self) -> None:
        scales = [None] * len(self.data) if self.scale is None else self.scale.unbind(0)
        views = zip(self.data.unbind(0), scales, strict=True)
        matrices = tuple(
            Matrix(self.format, data, scale, self.block, self.layout, self.packed_shape)
            for data, scale in views
        )
        object.__setattr__(self, "_matrices", matrices)

    def __len__(self) -> int:
        return len(self._matrices)

    def __getitem__(self, index: int) -> Matrix:
        return self._matrices[index]

    @property
    def nbytes(self) -> int:
        return self.data.nbytes + (0 if self.scale is None else self.scale.nbytes)
