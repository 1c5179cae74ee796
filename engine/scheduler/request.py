"""One request as the scheduler sees it: the tokens it knows, the tokens that are computed, the pages it holds.

Knows no tensors, no text and no sampling parameters.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import Enum

from engine.scheduler.block_pool import PageKey


class Status(Enum):
    """Where a request stands. A preempted request waits again."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(slots=True, eq=False)
class Request:
    """A caller fills the first six fields; the rest is the scheduler's and is only read outside of it.

    `score` asks for the log-probabilities of the prompt: every position is computed, nothing is sampled and
    `max_new_tokens` is 0. `forced_ids` is the beginning of the output where it is known from the start, less than all
    of it: it is computed together with the prompt, without sampling. `known_ids` is prompt and output as one growing array of int64, whose buffer numpy reads
    without a loop.
    """

    request_id: int
    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    stop_token_ids: frozenset[int]
    score: bool = False
    forced_ids: tuple[int, ...] = ()

    status: Status = field(default=Status.WAITING, init=False)
    known_ids: array[int] = field(init=False, repr=False)  # prompt + output
    block_ids: list[int] = field(default_factory=list, init=False, repr=False)  # position p: p // block_size
    page_keys: list[PageKey] = field(default_factory=list, init=False, repr=False)  # of the full pages known
    num_computed: int = field(default=0, init=False)  # tokens whose latents lie in the cache
    num_cached: int = field(default=0, init=False)  # prompt tokens found in the cache at the first admission
    num_published: int = field(default=0, init=False)  # full pages offered for reuse
    num_preemptions: int = field(default=0, init=False)
    admitted_before: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.known_ids = array("q", self.prompt_ids + self.forced_ids)

    @property
    def num_output(self) -> int:
        """Output tokens so far, sampled or forced."""
        return len(self.known_ids) - len(self.prompt_ids)

    @property
    def output_ids(self) -> tuple[int, ...]:
        """The output so far, a stop token included."""
        return tuple(self.known_ids[len(self.prompt_ids) :])

    @property
    def num_uncomputed(self) -> int:
        """Known tokens that are still to be computed; 1 is decode."""
        return len(self.known_ids) - self.num_computed

    @property
    def max_tokens(self) -> int:
        """The most tokens that prompt and output can come to."""
        return len(self.prompt_ids) + self.max_new_tokens
