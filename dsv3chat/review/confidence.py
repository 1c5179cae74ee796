"""How sure the model is of a finding: its own probability of having said it. Knows no JSON.

The confidence is the product of the probabilities of the tokens from the finding's opening brace through the end of its
rule: that there is a finding, on this line, of this severity, by this rule. Only choices count: a token that the grammar
forced has probability 1. Probabilities are raw, at temperature 1.

A token belongs to the finding when its text and [opening brace, last character of the rule's name] share a character. So
a token that straddles a border counts whole: `[{"`, which begins the finding, does; `","`, which only closes the rule, does
not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dsv3chat.review.question import Choice


def confidence(choices: Sequence[Choice] | None, start: int, end: int) -> float:
    """exp(sum of log p) over the choices whose text overlaps [start, end); 1.0 where there are no probabilities."""
    if choices is None:
        return 1.0
    total = sum(choice.logprob for choice in choices if choice.start < end and choice.end > start)
    return math.exp(min(0.0, total))
