"""How a model is asked for a review and what it may answer, as one frozen value. Knows no model and no backend.

nano_protocol.py and general_protocol.py hold the two that there are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dsv3chat.review.chunks import numbered
from dsv3chat.review.rules import Rule
from dsv3chat.review.values import Chunk, Severity
from dsv3chat.sanitize import clean_line
from engine import Message

_BACKTICKS = re.compile(r"`{3,}")


@dataclass(frozen=True, slots=True)
class ReviewProtocol:
    """Prompt, schema, languages and thresholds. Two reviews with equal protocols ask equal questions.

    `properties` is the order of a finding's properties; `rule_key` names the one that holds the rule. `confirm_prompt`
    asks for a second look at one finding; empty: the finding's lines are reviewed once more by themselves.
    """

    name: str
    version: int  # raised with every change of what is asked: cached answers of another version are not used
    system_prompt: str
    rules: tuple[Rule, ...]
    severities: Mapping[str, Severity]  # the model's words, in the schema's order
    properties: tuple[str, ...]
    rule_key: str
    min_confidence: float
    max_lines: int  # of a chunk
    max_tokens: int  # of a chunk's code, with its line numbers
    max_findings: int  # of a chunk
    max_answer_tokens: int
    max_characters: Mapping[str, int]  # of each property that is text
    languages: frozenset[str] | None = None  # None: any text
    reviews_deletions: bool = False  # whether a hunk that only deletes can be reviewed
    long_fence: bool = False  # whether the fence grows beyond every fence in the code
    confirm_prompt: str = ""

    def rule(self, name: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.name == name), None)

    def skip_reason(self, language: str) -> str | None:
        """Why a file of this language is not reviewed; None when it is."""
        if self.languages is None or language in self.languages:
            return None
        return f"{self.name} reviews {', '.join(sorted(self.languages)).capitalize()}"

    def messages(self, chunk: Chunk) -> tuple[Message, Message]:
        """The stable prefix, then the chunk."""
        return Message("system", self.system_prompt), Message("user", self.user_prompt(chunk))

    def user_prompt(self, chunk: Chunk) -> str:
        """The chunk with its path and line numbers; everything in it is data."""
        code = numbered(chunk.lines, chunk.start)
        prompt = f"File: {prompt_path(chunk.path)}\n{self._fenced(code, chunk.language)}"
        if chunk.removed and self.reviews_deletions:
            removed = "\n".join(chunk.removed)
            prompt += f"\nThe change deletes these lines from there:\n{self._fenced(removed, chunk.language)}"
        return prompt

    def _fenced(self, code: str, language: str) -> str:
        fence = "```"
        if self.long_fence:
            longest = max(map(len, _BACKTICKS.findall(code)), default=0)
            fence = "`" * max(3, longest + 1)
        return f"{fence}{language}\n{code}\n{fence}"

    def schema(self, chunk: Chunk) -> str:
        """The answer's JSON Schema, as text: a bounded list of findings whose lines lie inside the chunk."""
        text = {
            name: {"type": "string", "maxLength": self.max_characters[name]} for name in self.max_characters
        }
        line = {"type": "integer", "minimum": chunk.start, "maximum": chunk.end}
        kinds: dict[str, object] = {
            **text,
            "line": line,
            "end_line": line,
            "severity": {"enum": list(self.severities)},
            self.rule_key: {"enum": [rule.name for rule in self.rules]},
        }
        finding = _object({name: kinds[name] for name in self.properties})
        findings = {"type": "array", "maxItems": self.max_findings, "items": finding}
        return json.dumps(_object({"findings": findings}), separators=(",", ":"))


def _object(properties: Mapping[str, object]) -> dict[str, object]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def prompt_path(path: str) -> str:
    """A path as it stands in a prompt: one line, no control characters, no backticks that could close a fence."""
    return clean_line(path).replace("`", "'")
