"""Rows of a matrix as float32, a tile at a time, from any format. Knows no arithmetic on activations.

On a CPU without bf16, fp8 or int4 arithmetic this is how narrow weights are multiplied: a tile that fits the second- or
third-level cache is widened into scratch memory, used, and overwritten by the next. Converting goes the same way.
"""

from __future__ import annotations

import torch

from engine.quant import fp8, int4, int8
from engine.quant.matrix import Format, Layout, Matrix


def widen_rows(matrix: Matrix, start: int, stop: int, out: torch.Tensor) -> None:
    """out[:] = rows [start, stop) of the matrix, dequantized; out is (stop - start, in) float32.

    Exact for bf16, fp16 and fp32, one rounding a value for FP8 and INT8, two for INT4. `start` and `stop` need not meet
    the borders of FP8's blocks. The loader has refused FP8's NaN codes.
    """
    assert matrix.layout is Layout.ROWS, matrix.layout
    data = matrix.data[start:stop]
    if matrix.format is Format.FP8:
        assert matrix.scale is not None
        fp8.widen_into(out, data, matrix.scale, matrix.block, start)
    elif matrix.format is Format.INT8:
        assert matrix.scale is not None
        int8.widen_into(out, data, matrix.scale[start:stop], matrix.group)
    elif matrix.format is Format.INT4:
        assert matrix.scale is not None
        assert matrix.zero is not None
        int4.widen_into(out, data, matrix.scale[start:stop], matrix.zero[start:stop], matrix.group)
    else:
        out.copy_(data)


def take_rows(matrix: Matrix, rows: torch.Tensor) -> torch.Tensor:
    """(R,) int64 -> (R, in) float32: these rows, dequantized. For an embedding: R is small."""
    assert matrix.layout is Layout.ROWS, matrix.layout
    data = matrix.data.view(torch.uint8) if matrix.format is Format.FP8 else matrix.data
    data = data.index_select(0, rows)
    if matrix.format not in (Format.FP8, Format.INT8, Format.INT4):
        return data.float()
    out = torch.empty(len(rows), matrix.shape[1], device=rows.device)
    if matrix.format is Format.FP8:
        assert matrix.scale is not None
        scale = matrix.scale.index_select(0, rows // matrix.block[0])
        fp8.widen_into(out, data.view(fp8.DTYPE), scale, (1, matrix.block[1]))
        return out
    parts = [None if part is None else part.index_select(0, rows) for part in (matrix.scale, matrix.zero)]
    picked = Matrix(
        matrix.format, data, parts[0], packed_shape=matrix.packed_shape, zero=parts[1], group=matrix.group
    )
    widen_rows(picked, 0, len(rows), out)
    return out
