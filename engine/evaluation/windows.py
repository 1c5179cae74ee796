"""A text as overlapping windows, and which of its tokens each window counts. Integers only; knows no model.

Every token but the first of the text is counted once. The first window counts all of its tokens but the first; each
later one ends `stride` tokens further and counts only these, so that they have at least WINDOW - STRIDE tokens before
them. Means over the text have a standard error from BLOCK tokens at a time, since neighbouring tokens are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

WINDOW = 512
STRIDE = 256
BLOCK = 64


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens [start, stop) of the text, of which [first, stop) are counted."""

    start: int
    first: int
    stop: int


def windows(num_tokens: int, window: int = WINDOW, stride: int = STRIDE) -> list[Window]:
    """The windows of a text of `num_tokens`; 1 <= stride < window, so that a counted token has one before it."""
    assert 1 <= stride < window
    found = [Window(0, 1, min(window, num_tokens))]
    while found[-1].stop < num_tokens:
        first = found[-1].stop
        stop = min(first + stride, num_tokens)
        found.append(Window(max(0, stop - window), first, stop))
    return found


def blocks(num_values: int, block: int = BLOCK) -> list[slice]:
    """Neighbouring values in blocks of `block` or a few more; one block where there are fewer."""
    count = max(1, num_values // block)
    edges = [num_values * i // count for i in range(count + 1)]
    return [slice(low, high) for low, high in pairwise(edges)]
