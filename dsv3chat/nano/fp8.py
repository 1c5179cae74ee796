"""Block FP8 as DeepSeek-V3 stores it: e4m3 values, one float32 scale for each block of 128 by 128.

Knows no names of tensors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

BLOCK = 128
E4M3_MAX = 448.0


def block_fp8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round `weight` to blocks: (values e4m3, scales float32), weight ≈ value * scale of its block.

    weight: (..., rows, columns). values: the same shape. scales: (..., ceil(rows/128), ceil(columns/128)), each
    max|w| / 448 over its block; blocks at the edges are cut. Leading dimensions are matrices of their own.
    Rounding is to nearest, ties to even, in float32 throughout.
    """
    rows, columns = weight.shape[-2:]
    padded = F.pad(weight.float(), (0, -columns % BLOCK, 0, -rows % BLOCK))
    grid = (padded.shape[-2] // BLOCK, BLOCK, padded.shape[-1] // BLOCK, BLOCK)
    blocks = padded.view(*padded.shape[:-2], *grid)
    scales = blocks.abs().amax((-3, -1), keepdim=True).clamp(min=1e-12) / E4M3_MAX
    values = (blocks / scales).view(padded.shape)[..., :rows, :columns].to(torch.float8_e4m3fn)
    return values.contiguous(), scales.squeeze((-3, -1)).contiguous()
