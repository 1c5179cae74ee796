"""Runs one StepPlan: the only place where lists of integers become tensors and tensors become integers again.

Knows no queue, no text and no thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

import torch

from engine.events import TokenLogprob
from engine.model.batch import Batch, Segment
from engine.model.cache import LatentCache
from engine.model.deepseek_v3 import DeepseekV3
from engine.runtime.sampler import Mask, Sampler
from engine.sampling import ResolvedSampling
from engine.scheduler.plan import Chunk, StepPlan

FEW_ROWS = 4
"""Up to so many rows a step runs on one torch thread. It is a thousand products of some microseconds each, and two
threads meet after every one: on two Zen 3 cores that are free that saves a fifth of 57 ms a token on nano, but with one
other busy thread beside them each meeting waits for a time slice, and a token takes 150 to 1000 ms. The switch costs
0.6 us. Native kernels, which meet a few times a layer, do not need it."""


OnRows: TypeAlias = Callable[[int, torch.Tensor], None]
"""`on_rows(start, logits)`: logits (n, vocab), float32, of the positions start to start + n - 1; valid in the call only."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What the sampler needs of one request: how to draw, the tokens so far (prompt and output), the output index.

    mask: what the request's grammar allows, None without one.
    """

    params: ResolvedSampling
    history: Sequence[int]
    index: int
    mask: Mask | None = None


@dataclass(slots=True)
class StepResult:
    """What a step gave, by request id. `broken` names the requests whose logits are not finite, with the layer."""

    tokens: dict[int, int] = field(default_factory=dict)
    logprobs: dict[int, TokenLogprob] = field(default_factory=dict)
    scores: dict[int, tuple[list[float], list[int]]] = field(
        default_factory=dict
    )  # log-probs, argmax per row
    broken: dict[int, str] = field(default_factory=dict)


class Runner:
    """Holds the model, its cache and the sampler; `run` is one step of the engine."""

    def __init__(
        self, model: DeepseekV3, cache: LatentCache, sampler: Sampler, block_size: int, threads: int
    ) -> None:
        """`threads`: torch threads of a large step; a small one runs on one, see FEW_ROWS."""
        self._model = model
        self._cache = cache
        self._sampler = sampler
        self._block_size = block_size
        self._threads = threads

    def run(
        self,
        plan: StepPlan,
        draws: Mapping[int, Draw],
        score_ids: Mapping[int, Sequence[int]],
        on_rows: Mapping[int, OnRows] = MappingProxyType({}),
    ) -> StepResult:
        """Compute every chunk of `plan`.

        `draws` has an entry for each chunk that samples, `score_ids` all token ids of each request that scores; `on_rows` is
        called with the logits of those that have an entry in it.
        """
        batch = make_batch(plan.chunks, self._block_size)
        result = StepResult()
        torch.set_num_threads(1 if plan.num_tokens <= FEW_ROWS else self._threads)
        with torch.inference_mode():
            logits = self._model.forward(batch, self._cache)  # (R, vocab) float32
            row = 0
            sampled_rows: list[int] = []
            sampled_ids: list[int] = []
            for chunk in plan.chunks:
                if chunk.scores:
                    rows = logits[row : row + len(chunk.token_ids)]
                    row += len(chunk.token_ids)
                    if bool(torch.isfinite(rows).all()):
                        result.scores[chunk.request_id] = score_rows(rows, chunk, score_ids[chunk.request_id])
                        if chunk.request_id in on_rows:
                            on_rows[chunk.request_id](chunk.start, rows.cpu())
                    else:
                        result.broken[chunk.request_id] = ""
                elif chunk.samples:
                    sampled_rows.append(row)
                    sampled_ids.append(chunk.request_id)
                    row += 1
            if sampled_ids:
                self._sample(logits[sampled_rows], [(i, draws[i]) for i in sampled_ids], result)
            for request_id in result.broken:
                result.broken[request_id] = self._first_broken_layer(batch, plan.chunks, request_id)
        return result

    def _sample(self, logits: torch.Tensor, draws: list[tuple[int, Draw]], result: StepResult) -> None:
        sampled = self._sampler.sample(
            logits,
            [draw.params for _, draw in draws],
            [draw.history for _, draw in draws],
            [draw.index for _, draw in draws],
            [draw.mask for _, draw in draws],
        )
        for (request_id, _), one in zip(draws, sampled, strict=True):
            if not one.finite:
                result.broken[request_id] = ""
                continue
            result.tokens[request_id] = one.token_id
            if one.logprob is not None:
                result.logprobs[request_id] = one.logprob

    def _first_broken_layer(self, batch: Batch, chunks: Sequence[Chunk], request_id: int) -> str:
        """Run the step once more and look at the rows of `request_id` after each layer. Writes the same cache values."""
        index = next(i for i, chunk in enumerate(chunks) if chunk.request_id == request_id)
        segment = batch.segments[index]
        found: list[int] = []

        def probe(layer: int, hidden: torch.Tensor) -> None:
            rows = hidden[segment.row : segment.row + segment.length]
            if not found and not bool(torch.isfinite(rows).all()):
                found.append(layer)

        self._model.forward(batch, self._cache, probe)
        return f"layer {found[0]}" if found else "the head"


def make_batch(chunks: Sequence[Chunk], block_size: int) -> Batch:
    """The tensors of a step. Rows stand in the chunks' order; logits are wanted of sampled and scored rows."""
    token_ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    segments: list[Segment] = []
    logit_rows: list[int] = []
    for chunk in chunks:
        row, length = len(token_ids), len(chunk.token_ids)
        token_ids += chunk.token_ids
        positions += range(chunk.start, chunk.end)
        slots += [
            chunk.block_ids[p // block_size] * block_size + p % block_size
            for p in range(chunk.start, chunk.end)
        ]
        segments.append(Segment(row, length, chunk.start, chunk.block_ids))
        if chunk.scores:
            logit_rows += range(row, row + length)
        elif chunk.samples:
            logit_rows.append(row + length - 1)
    return Batch(
        token_ids=torch.tensor(token_ids, dtype=torch.int64),
        positions=torch.tensor(positions, dtype=torch.int64),
        slots=torch.tensor(slots, dtype=torch.int64),
        segments=tuple(segments),
        logit_rows=torch.tensor(logit_rows, dtype=torch.int64),
    )


def score_rows(logits: torch.Tensor, chunk: Chunk, ids: Sequence[int]) -> tuple[list[float], list[int]]:
    """(log p(ids[p + 1] | ids[:p + 1]) for each position p of the chunk that has a next token, argmax of every row).

    Over the whole width of the logits, padded ids included: the model's own distribution.
    """
    following = torch.tensor(ids[chunk.start + 1 : chunk.end + 1], dtype=torch.int64, device=logits.device)
    known = logits[: len(following)]
    picked = known.gather(1, following[:, None])[:, 0] - torch.logsumexp(known, dim=1)
    return picked.tolist(), logits.argmax(dim=1).tolist()
