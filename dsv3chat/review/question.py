"""One question to a model and its answer, as frozen values that a cache can keep. Knows no backend."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from engine import Message

_FORMAT = 1  # raised when an answer's stored form changes: answers of another form are not found


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked and how it is sampled. Temperature 0 is greedy, and the seed then plays no part."""

    messages: tuple[Message, ...]
    schema: str
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0

    def key(self, identity: str) -> str:
        """SHA-256, hex: equal where the answer must be equal. `identity` stands for model, profile and protocol."""
        asked = [
            _FORMAT,
            identity,
            [[message.role, message.content] for message in self.messages],
            self.schema,
            self.max_tokens,
            self.temperature,
            self.seed if self.temperature > 0 else None,
        ]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Choice:
    """A token that the model chose: where its text stands in the answer, and its raw log-probability at temperature 1.

    Tokens whose text comes out together (parts of one character) share the span of that text.
    """

    start: int
    end: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Answer:
    """`choices` has no forced tokens; it is None where the backend gives no probabilities. Tokens are this answer's."""

    text: str
    ending: str  # events.FinishReason
    choices: tuple[Choice, ...] | None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def to_json(self) -> str:
        fields = asdict(self)
        if self.choices is not None:
            fields["choices"] = [[c.start, c.end, c.logprob] for c in self.choices]
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Answer:
        """ValueError, KeyError or TypeError for what `to_json` did not write."""
        fields = json.loads(text)
        choices = fields["choices"]
        if choices is not None:
            choices = tuple(Choice(int(start), int(end), float(logprob)) for start, end, logprob in choices)
        return cls(
            str(fields["text"]),
            str(fields["ending"]),
            choices,
            int(fields["prompt_tokens"]),
            int(fields["cached_tokens"]),
            int(fields["completion_tokens"]),
        )
