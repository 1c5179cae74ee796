"""How much of a file fits one prompt: numbered lines, their tokens, and the longest run that fits. Knows no syntax."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

MAX_LINE_CHARS = 1000  # what a longer line has beyond these is not shown to the model
CUT_MARK = "…"
_TOKENS_PER_BYTE = 0.33  # first guess, of numbered Python; every count of the file at hand replaces it
_FULL = 0.9  # a chunk this full is not worth another count


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    """How large a chunk may be; tokens are those of the numbered text."""

    max_lines: int = 110
    max_tokens: int = 1500


def numbered(lines: Sequence[str], start: int) -> str:
    """The lines as the prompt shows them: `12| code`, joined by line feeds, with none at the end."""
    return "\n".join(f"{number}| {line}" for number, line in enumerate(lines, start))


def shortened(line: str) -> str:
    """The line, or its first MAX_LINE_CHARS characters and a mark."""
    return line if len(line) <= MAX_LINE_CHARS else line[:MAX_LINE_CHARS] + CUT_MARK


class Budget:
    """Which runs of `lines` fit the limits. Line numbers are 1-based and inclusive.

    A token is at least one byte, so a run of at most `max_tokens` bytes fits without a count. Otherwise the count
    decides; where to look is guessed from the tokens per byte of the count before it, so that a chunk costs one or two.
    """

    def __init__(self, lines: Sequence[str], limits: ChunkLimits, count_tokens: Callable[[str], int]) -> None:
        self.lines = tuple(map(shortened, lines))
        self.limits = limits
        self._count_tokens = count_tokens
        self._counted: dict[tuple[int, int], int] = {}
        self._density = _TOKENS_PER_BYTE
        sizes = (
            len(line) + len(str(number)) + 3
            if line.isascii()
            else len(line.encode("utf-8", "surrogatepass")) + len(str(number)) + 3
            for number, line in enumerate(self.lines, 1)
        )
        self._ends = list(accumulate(sizes, initial=0))  # [n]: bytes of the numbered lines 1 to n

    def text(self, start: int, end: int) -> str:
        return numbered(self.lines[start - 1 : end], start)

    def tokens(self, start: int, end: int) -> int:
        """Tokens of the numbered lines, or an upper bound that is within the limit."""
        size = self._ends[end] - self._ends[start - 1]
        if size <= self.limits.max_tokens:
            return size
        tokens = self._counted.get((start, end))
        if tokens is None:
            tokens = self._counted[start, end] = self._count_tokens(self.text(start, end))
        self._density = max(tokens, 1) / size
        return tokens

    def fits(self, start: int, end: int) -> bool:
        """Whether the lines make one chunk."""
        return end - start < self.limits.max_lines and self.tokens(start, end) <= self.limits.max_tokens

    def longest(self, start: int, ends: Sequence[int]) -> int:
        """The index of the last of the rising `ends` up to which lines from `start` fit; -1: not even the first does.

        It may stop at a chunk that is _FULL already.
        """
        fitting, last = -1, bisect_right(ends, start + self.limits.max_lines - 1) - 1
        while fitting < last:
            reach = self._ends[start - 1] + self.limits.max_tokens / self._density
            guess = bisect_right(ends, reach, key=self._ends.__getitem__) - 1
            probe = min(max(guess, fitting + 1), last)
            tokens = self.tokens(start, ends[probe])
            if tokens > self.limits.max_tokens:
                last = probe - 1
            else:
                fitting = probe
                if tokens >= _FULL * self.limits.max_tokens and self._ends[ends[probe]] >= reach * _FULL:
                    break
        return fitting

    def cut_line(self, number: int) -> str:
        """A line that alone exceeds the budget, cut and marked so that it fits: at last nothing but the mark."""
        kept = self.lines[number - 1].removesuffix(CUT_MARK)
        while kept and self._count_tokens(numbered([kept + CUT_MARK], number)) > self.limits.max_tokens:
            kept = kept[: len(kept) // 2]
        return kept + CUT_MARK
