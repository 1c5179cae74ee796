"""Multi-head latent attention over pages in float32 torch, in both forms. Knows no batch: one request a call.

Heads are taken in groups whose slice of kv_b fits the scratch tile, and whose scores, keys and values fit `work_values`; long chunks are taken in blocks of query rows, so
that what the causal mask hides is mostly not computed.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from engine.kernels.protocol import PagedKeys
from engine.quant.latents import decode
from engine.quant.matrix import Format, Matrix
from engine.quant.widen import widen_rows

_QUERY_BLOCK = 128


def latents(pages: torch.Tensor, keys: PagedKeys, rank: int) -> torch.Tensor:
    """The request's latents (L, C + P) float32, C = rank: a view widened where its pages are neighbours, else a gather."""
    block_size, width = pages.shape[1:]
    if keys.first_block is not None:
        first = keys.first_block * block_size
        rows = pages.view(-1, width)[first : first + keys.length]
    else:
        rows = pages.index_select(0, keys.block_ids).view(-1, width)[: keys.length]
    return decode(rows, rank) if rows.dtype is torch.uint8 else rows.float()


def absorbed(
    q_nope: torch.Tensor,
    q_pe: torch.Tensor,
    pages: torch.Tensor,
    keys: PagedKeys,
    kv_b: Matrix,
    scale: float,
    scratch: torch.Tensor,
    work_values: int | None = None,
) -> torch.Tensor:
    """`Kernels.mla_absorbed` with float32 queries: (n, H, N), (n, H, P) -> (n, H * V) float32."""
    num_rows, num_heads, nope = q_nope.shape
    rank = kv_b.shape[1]
    latent = latents(pages, keys, rank)
    hidden = _hidden_keys(keys, num_rows)
    outs = []
    most = _most_heads(work_values, 2 * num_rows * keys.length)
    for first, weight in _head_groups(kv_b, num_heads, scratch, most):
        heads = slice(first, first + weight.shape[0])
        q = torch.bmm(q_nope[:, heads].transpose(0, 1), weight[:, :nope])  # (h, n, C)
        q = torch.cat((q, q_pe[:, heads].transpose(0, 1)), dim=2).mul_(scale)  # (h, n, C + P)
        scores = torch.mm(q.flatten(0, 1), latent.T)  # (h * n, L)
        if hidden is not None:
            scores.view(-1, num_rows, keys.length).masked_fill_(hidden, -torch.inf)
        o = torch.mm(torch.softmax(scores, dim=1), latent[:, :rank])  # (h * n, C)
        o = torch.bmm(o.view(-1, num_rows, rank), weight[:, nope:].transpose(1, 2))  # (h, n, V)
        outs.append(o.transpose(0, 1))
    return (outs[0] if len(outs) == 1 else torch.cat(outs, dim=1)).reshape(num_rows, -1)


def expanded(
    q_nope: torch.Tensor,
    q_pe: torch.Tensor,
    pages: torch.Tensor,
    keys: PagedKeys,
    kv_b: Matrix,
    scale: float,
    scratch: torch.Tensor,
    work_values: int | None = None,
) -> torch.Tensor:
    """`Kernels.mla_expanded` with float32 queries: (n, H, N), (n, H, P) -> (n, H * V) float32."""
    num_rows, num_heads, nope = q_nope.shape
    rank = kv_b.shape[1]
    latent = latents(pages, keys, rank)
    c_kv, k_pe = latent[:, :rank], latent[:, rank:]
    q = torch.cat((q_nope, q_pe), dim=2).transpose(0, 1).mul(scale)  # (H, n, N + P)
    out = q.new_empty(num_rows, num_heads, kv_b.shape[0] // num_heads - nope)
    per_key = kv_b.shape[0] // num_heads + q.shape[2] + 2 * min(num_rows, _QUERY_BLOCK)
    most = _most_heads(work_values, per_key * keys.length)
    for first, weight in _head_groups(kv_b, num_heads, scratch, most):
        heads = slice(first, first + weight.shape[0])
        kv = F.linear(c_kv, weight.flatten(0, 1)).view(keys.length, weight.shape[0], -1).transpose(0, 1)
        k = torch.cat((kv[:, :, :nope], k_pe.expand(weight.shape[0], -1, -1)), dim=2)  # (h, L, N + P)
        v = kv[:, :, nope:]  # (h, L, V)
        for row in range(0, num_rows, _QUERY_BLOCK):
            stop = min(row + _QUERY_BLOCK, num_rows)
            seen = keys.start + stop
            scores = torch.bmm(q[heads, row:stop], k[:, :seen].transpose(1, 2))  # (h, rows, seen)
            future = torch.ones(stop - row, stop - row, dtype=torch.bool, device=q.device).triu_(1)
            scores[:, :, keys.start + row :].masked_fill_(future, -torch.inf)
            out[row:stop, heads] = torch.bmm(torch.softmax(scores, dim=2), v[:, :seen]).transpose(0, 1)
    return out.view(num_rows, -1)


def _hidden_keys(keys: PagedKeys, num_rows: int) -> torch.Tensor | None:
    """(n, L) bool, true where row i must not see key p: p > start + i. None where one row sees all."""
    if num_rows == 1:
        return None
    return torch.ones(num_rows, keys.length, dtype=torch.bool, device=keys.block_ids.device).triu_(
        keys.start + 1
    )


def _most_heads(work_values: int | None, per_head: int) -> int | None:
    """How many heads may be in work at a time, at least one; None: all."""
    return None if work_values is None else max(1, work_values // per_head)


def _head_groups(
    kv_b: Matrix, num_heads: int, scratch: torch.Tensor, most: int | None
) -> Iterator[tuple[int, torch.Tensor]]:
    """(first head, its group's weights (h, N + V, C) float32): the matrix itself when it is float32, else tiles."""
    per_head, rank = kv_b.shape[0] // num_heads, kv_b.shape[1]
    most = num_heads if most is None else most
    if kv_b.format is Format.FP32:
        weights = kv_b.data.view(num_heads, per_head, rank)
        for first in range(0, num_heads, most):
            yield first, weights[first : first + most]
        return
    group = min(most, max(1, scratch.numel() // (per_head * rank)))
    for first in range(0, num_heads, group):
        count = min(group, num_heads - first)
        tile = scratch[: count * per_head * rank].view(count * per_head, rank)
        widen_rows(kv_b, first * per_head, (first + count) * per_head, tile)
        yield first, tile.view(count, per_head, rank)
