"""A step as data: which tokens of which requests are computed. Integers only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one request. A chunk of length one at the end of the known tokens is decode."""

    request_id: int
    token_ids: tuple[int, ...]
    start: int  # position of token_ids[0] = number of this request's tokens already in the cache
    block_ids: tuple[int, ...]  # pages that hold positions [0, start + len(token_ids)), in order
    samples: bool  # the last token of this chunk is the last known one: a new token follows from its logits
    scores: bool = False  # log-probabilities are wanted at every position (score requests)

    @property
    def end(self) -> int:
        """One past the last position: the number of tokens in the cache after this chunk."""
        return self.start + len(self.token_ids)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step of the engine. Empty chunks: nothing to do."""

    chunks: tuple[Chunk, ...]
    preempted: tuple[int, ...] = ()  # request ids whose pages were taken back for this step; they wait again

    @property
    def num_tokens(self) -> int:
        return sum(len(chunk.token_ids) for chunk in self.chunks)
