"""The tensor operations of the model, one method each: the seam that every device implements.

Knows no model, no request and no device. Notation: T rows (tokens) of a step, H heads, C = kv_lora_rank, P = rotary
values per head, N = q and k values per head without rotation, V = values per head, E experts, K experts per token.
Activations are in the compute dtype of the kernels unless a line says float32; sums run in float32 everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from engine.quant.matrix import Matrix, MatrixStack


@dataclass(frozen=True, slots=True)
class PagedKeys:
    """Where the keys of one request lie and which of them its query rows see.

    Key p lies in page `block_ids[p // block_size]`, slot `p % block_size`. Query row i stands at position `start + i`
    and sees keys `[0, start + i]`; `length` is the position after the last row. Nothing at or past `length` is read.
    """

    block_ids: torch.Tensor  # (pages,) int64
    first_block: int | None  # set where the ids are consecutive: the keys are then one view of the cache
    start: int
    length: int

    @classmethod
    def of(
        cls,
        block_ids: tuple[int, ...],
        start: int,
        length: int,
        block_size: int,
        device: torch.device | None = None,
    ) -> PagedKeys:
        """The keys `[0, length)` of a request, from as many of its pages as that needs; on the CPU, or on `device`."""
        used = block_ids[: -(-length // block_size)]
        consecutive = used == tuple(range(used[0], used[0] + len(used)))
        ids = torch.tensor(used, dtype=torch.int64, device=device)
        return cls(ids, used[0] if consecutive else None, start, length)


@dataclass(frozen=True, slots=True)
class Routing:
    """How DeepSeek-V3's gate chooses (arXiv 2412.19437, section 2.1.2). The experts of a group are neighbours."""

    top_k: int
    num_groups: int
    kept_groups: int
    normalise: bool  # norm_topk_prob
    scale: float  # routed_scaling_factor


@dataclass(frozen=True, slots=True)
class LayerSizes:
    """A decoder layer's numbers, by the names of this module. No routing: a dense layer."""

    hidden: int
    heads: int
    nope: int
    rope: int
    v: int
    rank: int
    eps: float
    softmax_scale: float
    num_experts: int
    routing: Routing | None


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """A decoder layer's tensors. Either `q` or (`q_a`, `q_a_norm`, `q_b`); `dense` is the MLP or the shared expert."""

    input_norm: torch.Tensor
    q: Matrix | None
    q_a: Matrix | None
    q_a_norm: torch.Tensor | None
    q_b: Matrix | None
    kv_a: Matrix
    kv_a_norm: torch.Tensor
    kv_b: Matrix
    o: Matrix
    post_attention_norm: torch.Tensor
    dense: tuple[Matrix, Matrix, Matrix] | None  # gate, up, down
    experts: tuple[MatrixStack, MatrixStack, MatrixStack] | None  # gate, up, down
    router: torch.Tensor | None
    correction_bias: torch.Tensor | None


class LayerKernels(Protocol):
    """Kernels that run whole decoder layers over packed weights: one call where the parts would be fifteen."""

    def layer(self, sizes: LayerSizes, weights: LayerWeights) -> Any:
        """A layer as `run_layers` takes it; holds on to its tensors."""

    def run_layers(
        self,
        layers: Sequence[Any],
        x: torch.Tensor,
        rotation: torch.Tensor,
        slots: torch.Tensor,
        segments: Sequence[tuple[int, int, PagedKeys]],
        pages: Sequence[torch.Tensor],
    ) -> None:
        """x (T, hidden) float32 through the layers, in place; the T new latents are in `pages` afterwards.

        rotation (T, P / 2) complex64, slots (T,) int64, segments (first row, rows, keys), pages one tensor a layer.
        """


class Kernels(Protocol):
    """What the model computes with. One object per device; it holds scratch memory and serves one thread."""

    @property
    def compute(self) -> torch.dtype:
        """The dtype of activations between operations."""

    @property
    def device(self) -> torch.device:
        """Where every tensor that these kernels take lies, and every one that they give."""

    def receive(self, x: torch.Tensor) -> torch.Tensor:
        """x on this device, whatever device it comes from; the dtype stays. x itself where it is there already."""

    @property
    def layers(self) -> LayerKernels | None:
        """What runs packed layers; None: there is nothing of the kind, and no weights are packed."""

    def embed(self, table: Matrix, token_ids: torch.Tensor) -> torch.Tensor:
        """(vocab, hidden), (T,) int64 -> (T, hidden): row `token_ids[t]` of the table."""

    def take_rows(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """(T, D), (R,) int64 -> (R, D)."""

    def add(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """x + y, both (T, D): the residual."""

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """weight * x / sqrt(mean(x^2) + eps) over the last dimension; (T, D), (D,) float32 (arXiv 1910.07467)."""

    def linear(self, x: torch.Tensor, weight: Matrix) -> torch.Tensor:
        """x W^T: (T, in), (out, in) -> (T, out). Whatever the format, no wide copy outlives the call."""

    def rotation(
        self, positions: torch.Tensor, inverse_frequencies: torch.Tensor, amplitude: float
    ) -> torch.Tensor:
        """amplitude * exp(i * position * frequency): (T,) int64, (P / 2,) float32 -> (T, P / 2) complex64.

        Angle, cosine and sine are float32, as the reference's. Computed once a step, used by every layer.
        """

    def rotate(self, x: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
        """Rotary embedding on interleaved pairs (arXiv 2104.09864): (T, heads, P) -> (T, heads, P) float32.

        The pair (x[2j], x[2j + 1]) is one complex number, multiplied with rotation[t, j]; pairs stay interleaved.
        """

    def write_latent(
        self, pages: torch.Tensor, slots: torch.Tensor, c_kv: torch.Tensor, k_pe: torch.Tensor
    ) -> None:
        """pages[slots[t] // block_size, slots[t] % block_size] = (c_kv[t], k_pe[t]), rounded to the dtype of pages.

        pages (blocks, block_size, C + P), slots (T,) int64, c_kv (T, C) normalised, k_pe (T, P) rotated. Pages of uint8
        are (blocks, block_size, C + P + 2): fp8 with a scale for each of the two (engine/quant/latents.py).
        """

    def mla_absorbed(
        self,
        q_nope: torch.Tensor,
        q_pe: torch.Tensor,
        pages: torch.Tensor,
        keys: PagedKeys,
        kv_b: Matrix,
        scale: float,
    ) -> torch.Tensor:
        """Attention on the latents themselves, for few rows (arXiv 2405.04434, section 2.1).

        With kv_b (H * (N + V), C) as H blocks W_UK (N, C) above W_UV (V, C), for row i and head h:
            s[p]   = scale * ((q_nope W_UK) . c_kv[p] + q_pe . k_pe[p])   for p <= start + i
            out    = W_UV (sum_p softmax(s)[p] c_kv[p])
        q_nope (n, H, N), q_pe (n, H, P) float32 -> (n, H * V). Costs n * L * H * (2C + P) products.
        """

    def mla_expanded(
        self,
        q_nope: torch.Tensor,
        q_pe: torch.Tensor,
        pages: torch.Tensor,
        keys: PagedKeys,
        kv_b: Matrix,
        scale: float,
    ) -> torch.Tensor:
        """The same values as `mla_absorbed`, with keys and values formed per head, for many rows.

        k[p] = (W_UK c_kv[p], k_pe[p]), v[p] = W_UV c_kv[p], then plain causal attention. Costs L * H * (N + V) * C
        products to form them and n * L * H * (N + P + V) to use them.
        """

    def route(
        self, x: torch.Tensor, router: torch.Tensor, bias: torch.Tensor, routing: Routing
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Choose K experts for each row: (T, hidden), (E, hidden) float32, (E,) float32 -> ids (T, K), gates (T, K).

            score = sigmoid(x router^T);   biased = score + bias
            a group's score is the sum of its two largest biased scores; the `kept_groups` best groups remain
            ids   = the top_k largest biased scores in them;   gates = score[ids], without the bias
            gates = gates / (sum(gates) + 1e-20) if `normalise`;   gates = gates * scale
        All in float32; ids are int64, in no particular order.
        """

    def experts(
        self,
        x: torch.Tensor,
        ids: torch.Tensor,
        gates: torch.Tensor,
        gate: MatrixStack,
        up: MatrixStack,
        down: MatrixStack,
    ) -> torch.Tensor:
        """sum_k gates[t, k] * down_e(silu(gate_e x_t) * up_e x_t) with e = ids[t, k]: (T, hidden) -> (T, hidden).

        gate, up (E, intermediate, hidden); down (E, hidden, intermediate). Experts that no row chose are not read.
        """

    def mlp(self, x: torch.Tensor, gate: Matrix, up: Matrix, down: Matrix) -> torch.Tensor:
        """down(silu(gate x) * up x): (T, hidden) -> (T, hidden) (SwiGLU, arXiv 2002.05202)."""

    def head(self, x: torch.Tensor, weight: Matrix) -> torch.Tensor:
        """Logits x W^T in float32, not rounded to the compute dtype: (R, hidden), (vocab, hidden) -> (R, vocab)."""
