"""Precision, recall and F1 of findings against labels. Knows no model and no text.

A finding is right when its line and its rule are both a label's. With TP right findings, FP others and FN labels that
nobody found: precision = TP / (TP + FP), recall = TP / (TP + FN), F1 = 2 TP / (2 TP + FP + FN), the harmonic mean of the
two. A quotient of nothing is None: precision without a finding, recall without a label, F1 without either. F1 is 0,
and not None, where labels are there and nothing was found: all of them were missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dsv3chat.review.labelled import Label, LabelledChunk


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a model found in a labelled chunk: each finding's confidence, 0 to 1.

    `valid`: its first answer was JSON of the asked form; `dropped` counts what was in an answer and is no finding, by reason.
    """

    labelled: LabelledChunk
    found: Mapping[Label, float]
    valid: bool
    dropped: Mapping[str, int] = field(default_factory=dict)

    def above(self, min_confidence: float) -> frozenset[Label]:
        return frozenset(label for label, sure in self.found.items() if sure >= min_confidence)


@dataclass(frozen=True, slots=True)
class Scores:
    """`num_findings` counts the labels: how many findings there were to make."""

    precision: float | None
    recall: float | None
    f1: float | None
    num_findings: int


def score(outcomes: Iterable[Outcome], min_confidence: float, rule: str | None = None) -> Scores:
    """Of the findings at `min_confidence` or above; with `rule`, of its findings and its labels alone."""
    right = wrong = missed = 0
    for outcome in outcomes:
        found = _of(rule, outcome.above(min_confidence))
        labels = _of(rule, outcome.labelled.labels)
        right += len(found & labels)
        wrong += len(found - labels)
        missed += len(labels - found)
    return Scores(
        precision=_share(right, right + wrong),
        recall=_share(right, right + missed),
        f1=_share(2 * right, 2 * right + wrong + missed),
        num_findings=right + missed,
    )


def rules_in(outcomes: Iterable[Outcome], min_confidence: float) -> list[str]:
    """Every rule that has a label or a finding, by name."""
    labels = (outcome.labelled.labels | outcome.above(min_confidence) for outcome in outcomes)
    return sorted({rule for both in labels for _, rule in both})


def findings_per_clean_chunk(outcomes: Iterable[Outcome], min_confidence: float) -> float | None:
    """None without a clean chunk."""
    counts = [len(outcome.above(min_confidence)) for outcome in outcomes if not outcome.labelled.labels]
    return _share(sum(counts), len(counts))


def valid_rate(outcomes: Iterable[Outcome]) -> float | None:
    valid = [outcome.valid for outcome in outcomes]
    return _share(sum(valid), len(valid))


def _of(rule: str | None, labels: frozenset[Label]) -> frozenset[Label]:
    return labels if rule is None else frozenset(label for label in labels if label[1] == rule)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
