"""The tensor operations stated as plainly as torch allows, in float32. Knows no speed.

Every other implementation of `Kernels` is compared with this one; every line can be held against its docstring in
`protocol.py`.
"""

from __future__ import annotations

import torch

from engine.kernels.protocol import PagedKeys, Routing
from engine.quant.matrix import Format, Matrix, MatrixStack


def dequantized(matrix: Matrix) -> torch.Tensor:
    """(out, in) float32: each FP8 value times the scale of the block that holds it."""
    values = matrix.data.to(torch.float32)
    if matrix.format is not Format.FP8:
        return values
    assert matrix.scale is not None
    rows = torch.arange(values.shape[0]) // matrix.block[0]
    columns = torch.arange(values.shape[1]) // matrix.block[1]
    return values * matrix.scale[rows][:, columns]


class ReferenceKernels:
    """`Kernels` in float32."""

    compute = torch.float32
    layers = None

    def embed(self, table: Matrix, token_ids: torch.Tensor) -> torch.Tensor:
        return dequantized(table)[token_ids]

    def take_rows(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return x[rows]

    def add(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        mean_square = x.square().mean(dim=-1, keepdim=True)
        return weight * (x / torch.sqrt(mean_square + eps))

    def linear(self, x: torch.Tensor, weight: Matrix) -> torch.Tensor:
        return x @ dequantized(weight).T

    def rotation(
        self, positions: torch.Tensor, inverse_frequencies: torch.Tensor, amplitude: float
    ) -> torch.Tensor:
        angle = positions[:, None].to(torch.float32) * inverse_frequencies
        return torch.complex(amplitude * angle.cos(), amplitude * angle.sin())

    def rotate(self, x: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
        even, odd = x[..., 0::2], x[..., 1::2]
        cos, sin = rotation.real[:, None], rotation.imag[:, None]
        out = torch.empty_like(x)
        out[..., 0::2] = even * cos - odd * sin
        out[..., 1::2] = even * sin + odd * cos
        return out

    def write_latent(
        self, pages: torch.Tensor, slots: torch.Tensor, c_kv: torch.Tensor, k_pe: torch.Tensor
    ) -> None:
        block_size = pages.shape[1]
        for row, slot in enumerate(slots.tolist()):
            pages[slot // block_size, slot % block_size] = torch.cat((c_kv[row], k_pe[row]))

    def mla_absorbed(
        self,
        q_nope: torch.Tensor,
        q_pe: torch.Tensor,
        pages: torch.Tensor,
        keys: PagedKeys,
        kv_b: Matrix,
        scale: float,
    ) -> torch.Tensor:
        num_rows, num_heads, nope = q_nope.shape
        c_kv, k_pe = _latents(pages, keys, kv_b)
        heads = dequantized(kv_b).view(num_heads, -1, c_kv.shape[1])  # (H, N + V, C)
        out = []
        for row in range(num_rows):
            seen = keys.start + row + 1
            for head in range(num_heads):
                w_uk, w_uv = heads[head, :nope], heads[head, nope:]
                q_latent = q_nope[row, head] @ w_uk  # (C,)
                scores = scale * (c_kv[:seen] @ q_latent + k_pe[:seen] @ q_pe[row, head])
                out.append(w_uv @ (torch.softmax(scores, dim=0) @ c_kv[:seen]))
        return torch.stack(out).view(num_rows, -1)

    def mla_expanded(
        self,
        q_nope: torch.Tensor,
        q_pe: torch.Tensor,
        pages: torch.Tensor,
        keys: PagedKeys,
        kv_b: Matrix,
        scale: float,
    ) -> torch.Tensor:
        num_rows, num_heads, nope = q_nope.shape
        c_kv, k_pe = _latents(pages, keys, kv_b)
        expanded = (c_kv @ dequantized(kv_b).T).view(keys.length, num_heads, -1)  # (L, H, N + V)
        out = []
        for row in range(num_rows):
            seen = keys.start + row + 1
            for head in range(num_heads):
                k = torch.cat((expanded[:seen, head, :nope], k_pe[:seen]), dim=1)  # (seen, N + P)
                q = torch.cat((q_nope[row, head], q_pe[row, head]))
                out.append(torch.softmax(scale * (k @ q), dim=0) @ expanded[:seen, head, nope:])
        return torch.stack(out).view(num_rows, -1)

    def route(
        self, x: torch.Tensor, router: torch.Tensor, bias: torch.Tensor, routing: Routing
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scores = torch.sigmoid(x @ router.T)
        per_group = scores.shape[1] // routing.num_groups
        ids = []
        for row in scores + bias:
            groups = row.view(routing.num_groups, per_group)
            group_scores = groups.topk(min(2, per_group), dim=1).values.sum(dim=1)
            allowed = torch.full_like(groups, -torch.inf)
            for group in group_scores.topk(routing.kept_groups).indices.tolist():
                allowed[group] = groups[group]
            ids.append(allowed.flatten().topk(routing.top_k).indices)
        chosen = torch.stack(ids)
        gates = scores.gather(1, chosen)
        if routing.normalise:
            gates = gates / (gates.sum(dim=1, keepdim=True) + 1e-20)
        return chosen, gates * routing.scale

    def experts(
        self,
        x: torch.Tensor,
        ids: torch.Tensor,
        gates: torch.Tensor,
        gate: MatrixStack,
        up: MatrixStack,
        down: MatrixStack,
    ) -> torch.Tensor:
        out = torch.zeros_like(x)
        for row in range(x.shape[0]):
            for expert, weight in zip(ids[row].tolist(), gates[row], strict=True):
                one = self.mlp(x[row : row + 1], gate[expert], up[expert], down[expert])
                out[row] += weight * one[0]
        return out

    def mlp(self, x: torch.Tensor, gate: Matrix, up: Matrix, down: Matrix) -> torch.Tensor:
        g = self.linear(x, gate)
        return self.linear(g * torch.sigmoid(g) * self.linear(x, up), down)

    def head(self, x: torch.Tensor, weight: Matrix) -> torch.Tensor:
        return self.linear(x, weight)


def _latents(pages: torch.Tensor, keys: PagedKeys, kv_b: Matrix) -> tuple[torch.Tensor, torch.Tensor]:
    """c_kv (L, C) and k_pe (L, P), key by key."""
    block_size = pages.shape[1]
    ids = keys.block_ids.tolist()
    rows = [pages[ids[p // block_size], p % block_size] for p in range(keys.length)]
    latents = torch.stack(rows).to(torch.float32)
    rank = kv_b.shape[1]
    return latents[:, :rank], latents[:, rank:]
