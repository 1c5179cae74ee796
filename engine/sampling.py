"""What a caller may ask of a generation, as one frozen value. Knows no tensors and no defaults of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """A grammar for the answer: compact JSON (separators `,` and `:`, no other whitespace) that meets `schema`, a JSON
    Schema as text. Properties come in the schema's order.

    The answer proper is meant: the thinking of a model that thinks first is free. An answer that finishes for the reason
    "stop" meets the schema; one that was cut ("length", "stop_string", "cancelled") does not.
    """

    schema: str


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Every field that is None is "not said": the profile, then the checkpoint's generation_config.json, then the
    built-in value (`engine.runtime.defaults`) decides.

    temperature 0 is greedy, and switches the repetition penalty off unless it is given here.
    `stop` strings end the answer and are not part of it. `logprobs` = k asks for the chosen token's and the k
    likeliest tokens' log-probabilities, raw (before penalties), at temperature 1; 0 asks for the chosen one's only.
    `loop_guard` ends an answer that goes round in circles (engine.text.loop_guard); None: the profile's. Where `ignore_eos`
    asks for a fixed length, or a grammar bounds the answer, only True switches it on.
    `begins_with` is text that the answer begins with, as if the model had written it: to go on with an answer that ended.
    """

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    ignore_eos: bool = False
    loop_guard: bool | None = None
    grammar: JsonSchema | None = None
    begins_with: str = ""

    def __post_init__(self) -> None:
        """ValueError with the field, the value and the range, for a value outside it."""
        checks: tuple[tuple[str, float | None, float, float], ...] = (
            ("max_new_tokens", self.max_new_tokens, 1, 2**31),
            ("temperature", self.temperature, 0.0, 100.0),
            ("top_k", self.top_k, 0, 2**31),
            ("min_p", self.min_p, 0.0, 1.0),
            ("seed", self.seed, 0, 2**63 - 1),
            ("logprobs", self.logprobs, 0, 100),
        )
        for name, value, low, high in checks:
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} = {value}: must lie between {low} and {high}")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p = {self.top_p}: must be above 0 and at most 1")
        if self.repetition_penalty is not None and not 0.0 < self.repetition_penalty <= 100.0:
            raise ValueError(
                f"repetition_penalty = {self.repetition_penalty}: must be above 0 and at most 100"
            )
        if self.begins_with and self.grammar is not None:
            raise ValueError(
                "begins_with: a grammar says itself how the answer begins; leave one of them out"
            )
        if isinstance(self.stop, str):
            raise ValueError(f"stop = {self.stop!r}: must be a tuple of strings, such as ({self.stop!r},)")
        if any(not s for s in self.stop):
            raise ValueError("stop: an empty stop string would end every answer at once")


@dataclass(frozen=True, slots=True)
class ResolvedSampling:
    """SamplingParams after every source was asked: nothing is None but `seed` (drawn at submit) is concrete too."""

    max_new_tokens: int
    temperature: float
    top_k: int  # 0: off
    top_p: float  # 1.0: off
    min_p: float  # 0.0: off
    repetition_penalty: float  # 1.0: off
    seed: int
    stop: tuple[str, ...]
    logprobs: int | None
    ignore_eos: bool
    loop_guard: bool = False
