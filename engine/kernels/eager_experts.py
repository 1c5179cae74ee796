"""Routing and routed experts in torch. Knows no model and no placement.

Rows are grouped by expert with one sort and one list of counts per layer; an expert that no row chose is not touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from engine.kernels.protocol import Routing
from engine.quant.matrix import MatrixStack
from engine.quant.widen import widen_rows

if TYPE_CHECKING:
    from engine.kernels.eager import EagerKernels

_NARROW = 256  # values per dot product below which torch's bf16 product of one row is mostly overhead


def route(logits: torch.Tensor, bias: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, torch.Tensor]:
    """`Kernels.route` from x router^T (T, E) float32 on, which is overwritten."""
    scores = logits.sigmoid_()
    biased = scores + bias
    if routing.kept_groups < routing.num_groups:
        groups = biased.view(
            -1, routing.num_groups, biased.shape[1] // routing.num_groups
        )  # (T, groups, experts of one)
        group_scores = groups.topk(min(2, groups.shape[2]), dim=2, sorted=False).values.sum(dim=2)
        dropped = routing.num_groups - routing.kept_groups
        worst = group_scores.topk(dropped, dim=1, largest=False, sorted=False).indices
        groups.scatter_(1, worst[:, :, None].expand(-1, -1, groups.shape[2]), -torch.inf)
    ids = biased.topk(routing.top_k, dim=1, sorted=False).indices
    gates = scores.gather(1, ids)
    if routing.normalise:
        gates.div_(gates.sum(dim=1, keepdim=True).add_(1e-20))
    return ids, gates.mul_(routing.scale)


def experts(
    kernels: EagerKernels,
    x: torch.Tensor,
    ids: torch.Tensor,
    gates: torch.Tensor,
    gate: MatrixStack,
    up: MatrixStack,
    down: MatrixStack,
) -> torch.Tensor:
    """`Kernels.experts`: few rows one by one, so that none depends on its neighbours; many rows grouped by expert."""
    if x.shape[0] > kernels.few_rows:
        return _grouped(kernels, x, ids, gates, gate, up, down)
    rows = [
        _one_row(kernels, x[row : row + 1], chosen, gates[row], gate, up, down)
        for row, chosen in enumerate(ids.tolist())
    ]
    return (rows[0] if len(rows) == 1 else torch.cat(rows)).to(x.dtype)


def _one_row(
    kernels: EagerKernels,
    x: torch.Tensor,
    chosen: list[int],
    weights: torch.Tensor,
    gate: MatrixStack,
    up: MatrixStack,
    down: MatrixStack,
) -> torch.Tensor:
    """(1, hidden) -> (1, hidden) float32. The K products with `down` are one where its K tiles fit the scratch:
    sum_k down_k h_k = [down_1 ... down_K] [h_1; ...; h_K].

    At nano's shapes (6 experts of 64 by 576, bf16) that halves the time of six short products: torch's bf16 dot over 64
    values costs 32 us an expert, widening and one sgemv 79 us for six.
    """
    g = torch.cat([kernels.linear(x, gate[expert]) for expert in chosen])  # (K, intermediate)
    u = torch.cat([kernels.linear(x, up[expert]) for expert in chosen])
    h = F.silu(g.float()).mul_(u).mul_(weights[:, None])  # float32
    num_out, width = down[0].shape
    if num_out * h.numel() <= kernels.scratch.numel() and width < _NARROW:
        tile = kernels.scratch[: num_out * h.numel()].view(num_out, len(chosen), width)
        for k, expert in enumerate(chosen):
            widen_rows(down[expert], 0, num_out, tile[:, k])
        return torch.mv(tile.view(num_out, -1), h.view(-1))[None]
    h = h.to(x.dtype)
    parts = [kernels.linear(h[k : k + 1], down[expert]) for k, expert in enumerate(chosen)]
    return torch.cat(parts).float().sum(dim=0, keepdim=True)


def _grouped(
    kernels: EagerKernels,
    x: torch.Tensor,
    ids: torch.Tensor,
    gates: torch.Tensor,
    gate: MatrixStack,
    up: MatrixStack,
    down: MatrixStack,
) -> torch.Tensor:
    """Rows sorted by expert, one MLP per expert that was chosen, results put back in place and weighed."""
    num_rows, top_k = ids.shape
    flat = ids.flatten()
    order = flat.argsort(stable=True)
    counts = flat.bincount(minlength=len(gate)).tolist()
    rows = x.index_select(0, order // top_k)  # (T * K, hidden), by expert
    results = torch.empty_like(rows)
    start = 0
    for expert, count in enumerate(counts):
        if count:
            stop = start + count
            results[start:stop] = kernels.mlp(rows[start:stop], gate[expert], up[expert], down[expert])
            start = stop
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    chosen = results.index_select(0, place).view(num_rows, top_k, -1).float()
    return torch.bmm(gates[:, None], chosen)[:, 0].to(x.dtype)
