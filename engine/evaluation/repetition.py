"""How much an answer repeats itself, from token ids. Knows no model and no text."""

from __future__ import annotations

from collections.abc import Sequence

from engine.text.loop_guard import LoopGuard

NGRAM = 4


def repeated_share(ids: Sequence[int]) -> float:
    """1 - different n-grams / n-grams, with n = NGRAM (seq-rep-4 of arXiv 1908.04319); 0 for an answer without any."""
    count = len(ids) - NGRAM + 1
    if count < 1:
        return 0.0
    return 1.0 - len({tuple(ids[i : i + NGRAM]) for i in range(count)}) / count


def is_looping(ids: Sequence[int]) -> bool:
    """Whether the loop guard would have stopped the answer."""
    guard = LoopGuard()
    return any(guard.push(token) for token in ids)
