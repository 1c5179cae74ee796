"""The protocol that the embedded model was trained on, to the letter. Knows nothing that is not in its training."""

from __future__ import annotations

from dsv3chat.review.protocol import ReviewProtocol
from dsv3chat.review.rules import NANO_RULES
from dsv3chat.review.values import Severity

NANO = ReviewProtocol(
    name="nano",
    version=1,
    system_prompt=(
        "You are a code reviewer. Report real defects only: bugs, security holes, leaked resources, swallowed errors. "
        'Answer with JSON: {"findings":[{"line":int,"severity":"error"|"warning"|"info","rule":str,"message":str,'
        '"suggestion":str}]}. The numbers in the margin are line numbers. No defects: an empty list.'
    ),
    rules=NANO_RULES,
    severities={"error": Severity.HIGH, "warning": Severity.MEDIUM, "info": Severity.LOW},
    properties=("line", "severity", "rule", "message", "suggestion"),
    rule_key="rule",
    min_confidence=0.5,
    max_lines=110,
    max_tokens=1500,
    max_findings=16,
    max_answer_tokens=1024,
    max_characters={"message": 300, "suggestion": 300},
    languages=frozenset({"python"}),
)
