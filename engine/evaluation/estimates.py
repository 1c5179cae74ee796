"""Means with standard errors from blocks of neighbouring tokens. Knows no model.

error = standard deviation of the block means / sqrt(blocks). Two profiles are compared by the differences of their
blocks: what is hard in the text is hard for both and falls out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.values import Estimate, Quality, Tie
from engine.evaluation.windows import blocks

TELLS_APART = 2.0  # standard errors


def block_means(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Means of one value a token over `blocks`."""
    return tuple(float(values[part].mean()) for part in blocks(len(values)))


def standard_error(means: Sequence[float]) -> float | None:
    """Of the mean of block means; None with fewer than two."""
    if len(means) < 2:
        return None
    return float(np.std(means, ddof=1)) / math.sqrt(len(means))


def estimate(values: NDArray[np.float64]) -> Estimate:
    """Mean of one value a token, and its error."""
    return Estimate(float(values.mean()), standard_error(block_means(values)))


def perplexity_change(nll: NDArray[np.float64], reference: NDArray[np.float64]) -> Estimate:
    """exp(mean difference) - 1; d exp(x) = exp(x) dx carries the error of the paired differences."""
    difference = estimate(nll - reference)
    ratio = math.exp(difference.value)
    error = None if difference.error is None else ratio * difference.error
    return Estimate(ratio - 1.0, error)


def ties(profiles: Sequence[Quality]) -> tuple[Tie, ...]:
    """The pairs whose mean KL differs by less than TELLS_APART errors of the paired difference, or has no error."""
    found = []
    for first, second in combinations(profiles, 2):
        pairs = zip(first.kl_blocks, second.kl_blocks, strict=True)
        error = standard_error([b - a for a, b in pairs])
        difference = second.kl.value - first.kl.value
        if error is None or abs(difference) < TELLS_APART * error:
            found.append(Tie(first.name, second.name, Estimate(difference, error)))
    return tuple(found)
