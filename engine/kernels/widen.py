"""Rows of a matrix as float32, a tile at a time, from any format. Knows no arithmetic on activations.

On a CPU without bf16 or fp8 arithmetic this is how narrow weights are multiplied: a tile that fits the second- or
third-level cache is widened into scratch memory, used, and overwritten by the next.
"""

from __future__ import annotations

import torch

from engine.quant import fp8
from engine.quant.matrix import Format, Matrix


def widen_rows(matrix: Matrix, start: int, stop: int, out: torch.Tensor) -> None:
    """out[:] = rows [start, stop) of the matrix, dequantized; out is (stop - start, in) float32.

    Exact for bf16, fp16 and fp32. FP8: value times the float32 scale of its block, one rounding; start and stop need not
    meet the blocks' borders. The loader has refused NaN codes.
    """
    if matrix.format is Format.FP8:
        assert matrix.scale is not None
        fp8.widen_into(out, matrix.data[start:stop], matrix.scale, matrix.block, start)
    else:
        out.copy_(matrix.data[start:stop])
