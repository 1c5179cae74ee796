"""Block FP8: e4m3 values with one float32 scale per block, as DeepSeek-V3 stores its matrices.

Knows no checkpoint; takes and gives plain tensors. W[r, c] = values[r, c] * scale[r // b0, c // b1]; edge blocks are cut.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

E4M3_MAX = 448.0
DTYPE = torch.float8_e4m3fn

_TILE_VALUES = 1 << 18  # float32 scratch of 1 MiB: stays in L2
_TO_FLOAT16 = 7  # e4m3 has bias 7 and 3 mantissa bits: shifted left by 7 it is float16, whose bias is 15
_SIGN_AND_LOW_BITS = (
    -0x4080
)  # 0xBF80 as int16: the sign, and exponent and mantissa below a clear top exponent bit
DECODED_UNIT = 2.0 ** (15 - 7)
"""What decoded values are to be multiplied with: the difference of the biases."""


def scale_shape(rows: int, columns: int, block: tuple[int, int]) -> tuple[int, int]:
    """Blocks down and across; a cut block at the edge has a scale of its own (576 rows in blocks of 128: 5)."""
    return math.ceil(rows / block[0]), math.ceil(columns / block[1])


def nbytes(rows: int, columns: int, block: tuple[int, int]) -> int:
    """Bytes of a matrix: one per value, four per block."""
    return rows * columns + 4 * math.prod(scale_shape(rows, columns, block))


def has_nan(values: torch.Tensor) -> bool:
    """Whether a code is one of the two NaNs, 0x7F and 0xFF; e4m3fn has no infinity. 12 GB/s on one Zen 3 core."""
    if values.numel() == 0:
        return False
    return bool(values.view(torch.int8).max() == 0x7F) or bool(values.view(torch.uint8).max() == 0xFF)


def decode_into(out: torch.Tensor, values: torch.Tensor) -> None:
    """out = values / DECODED_UNIT in float32, exact, any shape.

    e4m3 `s eeee mmm` shifted into float16 is the value / 256, subnormals included: six times as fast as torch's own cast
    ((1152, 576) on two Zen 3 cores 0.25 ms against 1.46 ms). NaN codes are not looked for (see `has_nan`) and give 480.
    """
    bits = values.view(torch.int8).to(torch.int16)
    bits.bitwise_left_shift_(_TO_FLOAT16).bitwise_and_(_SIGN_AND_LOW_BITS)
    out.copy_(bits.view(torch.float16))


def widen_into(
    out: torch.Tensor, values: torch.Tensor, scale: torch.Tensor, block: tuple[int, int], first_row: int = 0
) -> None:
    """out = values * scale in float32, one rounding a value: (rows, columns) e4m3 -> (rows, columns) float32.

    `values` are the rows from `first_row` on of a matrix whose `scale` is whole; they need not begin or end at a block's
    border. Best for tiles that stay in cache: a whole 4096 x 4096 at once is 8 times slower.
    """
    decode_into(out, values)
    rows, columns = out.shape
    stop = first_row + rows
    first = first_row // block[0]
    factors = scale[first : math.ceil(stop / block[0])] * DECODED_UNIT
    factors = factors.repeat_interleave(block[1], 1)[:, :columns]  # (block rows, columns)
    row = first_row
    while row < stop:
        at = row // block[0]
        whole = (stop - row) // block[0] if row % block[0] == 0 else 0
        if whole:
            end = row + whole * block[0]
            tile = out[row - first_row : end - first_row].view(whole, block[0], -1)
            tile.mul_(factors[at - first : at - first + whole, None])
        else:
            end = min(stop, (at + 1) * block[0])
            out[row - first_row : end - first_row].mul_(factors[at - first])
        row = end


def quantize_into(
    values: torch.Tensor, scale: torch.Tensor, weight: torch.Tensor, block: tuple[int, int]
) -> None:
    """Float rows (rows, columns), whole rows of blocks but for the last, into `values` and the first rows of `scale`.

    scale = largest size in the block / 448. Error of a value: at most 2^-4 of its size (3 mantissa bits, round to nearest),
    or 2^-10 * scale where that is more (the subnormal step is 2^-9). Raises ValueError when a weight is not finite. One Zen 3
    core takes 0.35 GB/s of bf16.
    """
    rows, columns = weight.shape
    width = max(1, _TILE_VALUES // (block[0] * block[1])) * block[1]
    for row in range(0, rows, block[0]):
        down = slice(row, min(row + block[0], rows))
        for column in range(0, columns, width):
            across = slice(column, min(column + width, columns))
            codes, factors = _quantized(weight[down, across], block[1])
            values[down, across] = codes
            first = column // block[1]
            scale[row // block[0], first : first + len(factors)] = factors


def _quantized(weight: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One row of blocks: (rows, columns) -> the same in e4m3, and a scale for every `width` columns."""
    columns = weight.shape[1]
    blocks = F.pad(weight.float(), (0, -columns % width)).unflatten(1, (-1, width))  # type: ignore[no-untyped-call]
    low, high = torch.aminmax(blocks, dim=0)
    largest = torch.maximum(high.amax(dim=1), -low.amin(dim=1))
    if not bool(largest.isfinite().all()):
        raise ValueError("a weight to be quantized is not finite")
    scale = (largest / E4M3_MAX).clamp_(min=torch.finfo(torch.float32).tiny)
    return (blocks / scale[:, None]).flatten(1)[:, :columns].to(DTYPE), scale


def quantize(weight: torch.Tensor, block: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """(e4m3 values, scales) of a float matrix, see `quantize_into`."""
    values = torch.empty(weight.shape, dtype=DTYPE)
    rows, columns = weight.shape
    scale = torch.empty(scale_shape(rows, columns, block), dtype=torch.float32)
    quantize_into(values, scale, weight, block)
    return values, scale
