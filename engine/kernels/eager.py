"""The kernels over torch's own operators: what a CPU runs on without native ones. Knows no model.

engine/kernels/cuda.py is the same on a GPU, with other tiles. What torch 2.13 does on two Zen 3 cores (AVX2, no AVX-512), in microseconds:

    bf16 product of T rows costs T times one row:      (1152, 576)  T=1 74   T=4 280   T=16 1117   T=256 18353
    widen to float32 in cache, then sgemm:                          T=1 115  T=4 232   T=16 353    T=256 2111
    head (49152, 576): bf16 3400 and rounded logits;  tiles of 1M values widened 5700, exact, and 12500 for 8 rows

So a bf16 matrix meets up to four rows as it is, and more rows through `widen_rows`; the head always goes
through tiles. bmm in bf16 is slower still, so attention widens its latents and computes in float32.

Decoding wants one torch thread where anything else runs beside it: at nano's shapes one row took 57 to 70 ms on one
thread, 46 to 50 ms on two while the other core was idle, and 150 to 1000 ms on two while it was not, since every
parallel region waits for the thread that has lost its core. The number is the caller's to set.

Where the other rows of a batch change a row's last bit: nowhere while a step has at most four rows (decoding at the
default batch size), since those are multiplied one by one. In a step of more rows (another request's prompt is being
read) sgemm chooses its blocking by the number of rows, and bf16 weights are widened first: the same sums in another
order. Norms, rotation and attention are computed row by row or request by request always. So the same seed
gives the same text whatever else is in the batch, except where two tokens are within such a rounding of each other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from engine.kernels import eager_attention, eager_experts
from engine.kernels.protocol import LayerKernels, PagedKeys, Routing
from engine.quant import latents
from engine.quant.matrix import Matrix, MatrixStack
from engine.quant.widen import take_rows, widen_rows

_FEW_ROWS = 4
CPU = torch.device("cpu")
_TILE_VALUES = 1 << 20  # 4 MB of float32: half of it or twice it is 10 to 100 % slower for the head


class EagerKernels:
    """`Kernels` with activations in `compute`, float32 or bfloat16. Holds 4 MB of scratch: one object per thread."""

    few_rows = _FEW_ROWS
    """Up to so many rows of a step are computed one by one, so that none depends on its neighbours."""
    work_values: int | None = None
    """Most float32 values of attention's scores, keys and values at a time; None: as many as there are."""

    def __init__(
        self, compute: torch.dtype, device: torch.device = CPU, tile_values: int = _TILE_VALUES
    ) -> None:
        """`tile_values`: how much of a matrix is float32 at a time."""
        assert compute in (torch.float32, torch.bfloat16), compute
        self.compute = compute
        self.device = device
        self.scratch = torch.empty(tile_values, dtype=torch.float32, device=device)

    def receive(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.device)

    @property
    def layers(self) -> LayerKernels | None:
        return None

    def embed(self, table: Matrix, token_ids: torch.Tensor) -> torch.Tensor:
        return take_rows(table, token_ids).to(self.compute)

    def take_rows(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return x.index_select(0, rows)

    def add(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        return F.rms_norm(x.float(), weight.shape, weight, eps).to(self.compute)

    def linear(self, x: torch.Tensor, weight: Matrix) -> torch.Tensor:
        if x.shape[0] <= _FEW_ROWS and weight.data.dtype == x.dtype == torch.bfloat16:
            return F.linear(x, weight.data)
        return self.product(x.float(), weight).to(self.compute)

    def rotation(
        self, positions: torch.Tensor, inverse_frequencies: torch.Tensor, amplitude: float
    ) -> torch.Tensor:
        angle = positions[:, None].float() * inverse_frequencies
        return torch.complex(angle.cos() * amplitude, angle.sin() * amplitude)

    def rotate(self, x: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
        num_rows, num_heads, width = x.shape
        own = x.to(
            torch.float32, copy=True, memory_format=torch.contiguous_format
        )  # complex views need even strides
        pairs = torch.view_as_complex(own.view(num_rows, num_heads, width // 2, 2))
        return torch.view_as_real(pairs * rotation[:, None]).view(num_rows, num_heads, width)

    def write_latent(
        self, pages: torch.Tensor, slots: torch.Tensor, c_kv: torch.Tensor, k_pe: torch.Tensor
    ) -> None:
        if pages.dtype is torch.uint8:
            latent = latents.encode(c_kv, k_pe)
        else:
            latent = torch.cat((c_kv.to(pages.dtype), k_pe.to(pages.dtype)), dim=1)
        pages.view(-1, pages.shape[2]).index_copy_(0, slots, latent)

    def mla_absorbed(
        self,
        q_nope: torch.Tensor,
        q_pe: torch.Tensor,
        pages: torch.Tensor,
        keys: PagedKeys,
        kv_b: Matrix,
        scale: float,
    ) -> torch.Tensor:
        out = eager_attention.absorbed(
            q_nope.float(), q_pe, pages, keys, kv_b, scale, self.scratch, self.work_values
        )
        return out.to(self.compute)

    def mla_expanded(
        self,
        q_nope: torch.Tensor,
        q_pe: torch.Tensor,
        pages: torch.Tensor,
        keys: PagedKeys,
        kv_b: Matrix,
        scale: float,
    ) -> torch.Tensor:
        out = eager_attention.expanded(
            q_nope.float(), q_pe, pages, keys, kv_b, scale, self.scratch, self.work_values
        )
        return out.to(self.compute)

    def route(
        self, x: torch.Tensor, router: torch.Tensor, bias: torch.Tensor, routing: Routing
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return eager_experts.route(self._times(x.float(), router), bias, routing)

    def experts(
        self,
        x: torch.Tensor,
        ids: torch.Tensor,
        gates: torch.Tensor,
        gate: MatrixStack,
        up: MatrixStack,
        down: MatrixStack,
    ) -> torch.Tensor:
        return eager_experts.experts(self, x, ids, gates, gate, up, down)

    def mlp(self, x: torch.Tensor, gate: Matrix, up: Matrix, down: Matrix) -> torch.Tensor:
        return self.linear(F.silu(self.linear(x, gate)).mul_(self.linear(x, up)), down)

    def head(self, x: torch.Tensor, weight: Matrix) -> torch.Tensor:
        return self.product(x.float(), weight)

    def product(self, x: torch.Tensor, weight: Matrix) -> torch.Tensor:
        """x W^T with float32 activations and sums: (T, in) float32, (out, in) of any format -> (T, out) float32."""
        if weight.data.dtype == torch.float32:
            return self._times(x, weight.data)
        num_out, num_in = weight.shape
        rows = max(1, self.scratch.numel() // num_in)
        if num_out <= rows:
            tile = self.scratch[: num_out * num_in].view(num_out, num_in)
            widen_rows(weight, 0, num_out, tile)
            return self._times(x, tile)
        out = x.new_empty(x.shape[0], num_out)
        for start in range(0, num_out, rows):
            stop = min(start + rows, num_out)
            tile = self.scratch[: (stop - start) * num_in].view(stop - start, num_in)
            widen_rows(weight, start, stop, tile)
            out[:, start:stop] = self._times(x, tile)
        return out

    def _times(self, x: torch.Tensor, wide: torch.Tensor) -> torch.Tensor:
        """x W^T in float32. sgemm's rounding depends on the number of rows, so few rows are taken one by one."""
        if 1 < x.shape[0] <= self.few_rows:
            return torch.cat([F.linear(row, wide) for row in torch.split(x, 1)])
        return F.linear(x, wide)
