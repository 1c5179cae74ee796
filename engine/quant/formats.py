"""What each format of weights is: its dtype, its bytes, room for it, the way from and to float32. Knows no checkpoint."""

from __future__ import annotations

import torch

from engine.quant import fp8, int4, int8
from engine.quant.grouped import SCALE_DTYPE, num_groups
from engine.quant.half_quadratic import Fit
from engine.quant.matrix import Format, Matrix, MatrixStack
from engine.quant.widen import widen_rows

DTYPES: dict[Format, torch.dtype] = {
    Format.FP32: torch.float32,
    Format.FP16: torch.float16,
    Format.BF16: torch.bfloat16,
    Format.FP8: fp8.DTYPE,
    Format.INT8: int8.DTYPE,
    Format.INT4: int4.DTYPE,
}
FORMATS: dict[torch.dtype, Format] = {dtype: fmt for fmt, dtype in DTYPES.items()}
DEFAULT_GROUPS: dict[Format, int] = {Format.INT8: int8.DEFAULT_GROUP, Format.INT4: int4.DEFAULT_GROUP}
WIDE = frozenset({Format.FP32, Format.FP16, Format.BF16})
"""Formats without scales."""

CPU = torch.device("cpu")

_TILE_VALUES = 1 << 17  # float32 scratch of 512 KiB


def group_of(fmt: Format, group: int | None = None) -> int:
    """Values that share a scale: `group` or the format's own; 0 for a format without groups."""
    default = DEFAULT_GROUPS.get(fmt, 0)
    return group if default and group else default


def nbytes(fmt: Format, rows: int, columns: int, block: tuple[int, int], group: int | None = None) -> int:
    """Bytes of a matrix of (rows, columns), scales included. `block` counts for FP8 only, `group` for INT8 and INT4."""
    if fmt is Format.FP8:
        return fp8.nbytes(rows, columns, block)
    if fmt is Format.INT8:
        return int8.nbytes(rows, columns, group_of(fmt, group))
    if fmt is Format.INT4:
        return int4.nbytes(rows, columns, group_of(fmt, group))
    return rows * columns * DTYPES[fmt].itemsize


def empty(
    fmt: Format,
    rows: int,
    columns: int,
    block: tuple[int, int] = (128, 128),
    group: int | None = None,
    device: torch.device = CPU,
) -> Matrix:
    """A matrix to be filled in place."""
    return empty_stack(fmt, 1, rows, columns, block, group, device)[0]


def empty_stack(
    fmt: Format,
    count: int,
    rows: int,
    columns: int,
    block: tuple[int, int] = (128, 128),
    group: int | None = None,
    device: torch.device = CPU,
) -> MatrixStack:
    """`count` matrices in one allocation, to be filled in place."""
    width = int4.packed_columns(columns) if fmt is Format.INT4 else columns
    data = torch.empty(count, rows, width, dtype=DTYPES[fmt], device=device)
    if fmt in WIDE:
        return MatrixStack(fmt, data)
    if fmt is Format.FP8:
        shape = (count, *fp8.scale_shape(rows, columns, block))
        scale = torch.empty(shape, dtype=torch.float32, device=device)
        return MatrixStack(fmt, data, scale, block)
    group = group_of(fmt, group)
    shape = (count, rows, num_groups(columns, group))
    scale = torch.empty(shape, dtype=SCALE_DTYPE, device=device)
    if fmt is Format.INT8:
        return MatrixStack(fmt, data, scale, group=group)
    zero = torch.empty(shape, dtype=int4.ZERO_DTYPE, device=device)
    return MatrixStack(fmt, data, scale, packed_shape=(rows, columns), zero=zero, group=group)


def dequantize(matrix: Matrix) -> torch.Tensor:
    """Float32 values of a matrix, (out, in): a copy, or the data itself when it is float32."""
    if matrix.format is Format.FP32:
        return matrix.data
    wide = empty(Format.FP32, *matrix.shape)
    convert_into(wide, matrix)
    return wide.data


def convert_into(target: Matrix, source: Matrix, fit: Fit = "hqq") -> None:
    """`target`'s values = `source`'s, in `target`'s format: a copy, one rounding, or new scales. Tile by tile.

    Scratch beside both: a tile of 512 KiB in float32 (FP8: a row of blocks) and some ten such for fitting int4.
    Raises ValueError where what is quantized is not finite.
    """
    if target.format is source.format and (target.block, target.group) == (source.block, source.group):
        for mine, other in (
            (target.data, source.data),
            (target.scale, source.scale),
            (target.zero, source.zero),
        ):
            if mine is not None and other is not None:
                mine.copy_(other)
        return
    if target.format in WIDE and source.format in WIDE:
        target.data.copy_(source.data)
        return
    rows, columns = target.shape
    step = target.block[0] if target.format is Format.FP8 else _tile_rows(target)
    scratch = torch.empty(0 if target.format is Format.FP32 else min(step, rows), columns)
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        if target.format is Format.FP32:
            widen_rows(source, start, stop, target.data[start:stop])
            continue
        tile = scratch[: stop - start]
        widen_rows(source, start, stop, tile)
        quantize_rows(target, start, stop, tile, fit)


def quantize_rows(target: Matrix, start: int, stop: int, rows: torch.Tensor, fit: Fit = "hqq") -> None:
    """Rows [start, stop) of `target` = float32 `rows`; FP8: whole rows of blocks. Raises ValueError for what is not finite."""
    data = target.data[start:stop]
    if target.format in WIDE:
        data.copy_(rows)
        return
    assert target.scale is not None
    if target.format is Format.FP8:
        assert start % target.block[0] == 0
        first = start // target.block[0]
        fp8.quantize_into(data, target.scale[first:], rows, target.block)
    elif target.format is Format.INT8:
        int8.quantize_into(data, target.scale[start:stop], rows, target.group)
    else:
        assert target.zero is not None
        int4.quantize_into(data, target.scale[start:stop], target.zero[start:stop], rows, target.group, fit)


def quantize(
    weight: torch.Tensor,
    fmt: Format,
    block: tuple[int, int] = (128, 128),
    group: int | None = None,
    fit: Fit = "hqq",
) -> Matrix:
    """A float matrix (out, in) in format `fmt`. Raises ValueError where it is not finite and `fmt` has scales."""
    rows, columns = weight.shape
    matrix = empty(fmt, rows, columns, block, group)
    convert_into(matrix, Matrix(FORMATS[weight.dtype], weight), fit)
    return matrix


def _tile_rows(matrix: Matrix) -> int:
    return max(1, _TILE_VALUES // max(1, matrix.shape[1]))
