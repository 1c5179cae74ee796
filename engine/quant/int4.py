"""int4, asymmetric, a scale and a zero point per group of a row. Knows no checkpoint; takes and gives plain tensors.

    W[r, c] = (q[r, c] - zero[r, c // group]) * scale[r, c // group]       q in 0..15

data (out, ceil(in / 2)) uint8: columns 2j and 2j + 1 of a row are the low and the high half of byte j; an odd width leaves
the last high half 0, and nothing reads it. scale (out, groups) bfloat16, zero (out, groups) float16, a real number. The
scale takes bfloat16 for its range, which no group leaves; the zero point takes float16 for its precision, since it lies in
0..15 but for groups far from zero, and an error in it would shift a whole group. A scale may be negative.
"""

from __future__ import annotations

import torch

from engine.quant import half_quadratic
from engine.quant.grouped import check_weights, in_groups, num_groups, spans
from engine.quant.half_quadratic import Fit

DTYPE = torch.uint8
DEFAULT_GROUP = 64
ZERO_DTYPE = torch.float16


def packed_columns(columns: int) -> int:
    """Bytes of a row of codes."""
    return (columns + 1) // 2


def nbytes(rows: int, columns: int, group: int) -> int:
    """4.5 bit a value at groups of 64."""
    return rows * (packed_columns(columns) + 4 * num_groups(columns, group))


def quantize_into(
    data: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, weight: torch.Tensor, group: int, fit: Fit
) -> None:
    """Rows (rows, columns) of float32 into rows of `data`, `scale` and `zero`.

    Raises ValueError for weights that are not finite. One Zen 3 core, from bf16 and widening included: "rtn" 0.29 GB/s, "hqq"
    0.06 GB/s, which is 30e6 weights a second: the 671e9 of DeepSeek-V3 take 6.2 hours of one core, 25 minutes of fifteen.
    """
    check_weights(weight)
    num_rows, num_columns = weight.shape
    codes = torch.zeros(num_rows, 2 * packed_columns(num_columns), dtype=torch.uint8)
    for columns, groups, size in spans(num_columns, group):
        fitted = half_quadratic.fit(in_groups(weight, columns, size), fit)
        scale[:, groups] = fitted.scale
        zero[:, groups] = fitted.zero
        in_groups(codes, columns, size).copy_(fitted.codes)
    pairs = codes.view(torch.int16)  # 0x0H0L on a little-endian machine
    data.copy_(pairs.bitwise_or(pairs.bitwise_right_shift(4)).to(torch.uint8))


def codes_into(out: torch.Tensor, data: torch.Tensor) -> None:
    """out (rows, columns), of any dtype, = the codes q."""
    pairs = data.to(torch.int16)
    pairs = pairs.bitwise_left_shift(4).bitwise_or_(pairs).bitwise_and_(0x0F0F)  # 0xHL -> 0x0H0L
    out.copy_(pairs.view(torch.uint8)[:, : out.shape[1]])


def widen_into(
    out: torch.Tensor, data: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, group: int
) -> None:
    """out (rows, columns) float32 = (q - zero) * scale."""
    codes_into(out, data)
    for columns, groups, size in spans(out.shape[1], group):
        values = in_groups(out, columns, size)
        values.sub_(zero[:, groups, None].float()).mul_(scale[:, groups, None].float())
