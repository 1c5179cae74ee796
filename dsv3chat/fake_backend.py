"""A ChatBackend with scripted replies, for work on the interface and for tests without a model. Knows no engine object."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from engine import (
    EngineClosedError,
    EngineError,
    Event,
    Failed,
    Finished,
    LoadCancelledError,
    LoadProgress,
    Message,
    ModelInfo,
    PrefillProgress,
    Profile,
    Queued,
    RequestTooLargeError,
    SamplingParams,
    StepStats,
    SwitchPlan,
    TextDelta,
    Usage,
)

_TOKEN = re.compile(r"\s*\S{1,6}|\s+")
_PAGE_TOKENS = 16
_CHUNK_TOKENS = 256
FAKE_PROFILE = Profile(name="fake")


@dataclass(frozen=True, slots=True)
class Reply:
    """One scripted answer. A word of up to six characters counts as a token.

    `tokens_per_s` 0 sends the text as fast as it goes; `fail_after` tokens the stream ends with Failed(`fail_message`);
    `queue` positions are counted down, `prefill_s` seconds are spent in steps of 256 prompt tokens.
    """

    text: str
    thinking: str = ""
    tokens_per_s: float = 0.0
    prefill_s: float = 0.0
    queue: int = 0
    fail_after: int | None = None
    fail_message: str = "logits are not finite (step 12, layer 3)"


@dataclass(slots=True, eq=False)
class FakeStream:
    """A running scripted answer; see `dsv3chat.backend.Stream`."""

    reply: Reply
    prompt_tokens: int
    seed: int
    max_new_tokens: int
    on_step: Callable[[int, float | None], None] = lambda tokens, rate: None
    _events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def drain(self) -> list[Event]:
        """Every event since the last call."""
        found: list[Event] = []
        while True:
            try:
                found.append(self._events.get_nowait())
            except queue.Empty:
                return found

    def wait(self, timeout: float | None = None) -> list[Event]:
        """Like drain, but blocks until there is an event or `timeout` seconds have passed."""
        try:
            first = self._events.get(timeout=timeout)
        except queue.Empty:
            return []
        return [first, *self.drain()]

    def cancel(self) -> None:
        """Stop before the next token."""
        self._cancelled.set()

    def run(self) -> None:
        """Send the script; the body of the stream's thread."""
        put, reply, started = self._events.put, self.reply, time.monotonic()
        pause = 1.0 / reply.tokens_per_s if reply.tokens_per_s else 0.0
        for position in range(reply.queue, 0, -1):
            put(Queued(position))
            if self._cancelled.wait(0.05):
                break
        queued = time.monotonic() - started
        num_chunks = max(1, -(-self.prompt_tokens // _CHUNK_TOKENS))
        for chunk in range(num_chunks):
            if self._cancelled.wait(reply.prefill_s / num_chunks):
                break
            put(PrefillProgress(min(self.prompt_tokens, (chunk + 1) * _CHUNK_TOKENS), self.prompt_tokens, 0))
        prefill_end = time.monotonic()
        num_tokens = num_thinking = 0
        failed = limited = False
        next_at = prefill_end
        script: Iterable[tuple[str, str]] = [
            *(("thinking", t) for t in _TOKEN.findall(reply.thinking)),
            *(("answer", t) for t in _TOKEN.findall(reply.text)),
        ]
        for kind, text in script:
            next_at += pause
            if self._cancelled.wait(max(0.0, next_at - time.monotonic())):
                break
            if failed := num_tokens == reply.fail_after:
                break
            if limited := num_tokens >= self.max_new_tokens:
                break
            num_tokens += 1
            num_thinking += kind == "thinking"
            put(
                TextDelta(
                    text, 1, time.monotonic(), "thinking" if kind == "thinking" else "answer", (num_tokens,)
                )
            )
            self.on_step(self.prompt_tokens + num_tokens, reply.tokens_per_s or None)
        seconds = time.monotonic() - prefill_end
        usage = Usage(
            prompt_tokens=self.prompt_tokens,
            cached_tokens=0,
            completion_tokens=num_tokens,
            thinking_tokens=num_thinking,
            queue_seconds=queued,
            prefill_seconds=prefill_end - started - queued,
            decode_seconds=seconds,
            prefill_tokens_per_s=None,
            decode_tokens_per_s=(num_tokens - 1) / seconds if num_tokens > 1 and seconds else None,
            seed=self.seed,
        )
        self.on_step(0, None)
        if self._cancelled.is_set():
            put(Finished("cancelled", usage))
        elif failed:
            put(Failed(reply.fail_message, "GenerationError", usage))
        else:
            put(Finished("length" if limited else "stop", usage))


class FakeBackend:
    """Answers with `replies` in turn (the last one again and again), or with what `replies(messages)` returns."""

    def __init__(
        self,
        replies: Sequence[Reply] | Callable[[Sequence[Message]], Reply] = (Reply("Hello."),),
        *,
        context_tokens: int = 32_768,
        load_s: float = 0.0,
        load_error: Exception | None = None,
        profile: Profile = FAKE_PROFILE,
        switch_s: float = 0.0,
        switch_error: EngineError | None = None,
    ) -> None:
        self._replies = replies
        self._num_started = 0
        self._load_s = load_s
        self._load_error = load_error
        self.profile = profile
        self._switch_s = switch_s
        self._switch_error = switch_error
        self._load_cancelled = threading.Event()
        self._info: ModelInfo | None = None
        self._context_tokens = context_tokens
        self._streams: list[FakeStream] = []
        self._stats = StepStats(
            0, 0, 0, 0, context_tokens // _PAGE_TOKENS, _PAGE_TOKENS, 0, 0, 0, 0, None, None
        )
        self.prompts: list[list[Message]] = []  # what every start was given

    def load(self, on_progress: Callable[[LoadProgress], None]) -> ModelInfo:
        """Ten steps of made-up bytes in `load_s` seconds."""
        total = 10 << 20
        for step in range(10):
            on_progress(LoadProgress("reading weights", step << 20, total, f"layer {step + 1} of 10"))
            if self._load_cancelled.wait(self._load_s / 10):
                self._load_cancelled.clear()
                raise LoadCancelledError("the loading was stopped")
        if self._load_error is not None:
            raise self._load_error
        self._info = ModelInfo(
            name="scripted",
            path="",
            architecture="none",
            num_parameters=0,
            num_layers=0,
            context_tokens=self._context_tokens,
            profile_name=self.profile.name,
            max_new_tokens=1024,
        )
        return self._info

    def cancel_load(self) -> None:
        """Make `load` raise LoadCancelledError."""
        self._load_cancelled.set()

    @property
    def info(self) -> ModelInfo | None:
        """None before `load` returned."""
        return self._info

    def plan_switch(self, profile: Profile) -> SwitchPlan:
        """Made-up bytes: half of the weights stay."""
        return SwitchPlan(5 << 20, 5 << 20, 5 << 20, 1 << 20, free_first=False, keeps_cache=False)

    def switch(
        self,
        profile: Profile,
        on_progress: Callable[[LoadProgress], None],
        cancelled: Callable[[], bool],
    ) -> ModelInfo:
        """Ten steps of made-up bytes in `switch_s` seconds, then `switch_error` if there is one."""
        if self._info is None:
            raise EngineClosedError("nothing is loaded")
        for step in range(10):
            on_progress(LoadProgress("reading weights", step << 20, 10 << 20, f"layer {step + 1} of 10"))
            end = time.monotonic() + self._switch_s / 10
            while not cancelled() and (left := end - time.monotonic()) > 0:
                time.sleep(min(left, 0.02))
            if cancelled():
                raise LoadCancelledError("the switch was stopped")
        if self._switch_error is not None:
            raise self._switch_error
        self.profile = profile
        self._info = replace(self._info, profile_name=profile.name, max_new_tokens=profile.max_new_tokens)
        return self._info

    def start(self, messages: Sequence[Message], params: SamplingParams) -> FakeStream:
        """Begin the next scripted answer on a thread of its own. RequestTooLargeError beyond `context_tokens`."""
        prompt_tokens = self.count_tokens(messages)
        if prompt_tokens >= self._context_tokens:
            raise RequestTooLargeError(
                f"the prompt has {prompt_tokens} tokens, the context holds {self._context_tokens}; shorten it or start anew"
            )
        self.prompts.append(list(messages))
        if callable(self._replies):
            reply = self._replies(messages)
        else:
            reply = self._replies[min(self._num_started, len(self._replies) - 1)]
        self._num_started += 1
        room = self._context_tokens - prompt_tokens
        stream = FakeStream(
            reply, prompt_tokens, params.seed or 0, min(room, params.max_new_tokens or 1024), self._on_step
        )
        self._streams.append(stream)
        threading.Thread(target=stream.run, name="fake-answer", daemon=True).start()
        return stream

    def _on_step(self, kv_tokens: int, rate: float | None) -> None:
        pages = -(-kv_tokens // _PAGE_TOKENS)
        steps = self._stats.num_steps + 1
        total = self._context_tokens // _PAGE_TOKENS
        self._stats = StepStats(
            steps, int(kv_tokens > 0), 0, pages, total, _PAGE_TOKENS, 0, 0, 0, 0, rate, None
        )

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Four tokens of template a message."""
        return sum(4 + self.count_text_tokens(m.content) for m in messages)

    def count_text_tokens(self, text: str) -> int:
        """Words of up to six characters."""
        return len(_TOKEN.findall(text))

    def stats(self) -> StepStats | None:
        """The made-up cache of the latest token."""
        return self._stats

    def close(self) -> None:
        """Cancel every stream."""
        for stream in self._streams:
            stream.cancel()
