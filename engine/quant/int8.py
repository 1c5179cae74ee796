"""int8, symmetric, one bfloat16 scale per group of a row. Knows no checkpoint; takes and gives plain tensors.

    W[r, c] = data[r, c] * scale[r, c // group]        data int8 in [-127, 127], (out, in); scale (out, ceil(in / group))

bfloat16 has float32's range, so that no group's scale underflows or overflows; what it lacks in precision costs nothing
but a step that is up to 1/128 wider, since scales are rounded up and values are rounded against the rounded scale.
"""

from __future__ import annotations

import torch

from engine.quant.grouped import SMALLEST_SCALE, bfloat16_above, check_weights, in_groups, num_groups, spans

DTYPE = torch.int8
DEFAULT_GROUP = 128
_LARGEST = 127.0


def nbytes(rows: int, columns: int, group: int) -> int:
    """8.125 bit a value at groups of 128."""
    return rows * columns + 2 * rows * num_groups(columns, group)


def quantize_into(data: torch.Tensor, scale: torch.Tensor, weight: torch.Tensor, group: int) -> None:
    """Rows (rows, columns) of float32 into rows of `data` and `scale`; error at most half a scale.

    scale = the largest size in the group / 127, rounded up to bfloat16. Raises ValueError for weights that are not finite.
    One Zen 3 core takes 0.4 GB/s of bf16 or 0.2 GB/s of fp8, widening included.
    """
    check_weights(weight)
    for columns, groups, size in spans(weight.shape[1], group):
        values = in_groups(weight, columns, size)
        low, high = torch.aminmax(values, dim=2)
        largest = torch.maximum(high, -low)
        step = bfloat16_above((largest / _LARGEST).clamp_(min=SMALLEST_SCALE))
        scale[:, groups] = step
        codes = (values / step[:, :, None]).round_()
        in_groups(data, columns, size).copy_(codes)


def widen_into(out: torch.Tensor, data: torch.Tensor, scale: torch.Tensor, group: int) -> None:
    """out (rows, columns) float32 = data * scale, one rounding a value."""
    out.copy_(data)
    for columns, groups, size in spans(out.shape[1], group):
        in_groups(out, columns, size).mul_(scale[:, groups, None].float())
