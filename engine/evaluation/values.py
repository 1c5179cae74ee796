"""What an evaluation finds, as frozen values. Knows no tensors and no form of output."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its standard error; None where the text is too short for one."""

    value: float
    error: float | None


@dataclass(frozen=True, slots=True)
class Answers:
    """Greedy answers to the built-in prompts: tokens without the end-of-turn token, repeated share, by answer."""

    tokens: tuple[int, ...]
    repeated: tuple[float, ...]  # engine.evaluation.repetition.repeated_share
    looping: tuple[bool, ...]  # whether the loop guard would have stopped it
    seconds: float

    @property
    def repetition(self) -> float:
        """Mean over the answers."""
        return sum(self.repeated) / len(self.repeated)


@dataclass(frozen=True, slots=True)
class Quality:
    """One profile. Blocks are means over runs of neighbouring tokens, the same for every profile: differences pair by block.

    perplexity = exp(mean of -log p). `change`: perplexity / the reference's - 1, its error from paired blocks. `kl`: mean of
    sum_v p(v) (log p(v) - log q(v)), p the reference's, over the whole vocabulary, in nats. `agreement`: share of
    positions with the reference's likeliest token.
    """

    name: str
    weights_bytes: int
    perplexity: float
    change: Estimate
    kl: Estimate
    agreement: Estimate
    nll_blocks: tuple[float, ...]
    kl_blocks: tuple[float, ...]
    load_seconds: float
    score_seconds: float
    answers: Answers | None = None

    @property
    def seconds(self) -> float:
        """Loading, scoring and answering."""
        return self.load_seconds + self.score_seconds + (self.answers.seconds if self.answers else 0.0)


@dataclass(frozen=True, slots=True)
class Tie:
    """Two profiles whose KL divergences this text does not tell apart: the paired difference, second minus first."""

    first: str
    second: str
    difference: Estimate


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`num_tokens`: counted tokens, of windows of `window` that move by `stride`; `block`: tokens behind a block."""

    model: str
    num_tokens: int
    window: int
    stride: int
    block: int
    reference: Quality
    profiles: tuple[Quality, ...]
    ties: tuple[Tie, ...]


@dataclass(frozen=True, slots=True)
class EvaluationProgress:
    """`stage` of the profile `name`, which is number `index` of `count`, the reference included; 0 of 0: not counted."""

    name: str
    index: int
    count: int
    stage: str
    done: int = 0
    total: int = 0
