"""What training changed, two bits a weight. Knows no layers.

A change is a matrix of codes 0..3, four to a byte, and one scale a row: change[r, c] = LEVELS[code[r, c]] * scale[r].
The levels are those of a four-level quantizer that is best for a normal distribution (Max, 1960), in units of the
row's standard deviation.
"""

from __future__ import annotations

import torch

LEVELS = (-0.4528, -1.510, 0.4528, 1.510)


def _levels_of_bytes() -> torch.Tensor:
    """(256, 4): the levels of each byte's four codes, lowest bits first."""
    byte = torch.arange(256).unsqueeze(1)
    codes = (byte >> torch.tensor([0, 2, 4, 6])) & 3
    return torch.tensor(LEVELS)[codes]


_TABLE = _levels_of_bytes()


def two_bit_change(codes: torch.Tensor, scale: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The change as float32 of `shape` (rows, columns).

    codes: (ceil(rows * columns / 4),) uint8, row by row; what the last byte holds beyond the shape is ignored.
    scale: (rows, 1).
    """
    levels = _TABLE.index_select(0, codes.int()).flatten()  # (4 * bytes,)
    return levels[: shape.numel()].view(shape) * scale.float()
