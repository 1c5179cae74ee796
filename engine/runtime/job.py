"""One submitted request as the engine thread sees it: its clock, its text and its way out. Knows no scheduler.

A Job turns tokens into events. Emitting never blocks, and a slow reader never stalls a step.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING

from engine.events import (
    Event,
    Failed,
    Finished,
    FinishReason,
    PrefillProgress,
    Queued,
    TextDelta,
    TextKind,
    TokenLogprob,
    Usage,
)
from engine.runtime.runner import Draw, OnRows
from engine.runtime.sampler import forced_logprob
from engine.sampling import ResolvedSampling
from engine.text.detokenizer import Detokenizer
from engine.text.loop_guard import LoopGuard
from engine.text.stop import StopFinder
from engine.text.thinking import ThinkingSplitter

if TYPE_CHECKING:
    from engine.text.grammar import AnswerGrammar


@dataclass(slots=True)
class Clock:
    """When things happened, in time.monotonic() seconds; None: not yet."""

    submitted: float = field(default_factory=time.monotonic)
    started: float | None = None  # the first step that computed a token of the request
    first_token: float | None = None
    last_token: float | None = None


class AnswerText:
    """From token ids to (kind, text): detokenizer, thinking splitter, stop strings, in this order."""

    def __init__(self, detokenizer: Detokenizer, splitter: ThinkingSplitter | None, stop: StopFinder) -> None:
        self._detokenizer = detokenizer
        self._splitter = splitter
        self._stop = stop
        self.kind: TextKind = "answer" if splitter is None else splitter.kind

    def push(self, token_id: int) -> tuple[list[tuple[TextKind, str]], bool]:
        """(pieces of text that are certain now, whether a stop string was met)."""
        pieces: list[tuple[TextKind, str]] = []
        if self._splitter is not None and self._splitter.switches(token_id):
            tail, stopped = self._close_part()
            if tail:
                pieces.append((self.kind, tail))
            self.kind = self._splitter.push(token_id)
            return pieces, stopped
        text, stopped = self._stop.push(self._detokenizer.push([token_id]))
        if text:
            pieces.append((self.kind, text))
        return pieces, stopped

    def _close_part(self) -> tuple[str, bool]:
        """What is held back when thinking turns into the answer or the answer ends, and whether it meets a stop string."""
        text, stopped = self._stop.push(self._detokenizer.flush())
        return (text, True) if stopped else (text + self._stop.flush(), False)

    def flush(self) -> tuple[list[tuple[TextKind, str]], bool]:
        """What is still held back at the end, and whether it meets a stop string."""
        tail, stopped = self._close_part()
        return ([(self.kind, tail)] if tail else []), stopped


class Job:
    """One request: constant inputs, a clock, counters, and the queue its reader drains."""

    def __init__(
        self,
        request_id: int,
        prompt_ids: Sequence[int],
        params: ResolvedSampling,
        text: AnswerText | None,
        grammar: AnswerGrammar | None = None,
        forced_ids: Sequence[int] = (),
        on_rows: OnRows | None = None,
    ) -> None:
        """`forced_ids`: what the answer begins with, because `grammar` or the caller says so. It is given out with the first sampled token.
        `on_rows`: of a request that scores, what is called with each chunk's logits."""
        self.request_id = request_id
        self.prompt_ids = tuple(prompt_ids)
        self.params = params
        self.outbox: SimpleQueue[Event] = SimpleQueue()
        self.clock = Clock()
        self.grammar = grammar
        self.forced_ids = tuple(forced_ids)[: params.max_new_tokens]
        self._is_cut = len(forced_ids) > params.max_new_tokens
        self.history = array("q", self.prompt_ids + self.forced_ids)  # prompt and output
        self.num_cached = 0
        self.num_output = 0  # tokens given out
        self.score_logprobs: list[float] = []
        self.score_argmax: list[int] = []
        self.on_rows = on_rows
        self._text = text
        self._guard = LoopGuard() if params.loop_guard else None
        self._ahead = self.forced_ids  # in the history, not given out yet
        self._num_thinking = 0
        self._pending_ids: list[int] = []  # tokens whose text is still held back
        self._pending_logprobs: list[TokenLogprob] = []
        self._last_notice: Queued | PrefillProgress | None = None

    def notice(self, event: Queued | PrefillProgress) -> None:
        """Emit a progress event unless it is the same as the last one."""
        if event != self._last_notice:
            self._last_notice = event
            self.outbox.put(event)

    @property
    def foregone(self) -> FinishReason | None:
        """The end of an answer of which the grammar leaves nothing to the model; None: the model has to answer."""
        if self.grammar is not None and self.grammar.ended and not self._is_cut:
            return "stop"
        return "length" if len(self.forced_ids) == self.params.max_new_tokens else None

    def draw(self) -> Draw:
        """What the sampler needs to know for the next token."""
        mask = None if self.grammar is None else self.grammar.mask()
        return Draw(self.params, self.history, len(self.history) - len(self.prompt_ids), mask)

    def tokens(self, ids: Sequence[int], logprob: TokenLogprob | None, ends: bool) -> FinishReason | None:
        """Take the next tokens of the answer, of which only the first was sampled. A reason when a stop string or the loop
        guard ends it here.

        `ends`: the last one is the end-of-turn token, which is counted and has no text.
        """
        now = time.monotonic()
        if self.clock.first_token is None:
            self.clock.first_token = now
        self.clock.last_token = now
        ahead, self._ahead = self._ahead, ()
        self.history.extend(ids)
        given = [*ahead, *ids]
        for place, token_id in enumerate(given):
            self.num_output += 1
            self._pending_ids.append(token_id)
            if self.params.logprobs is not None:
                sampled = logprob if place == len(ahead) else None
                self._pending_logprobs.append(sampled or forced_logprob(token_id))
            if self._take(token_id, now, ends and place == len(given) - 1):
                return "stop_string"
            if self._guard is not None and self._guard.push(token_id) and not ends:
                return "looping"
        return None

    def _take(self, token_id: int, now: float, is_end: bool) -> bool:
        if self._text is None or is_end:
            if self._text is None:
                self._emit("answer", "", now)
            return False
        before = self._text.kind
        pieces, stopped = self._text.push(token_id)
        if before == "thinking" or self._text.kind == "thinking":
            self._num_thinking += 1
        for kind, text in pieces:
            self._emit(kind, text, now)
        return stopped

    def _emit(self, kind: TextKind, text: str, now: float) -> None:
        ids, logprobs = tuple(self._pending_ids), tuple(self._pending_logprobs)
        self._pending_ids.clear()
        self._pending_logprobs.clear()
        self.outbox.put(TextDelta(text, len(ids), now, kind, ids, logprobs))

    def _flush(self) -> bool:
        """Give out what is held back; True when a stop string shows in it."""
        now = time.monotonic()
        pieces, stopped = self._text.flush() if self._text is not None else ([], False)
        for kind, text in pieces:
            self._emit(kind, text, now)
        if self._pending_ids:
            self._emit(self._text.kind if self._text is not None else "answer", "", now)
        return stopped

    def finish(self, reason: FinishReason) -> None:
        """The last event: everything held back, then Finished. After a stop string nothing more is given out."""
        if reason == "stop_string":
            if self._pending_ids:
                self._emit("answer", "", time.monotonic())
        elif self._flush() and reason != "cancelled":
            reason = "stop_string"
        self.outbox.put(Finished(reason, self.usage()))

    def fail(self, message: str, kind: str) -> None:
        """The last event: what is held back, then the error. The text sent so far stays valid."""
        self._flush()
        self.outbox.put(Failed(message, kind, self.usage()))

    def usage(self) -> Usage:
        """What it has cost until now; rates as events.Usage defines them."""
        clock, now = self.clock, time.monotonic()
        queue_end = clock.started if clock.started is not None else now
        prefill_end = clock.first_token if clock.first_token is not None else now
        prefill = prefill_end - clock.started if clock.started is not None else 0.0
        decode = 0.0
        if clock.first_token is not None and clock.last_token is not None:
            decode = clock.last_token - clock.first_token
        computed = len(self.prompt_ids) - self.num_cached if clock.first_token is not None else 0
        return Usage(
            prompt_tokens=len(self.prompt_ids),
            cached_tokens=self.num_cached,
            completion_tokens=self.num_output,
            thinking_tokens=self._num_thinking,
            queue_seconds=queue_end - clock.submitted,
            prefill_seconds=prefill,
            decode_seconds=decode,
            prefill_tokens_per_s=computed / prefill if computed > 0 and prefill > 0 else None,
            decode_tokens_per_s=(self.num_output - 1) / decode
            if self.num_output > 1 and decode > 0
            else None,
            seed=self.params.seed,
        )
