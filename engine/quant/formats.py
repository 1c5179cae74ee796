"""What each format of weights is: its dtype, its bytes, the way from and to float32. Knows no checkpoint and no kernel."""

from __future__ import annotations

import torch

from engine.quant import fp8
from engine.quant.matrix import Format, Matrix, MatrixStack

DTYPES: dict[Format, torch.dtype] = {
    Format.FP32: torch.float32,
    Format.FP16: torch.float16,
    Format.BF16: torch.bfloat16,
    Format.FP8: fp8.DTYPE,
}
FORMATS: dict[torch.dtype, Format] = {dtype: fmt for fmt, dtype in DTYPES.items()}


def nbytes(fmt: Format, rows: int, columns: int, block: tuple[int, int]) -> int:
    """Bytes of a matrix of (rows, columns), scales included. `block` counts for FP8 only."""
    if fmt is Format.FP8:
        return fp8.nbytes(rows, columns, block)
    return rows * columns * DTYPES[fmt].itemsize


def empty(fmt: Format, rows: int, columns: int, block: tuple[int, int] = (128, 128)) -> Matrix:
    """A matrix to be filled in place."""
    stack = empty_stack(fmt, 1, rows, columns, block)
    return stack[0]


def empty_stack(
    fmt: Format, count: int, rows: int, columns: int, block: tuple[int, int] = (128, 128)
) -> MatrixStack:
    """`count` matrices in one allocation, to be filled in place."""
    data = torch.empty(count, rows, columns, dtype=DTYPES[fmt])
    if fmt is not Format.FP8:
        return MatrixStack(fmt, data)
    scale = torch.empty(count, *fp8.scale_shape(rows, columns, block), dtype=torch.float32)
    return MatrixStack(fmt, data, scale, block)


def dequantize(matrix: Matrix) -> torch.Tensor:
    """Float32 values of a matrix, (out, in): a copy, or the data itself when it is float32."""
    if matrix.format is not Format.FP8:
        return matrix.data.float()
    assert matrix.scale is not None
    return fp8.dequantize(matrix.data, matrix.scale, matrix.block)


def quantize(weight: torch.Tensor, fmt: Format, block: tuple[int, int] = (128, 128)) -> Matrix:
    """A float matrix (out, in) in format `fmt`, each value rounded once."""
    if fmt is not Format.FP8:
        return Matrix(fmt, weight.to(DTYPES[fmt]).contiguous())
    values, scale = fp8.quantize(weight, block)
    return Matrix(fmt, values, scale, block)
