"""A review from its scope to its report: one object that the command and the screen share. Knows no format and no widget.

    review = Review(scope, EngineBackend(model, profile), protocol, options, model=describe_model(model, profile))
    review.plan                      files, chunks, tokens, how many of them the cache answers; no model is loaded
    for event in review.events():    loads the model when something is pending
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from dsv3chat.backend import ChatBackend
from dsv3chat.review.baseline import Baseline
from dsv3chat.review.model import ReviewedModel
from dsv3chat.review.protocol import ReviewProtocol
from dsv3chat.review.values import Chunk, Report, ReviewEvent, ReviewOptions, Scope, Skipped, SourceFile
from engine import LoadProgress

Splitter: TypeAlias = Callable[[SourceFile], Sequence[Chunk]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a review will do, known without a model. Tokens count whole prompts, the shared prefix and passes included."""

    num_files: int
    num_chunks: int
    prompt_tokens: int
    exact_tokens: bool  # False: counted from characters, since the model's tokenizer is not there
    pending_chunks: int  # not answered by the cache
    pending_tokens: int
    seconds: float | None  # of the pending ones, at the rate of the last review with this model and profile; None: no rate
    skipped: tuple[Skipped, ...]  # the scope's, and what the protocol does not review
    over_budget: tuple[Skipped, ...]  # files with chunks beyond max_prompt_tokens


class Review:
    """`events` once, on any thread; everything else at any time from any thread."""

    def __init__(
        self,
        scope: Scope,
        backend: ChatBackend,
        protocol: ReviewProtocol,
        options: ReviewOptions = ReviewOptions(),
        *,
        model: ReviewedModel,
        split: Splitter,
        baseline: Baseline | None = None,
        use_cache: bool = True,
        on_load: Callable[[LoadProgress], None] = lambda progress: None,
    ) -> None:
        """`split` cuts a file into the chunks of this protocol (chunks.split with the caller's strategy and limits)."""
        raise NotImplementedError

    @property
    def plan(self) -> Plan:
        """Computed at the first call: reads the cache, loads no model."""
        raise NotImplementedError

    def events(self) -> Iterator[ReviewEvent]:
        """Reviews; ReviewStarted is the first event, ReviewFinished the last, after `stop` too. EngineError when the
        model does not load. A caller that stops iterating stops the review."""
        raise NotImplementedError

    def stop(self) -> None:
        """End soon, with what there is: the report says interrupted. Returns at once; idempotent."""
        raise NotImplementedError

    def seconds_left(self) -> float | None:
        """The time until the end, from tokens and measured speed; None while nothing is known."""
        raise NotImplementedError

    @property
    def report(self) -> Report | None:
        """None until ReviewFinished."""
        raise NotImplementedError
