"""An evaluation as a table for people and as JSON for programs. Knows no command line and measures nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dsv3chat.markdown_table import aligned
from dsv3chat.sanitize import clean_line

if TYPE_CHECKING:
    from engine import Estimate, Evaluation, Quality

_HEADINGS = (
    "profile",
    "weights",
    "perplexity",
    "change",
    "KL",
    "same token",
    "repeated",
    "looping",
    "seconds",
)
_NONE = "-"


def to_json(found: Evaluation) -> dict[str, Any]:
    """Every value, with those by block, from which any two profiles can be compared pair by pair."""
    document = asdict(found)
    for quality, values in zip(
        (found.reference, *found.profiles), (document["reference"], *document["profiles"]), strict=True
    ):
        values["seconds"] = quality.seconds
        if quality.answers is not None:
            values["answers"]["repetition"] = quality.answers.repetition
    return document


def to_text(found: Evaluation) -> str:
    """A table in Markdown, aligned, with what it counts above it and what it does not tell apart below."""
    rows = [list(_HEADINGS), _row(found.reference, is_reference=True)]
    rows += [_row(quality) for quality in found.profiles]
    head = (
        f"{clean_line(found.model)}: {found.num_tokens} tokens counted, windows of {found.window} that move by "
        f"{found.stride}; ± standard error, paired by blocks of {found.block} tokens; KL in nats a token"
    )
    return "\n".join([head, "", *aligned(rows), *_ties(found)])


def _row(quality: Quality, is_reference: bool = False) -> list[str]:
    answers = quality.answers
    return [
        clean_line(quality.name),
        f"{quality.weights_bytes / 1e6:.1f} MB",
        f"{quality.perplexity:.3f}",
        _NONE if is_reference else _estimate(quality.change, 100, "+.2f", " %"),
        _NONE if is_reference else _estimate(quality.kl, 1, ".5f"),
        _NONE if is_reference else _estimate(quality.agreement, 100, ".1f", " %"),
        _NONE if answers is None else f"{100 * answers.repetition:.0f} %",
        _NONE if answers is None else f"{sum(answers.looping)} of {len(answers.looping)}",
        f"{quality.seconds:.0f}",
    ]


def _estimate(estimate: Estimate, factor: int, form: str, unit: str = "") -> str:
    error = "" if estimate.error is None else f" ± {factor * estimate.error:{form.removeprefix('+')}}"
    return f"{factor * estimate.value:{form}}{error}{unit}"


def _ties(found: Evaluation) -> list[str]:
    """In words, what the numbers of the table only seem to say."""
    if not found.ties:
        return []
    lines = [
        "",
        "Not told apart by this text (KL differs by less than two standard errors of the paired difference):",
    ]
    for tie in found.ties:
        difference = _estimate(tie.difference, 1, "+.5f")
        lines.append(f"- {clean_line(tie.first)} and {clean_line(tie.second)}: {difference}")
    return lines
