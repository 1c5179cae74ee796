"""Routing and routed experts in torch on a CPU. Knows no model and no placement.

Rows are grouped by expert with one sort and one list of counts per layer; an expert that no row chose is not touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from engine.kernels.protocol import Routing
from engine.quant.matrix import MatrixStack

if TYPE_CHECKING:
    from engine.kernels.eager import EagerKernels


def route(
    x: torch.Tensor, router: torch.Tensor, bias: torch.Tensor, routing: Routing
) -> tuple[torch.Tensor, torch.Tensor]:
    """`Kernels.route` with float32 rows."""
    scores = F.linear(x, router).sigmoid_()
    biased = scores + bias
    if routing.kept_groups < routing.num_groups:
        groups = biased.view(x.shape[0], routing.num_groups, -1)  # (T, groups, experts of one)
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
    """`Kernels.experts`: rows sorted by expert, one MLP per expert that was chosen, results put back and weighed."""
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
    place[order] = torch.arange(len(order))
    chosen = results.index_select(0, place).view(num_rows, top_k, -1).float()
    return torch.bmm(gates[:, None], chosen)[:, 0].to(x.dtype)
