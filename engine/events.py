"""What crosses the boundary between the engine thread and a front end: frozen values only. Knows no tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

TextKind: TypeAlias = Literal["answer", "thinking"]
FinishReason: TypeAlias = Literal["stop", "length", "stop_string", "looping", "cancelled", "scored"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat. `content` is data: control tokens in it are encoded as text."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Loading goes on. `stage` is a few words for a person ("reading weights"); bytes are 0/0 where not counted."""

    stage: str
    done_bytes: int = 0
    total_bytes: int = 0
    detail: str = ""  # e.g. "layer 12 of 30"


@dataclass(frozen=True, slots=True)
class SwitchPlan:
    """What another profile of the loaded model would cost. `kept_bytes` of the weights stay, `freed_bytes` go,
    `read_bytes` are read; `cache_bytes` is the new cache.

    `free_first`: both do not fit at a time, so the old goes first, and a failure reads it back. `keeps_cache`: neither
    weights nor cache change, and nothing is read.
    """

    kept_bytes: int
    read_bytes: int
    freed_bytes: int
    cache_bytes: int
    free_first: bool
    keeps_cache: bool


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's raw log-probability at temperature 1 (before penalties), and the likeliest alternatives.

    With a grammar, `logprob` and `top` are still those of the model alone, over all tokens; `masked_logprob` is the
    chosen token's log-probability among the tokens that the grammar allowed, None without a grammar. `forced`: the
    grammar left no choice; both are 0.0 then, and `top` is empty, for the model was not asked. So the product of the
    probabilities of a stretch's choices is exp(sum of its `logprob`), and with `masked_logprob` what it is among the
    texts that the grammar allows.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    forced: bool = False
    masked_logprob: float | None = None


@dataclass(frozen=True, slots=True)
class Queued:
    """The request waits: `position` requests stand before it."""

    position: int


@dataclass(frozen=True, slots=True)
class PrefillProgress:
    """`done` of `total` prompt tokens are in the cache, `cached` of them were reused."""

    done: int
    total: int
    cached: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text. The sum of the deltas is the full decode of the answer; never a split character in it.

    `num_tokens` counts the tokens behind this delta; it may be 0 at the flush and more than 1 after a held-back prefix.
    """

    text: str
    num_tokens: int
    time: float  # time.monotonic() at the end of the step
    kind: TextKind = "answer"
    token_ids: tuple[int, ...] = ()  # the tokens behind this delta, the end-of-turn token included
    logprobs: tuple[TokenLogprob, ...] = ()  # one a token when they were asked for


@dataclass(frozen=True, slots=True)
class Usage:
    """What a finished request cost. Seconds are wall time.

    `decode_tokens_per_s` = (completion_tokens - 1) / seconds between the first and the last token: it counts thinking
    tokens, leaves out queue and prefill, and is None below two tokens. `prefill_tokens_per_s` = computed prompt tokens
    (without the cached ones) / prefill seconds, None when nothing was computed.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    thinking_tokens: int
    queue_seconds: float
    prefill_seconds: float
    decode_seconds: float
    prefill_tokens_per_s: float | None
    decode_tokens_per_s: float | None
    seed: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The request ended as it should: end of turn, length, a stop string, cancelled or looping (the text stays)."""

    reason: FinishReason
    usage: Usage


@dataclass(frozen=True, slots=True)
class Failed:
    """The request ended with an error; the text sent so far stays valid. `kind` is the error's class name."""

    message: str
    kind: str
    usage: Usage | None = None


Event: TypeAlias = Queued | PrefillProgress | TextDelta | Finished | Failed


@dataclass(frozen=True, slots=True)
class StepStats:
    """The engine as of its latest step; a front end reads it whenever it likes. None means unknown, never 0.

    Rates are over the last few seconds. `weights_bytes` maps a tier ("ram", "cuda:0") to bytes really held.
    """

    num_steps: int
    num_running: int
    num_waiting: int
    kv_pages_used: int
    kv_pages_total: int
    kv_page_tokens: int
    kv_pages_reusable: int  # held only for prefix reuse: free to whoever needs them
    prefix_hit_tokens: int  # prompt tokens reused since the start
    prefix_query_tokens: int  # prompt tokens asked for since the start
    num_preemptions: int
    decode_tokens_per_s: float | None
    prefill_tokens_per_s: float | None
    weights_bytes: Mapping[str, int] = field(default_factory=dict)
    kv_bytes: int = 0
    step_seconds: float | None = None

    @property
    def kv_tokens_used(self) -> int:
        """Tokens of pages that running requests hold."""
        return self.kv_pages_used * self.kv_page_tokens

    @property
    def kv_tokens_total(self) -> int:
        """Tokens the whole pool can hold."""
        return self.kv_pages_total * self.kv_page_tokens


@dataclass(frozen=True, slots=True)
class Score:
    """`logprobs[i]` = log p(ids[i+1] | ids[:i+1]), natural logarithm; `argmax[i]` the likeliest token after ids[:i+1]."""

    num_tokens: int
    logprobs: tuple[float, ...]
    argmax: tuple[int, ...]
    perplexity: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a front end shows of a loaded model."""

    name: str  # "nano", or the folder's name
    path: str
    architecture: str
    num_parameters: int
    num_layers: int
    context_tokens: int  # min(max_position_embeddings, tokens of the pool)
    profile_name: str
    max_new_tokens: int  # the profile's
    attention_bits: int = 16  # a value of the coarsest attention matrix; below 8 answers tend to loop
    notes: tuple[str, ...] = ()  # e.g. "MTP layer 30 is left out"
    metadata: Mapping[str, object] = field(default_factory=dict)  # config.json's "dsv3chat" object
