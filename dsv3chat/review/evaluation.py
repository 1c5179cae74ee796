"""What an evaluation has found, as JSON with a fixed form and as tables for people. Knows no model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dsv3chat.review.scores import (
    Outcome,
    Scores,
    findings_per_clean_chunk,
    rules_in,
    score,
    valid_rate,
)

THRESHOLDS = (0.0, 0.35, 0.5, 0.65, 0.8)
LENGTHS = ((1, 5), (6, 14), (15, None))  # lines of a chunk, both ends included


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Every finding is kept with its confidence, so any threshold can be asked for; `min_confidence` is the one in force."""

    model: str
    profile: str
    protocol: str
    min_confidence: float
    outcomes: tuple[Outcome, ...]
    prompt_tokens: int  # whole prompts, the shared prefix included
    reused_tokens: int  # of these, served by the prefix cache
    completion_tokens: int
    seconds: float  # from the first question to the last answer, loading left out

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens that were computed, in and out, over the whole time; None when there were none."""
        computed = self.prompt_tokens - self.reused_tokens + self.completion_tokens
        return computed / self.seconds if computed and self.seconds else None

    def to_json(self) -> str:
        """The figures at `min_confidence`; null where one is undefined. Other thresholds are in `to_text` alone."""
        at = self.min_confidence
        rules = rules_in(self.outcomes, at)
        document: dict[str, Any] = {
            "all": asdict(score(self.outcomes, at)),
            "rules": {rule: asdict(score(self.outcomes, at, rule)) for rule in rules},
            "findings_per_clean_chunk": findings_per_clean_chunk(self.outcomes, at),
            "valid_json_rate": valid_rate(self.outcomes),
            "num_chunks": len(self.outcomes),
            "seconds": round(self.seconds, 3),
            "tokens_per_s": self.tokens_per_s,
        }
        return json.dumps(document, indent=2) + "\n"

    def to_text(self) -> str:
        """Three tables (by rule, by threshold, by length of the chunk) and what it took."""
        return "\n\n".join((self._by_rule(), self._by_threshold(), self._by_length(), self._cost())) + "\n"

    def of_length(self, low: int, high: int | None) -> tuple[Outcome, ...]:
        """The outcomes of chunks of `low` to `high` lines."""
        return tuple(
            outcome
            for outcome in self.outcomes
            if low <= len(outcome.labelled.chunk.lines)
            and (high is None or len(outcome.labelled.chunk.lines) <= high)
        )

    def _by_rule(self) -> str:
        at = self.min_confidence
        heads = [f"{threshold:g}" for threshold in THRESHOLDS]
        rows = [
            [name, *_cells(score(self.outcomes, at, rule)), *self._f1s(rule)]
            for name, rule in [
                *((rule, rule) for rule in rules_in(self.outcomes, min(THRESHOLDS))),
                ("all", None),
            ]
        ]
        title = f"By rule, at confidence {at:g}; then F1 at other thresholds"
        return _table(title, ["rule", "labels", "precision", "recall", "F1", *heads], rows)

    def _f1s(self, rule: str | None) -> list[str]:
        return [_shown(score(self.outcomes, threshold, rule).f1) for threshold in THRESHOLDS]

    def _by_threshold(self) -> str:
        rows = [
            [
                f"{at:g}",
                *_cells(score(self.outcomes, at)),
                _shown(findings_per_clean_chunk(self.outcomes, at), 3),
            ]
            for at in sorted({*THRESHOLDS, self.min_confidence})
        ]
        heads = ["confidence", "labels", "precision", "recall", "F1", "per clean chunk"]
        return _table("By threshold", heads, rows)

    def _by_length(self) -> str:
        rows = []
        for low, high in LENGTHS:
            group = self.of_length(low, high)
            clean = _shown(findings_per_clean_chunk(group, self.min_confidence), 3)
            name = f"{low} to {high}" if high else f"{low} and more"
            rows.append([name, str(len(group)), *_cells(score(group, self.min_confidence)), clean])
        heads = ["lines", "chunks", "labels", "precision", "recall", "F1", "per clean chunk"]
        return _table(f"By length of the chunk, at confidence {self.min_confidence:g}", heads, rows)

    def _cost(self) -> str:
        speed = self.tokens_per_s
        dropped = sum((Counter(outcome.dropped) for outcome in self.outcomes), Counter[str]())
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
        return "\n".join(
            [
                f"{len(self.outcomes)} chunks, valid JSON {_percent(valid_rate(self.outcomes))}"
                + (f"; dropped: {reasons}" if reasons else ""),
                f"{self.prompt_tokens:,} prompt tokens ({self.reused_tokens:,} from the prefix cache), "
                f"{self.completion_tokens:,} answer tokens",
                f"{self.seconds:.1f} s, " + ("n/a" if speed is None else f"{speed:.1f}") + " tok/s computed",
                f"{self.model}, profile {self.profile}, protocol {self.protocol}",
            ]
        )


def _cells(scores: Scores) -> list[str]:
    return [str(scores.num_findings), *map(_shown, (scores.precision, scores.recall, scores.f1))]


def _shown(value: float | None, digits: int = 2) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f} %"


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (heads, *rows)
    ]
    return "\n".join((title, *(line.rstrip() for line in lines)))
