"""The kernels over torch's own operators on an NVIDIA GPU: right for every format, not yet fast. Knows no model.

Weights stay in VRAM in their format. A bf16 matrix is multiplied as it is. Everything else is widened a tile at a time in
float32, rounded to bf16 once and multiplied on the matrix units, whose sums are float32; with `compute` float32 the tile
stays float32 and so does the product, TF32 off. Torch's scaled fp8 products would round the activations to fp8, which is
more than bf16 rounds, so they are not used. The head multiplies in float32 whatever `compute` says, attention too.

A row's last bits may depend on how many rows the step has: cuBLAS chooses the order of sums by the shape.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from engine.kernels.eager import EagerKernels
from engine.kernels.work import TILE_VALUES, WORK_VALUES
from engine.quant.matrix import Format, Matrix
from engine.quant.widen import widen_rows


class CudaKernels(EagerKernels):
    """`Kernels` on one device; holds a tile of 32 MB in float32 and one of 16 MB in bf16: one object per thread."""

    few_rows = 1  # rows one by one would only be more launches
    work_values = WORK_VALUES

    def __init__(self, compute: torch.dtype, device: torch.device, tile_values: int = TILE_VALUES) -> None:
        super().__init__(compute, device, tile_values)
        self._narrow = torch.empty(
            tile_values if compute is torch.bfloat16 else 0, dtype=compute, device=device
        )
        exact_sums()

    def linear(self, x: torch.Tensor, weight: Matrix) -> torch.Tensor:
        if weight.data.dtype == x.dtype:
            return F.linear(x, weight.data)
        if x.dtype is torch.float32:
            return self.product(x, weight)
        num_out, num_in = weight.shape
        rows = max(1, self.scratch.numel() // num_in)
        out = x.new_empty(x.shape[0], num_out)
        for start in range(0, num_out, rows):
            stop = min(start + rows, num_out)
            out[:, start:stop] = F.linear(x, self._tile(weight, start, stop))
        return out

    def _tile(self, weight: Matrix, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop) in bf16, rounded once; valid until the next."""
        shape = stop - start, weight.shape[1]
        narrow = self._narrow[: shape[0] * shape[1]].view(shape)
        if weight.format in (Format.FP32, Format.FP16):
            return narrow.copy_(weight.data[start:stop])
        wide = self.scratch[: narrow.numel()].view(shape)
        widen_rows(weight, start, stop, wide)
        return narrow.copy_(wide)


def exact_sums() -> None:
    """Sums in float32 and float32 products without TF32, for the whole process: torch has these as switches of its own."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
