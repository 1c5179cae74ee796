"""The tensor operations stated as plainly as torch allows, in float32. Knows no speed.

Every other implementation of `Kernels` is compared with this one; every line can be held against its docstring in
`protocol.py`.
"""

from __future__ import annotations

import torch

from engine.kernels.protocol import PagedKeys, Routing
from engine.quant.matrix import Format, Matrix, MatrixStack


def dequantized(matrix: Matrix) -> torch.Tensor:
    """(out, in) float32, each value by its format's definition: times the scale of the block or group that holds it."""
    rows, columns = matrix.shape
    row, column = torch.arange(rows)[:, None], torch.arange(columns)[None]
    if matrix.format is Format.INT4:
        assert matrix.scale is not None
        assert matrix.zero is not None
        byte = matrix.data[row, column // 2].to(torch.int32)
        code = torch.where(column % 2 == 0, byte % 16, byte // 16).to(torch.float32)
        scale, zero = matrix.scale.to(torch.float32), matrix.zero.to(torch.float32)
        return (code - zero[row, column // matrix.group]) * scale[row, column // matrix.group]
    values = matrix.data.to(torch.float32)
    if matrix.format is Format.INT8:
        assert matrix.scale is not None
        return values * matrix.scale.to(torch.float32)[row, column // matrix.group]
    if matrix.format is Format.FP8:
        assert matrix.scale is not None
        return values * matrix.scale[row // matrix.block[0], column // matrix.block[1]]
    return values


class ReferenceKernels:
    """`Kernels` in float32."""

    compute = torch.float32
    layers = None
    device = torch.device("cpu")

    def receive(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.device)

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
            page = pages[slot // block_size]
            if pages.dtype is torch.uint8:
                (c_codes, c_exponent), (k_codes, k_exponent) = _fp8(c_kv[row]), _fp8(k_pe[row])
                page[slot % block_size] = torch.cat((c_codes, k_codes, torch.stack((c_exponent, k_exponent))))
            else:
                page[slot % block_size] = torch.cat((c_kv[row], k_pe[row]))

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
    latents = torch.stack(rows)
    rank = kv_b.shape[1]
    if pages.dtype is not torch.uint8:
        latents = latents.to(torch.float32)
        return latents[:, :rank], latents[:, rank:]
    values = latents[:, :-2].view(torch.float8_e4m3fn).to(torch.float32)
    scales = torch.exp2(latents[:, -2:].to(torch.float32) - 127)
    return values[:, :rank] * scales[:, :1], values[:, rank:] * scales[:, 1:]


def _fp8(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(codes, exponent byte) of a vector: the smallest power of two that brings its largest value to 448 or less."""
    exponent = next(e for e in range(-126, 128) if bool(part.abs().max() <= 448.0 * 2.0**e))
    codes = (part / 2.0**exponent).to(torch.float8_e4m3fn).view(torch.uint8)
    return codes, torch.tensor(exponent + 127, dtype=torch.uint8)
