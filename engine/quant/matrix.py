"""A weight matrix as it lies in memory, in any format. Knows no checkpoint and no kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import torch


class Format(Enum):
    """How a matrix's values are stored."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"  # e4m3 with one float32 scale per block of `block` values (engine/quant/fp8.py)
    INT8 = "int8"  # one scale per `group` values of a row (engine/quant/int8.py)
    INT4 = "int4"  # a scale and a zero point per `group` values of a row, two values a byte (engine/quant/int4.py)


class Layout(Enum):
    """In which order the values lie. Native kernels read packed orders only, everything else reads rows."""

    ROWS = "rows"  # (out, in), as in the checkpoint
    PANELS = "panels"  # sixteen rows side by side (engine/native/kernels.h)
    HEADS = "heads"  # kv_b: each head's W_UK transposed and W_UV, both in panels (engine/native/layer.h)


@dataclass(frozen=True, slots=True)
class Matrix:
    """y = x @ W^T with W of (out, in). The formats' modules say what `data`, `scale` and `zero` mean and how they lie."""

    format: Format
    data: (
        torch.Tensor
    )  # (out, in) in the format's dtype, INT4 (out, ceil(in / 2)); packed: one dimension, padding included
    scale: torch.Tensor | None = (
        None  # FP8: (ceil(out / block[0]), ceil(in / block[1])) float32; INT8, INT4: (out, groups)
    )
    block: tuple[int, int] = (128, 128)
    layout: Layout = Layout.ROWS
    packed_shape: tuple[int, int] | None = None  # (out, in) where the shape of `data` does not say it
    zero: torch.Tensor | None = None  # INT4: (out, groups)
    group: int = 0  # INT8, INT4: values of a row that share a scale

    @property
    def shape(self) -> tuple[int, int]:
        return (self.data.shape[0], self.data.shape[1]) if self.packed_shape is None else self.packed_shape

    @property
    def nbytes(self) -> int:
        """Bytes really held, scales and zero points included."""
        return sum(part.nbytes for part in (self.data, self.scale, self.zero) if part is not None)


@dataclass(frozen=True, slots=True)
class MatrixStack:
    """E matrices of one shape in one allocation: the routed experts' gate, up or down of a layer."""

    format: Format
    data: torch.Tensor  # (E, ...) of a Matrix's data; so scale and zero
    scale: torch.Tensor | None = None
    block: tuple[int, int] = (128, 128)
    layout: Layout = Layout.ROWS
    packed_shape: tuple[int, int] | None = None
    zero: torch.Tensor | None = None
    group: int = 0
    _matrices: tuple[Matrix, ...] = field(
        init=False, repr=False, compare=False
    )  # views, made once: 5 us each

    def __post_init__(self) -> None:
        absent = [None] * len(self.data)
        views = zip(
            self.data.unbind(0),
            absent if self.scale is None else self.scale.unbind(0),
            absent if self.zero is None else self.zero.unbind(0),
            strict=True,
        )
        matrices = tuple(
            Matrix(self.format, data, scale, self.block, self.layout, self.packed_shape, zero, self.group)
            for data, scale, zero in views
        )
        object.__setattr__(self, "_matrices", matrices)

    def __len__(self) -> int:
        return len(self._matrices)

    def __getitem__(self, index: int) -> Matrix:
        return self._matrices[index]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.data, self.scale, self.zero) if part is not None)
