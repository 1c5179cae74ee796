"""Questions to answers: from the cache, else from the model, which is loaded when it is first needed.

Knows neither protocols nor findings. May be used from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from dsv3chat.backend import ChatBackend, Stream
from dsv3chat.review.cache import ReviewCache
from dsv3chat.review.question import Answer, Choice, Question
from engine import (
    EngineClosedError,
    EngineError,
    Failed,
    Finished,
    JsonSchema,
    LoadCancelledError,
    LoadProgress,
    PrefillProgress,
    SamplingParams,
    TextDelta,
)


class NotCachedError(Exception):
    """The cache does not know the answer."""


class StoppedError(Exception):
    """The review was stopped before the answer was complete."""


class AnswerFailedError(Exception):
    """The model gave no answer to this question, others may fare better. The message is the engine's own."""


class ModelGoneError(Exception):
    """The model did not load or broke: no question gets an answer any more. Its cause is the engine's error."""


class Watcher(Protocol):
    """Told, on the asking thread, how far an answer is."""

    def asked(self) -> None:
        """The model is loaded and has the question."""

    def prefilled(self, tokens: int) -> None:
        """So many tokens of the prompt are computed or reused."""

    def answering(self) -> None:
        """The first token is there: the whole prompt is."""


@dataclass(slots=True)
class Asker:
    """Asks a backend. `identity` is of model, profile and protocol: answers of another one are not taken."""

    backend: ChatBackend
    cache: ReviewCache | None
    identity: str
    on_load: Callable[[LoadProgress], None]
    prompt_tokens: int = 0  # of the answers that the model gave, until now
    reused_tokens: int = 0  # of these, served by the prefix cache
    completion_tokens: int = 0
    _streams: dict[int, Stream] = field(default_factory=dict)  # by id: a stream need not be hashable
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _loading: threading.Lock = field(default_factory=threading.Lock)
    _is_loading: bool = False
    _stopped: bool = False

    def recall(self, question: Question) -> Answer:
        """The answer that the cache has. NotCachedError."""
        answer = None if self.cache is None else self.cache.answer(question.key(self.identity))
        if answer is None:
            raise NotCachedError
        return answer

    def ask(self, question: Question, watcher: Watcher) -> Answer:
        """The cache's answer, else the model's. StoppedError, AnswerFailedError, ModelGoneError."""
        try:
            return self.recall(question)
        except NotCachedError:
            answer = self._generate(question, watcher)
        with self._lock:
            self.prompt_tokens += answer.prompt_tokens
            self.reused_tokens += answer.cached_tokens
            self.completion_tokens += answer.completion_tokens
        return answer

    def keep(self, question: Question, answer: Answer) -> None:
        """Let the cache have an answer, for this review and later ones."""
        if self.cache is not None:
            self.cache.keep(question.key(self.identity), answer)

    def stop(self) -> None:
        """Every answer that runs, and every later question, ends with StoppedError; a loading is stopped. Idempotent."""
        with self._lock:
            self._stopped = True
            streams = list(self._streams.values())
            loading = self._is_loading
        for stream in streams:
            stream.cancel()
        if loading:
            self.backend.cancel_load()

    def load(self) -> None:
        """Load the model unless it is loaded. StoppedError, ModelGoneError."""
        with self._loading:
            if self.backend.info is not None:
                return
            with self._lock:
                if self._stopped:
                    raise StoppedError
                self._is_loading = True
            try:
                self.backend.load(self.on_load)
            except EngineError as error:
                if self._stopped and isinstance(error, LoadCancelledError):
                    raise StoppedError from error
                raise ModelGoneError(str(error)) from error
            finally:
                self._is_loading = False

    def _generate(self, question: Question, watcher: Watcher) -> Answer:
        self.load()
        params = SamplingParams(
            max_new_tokens=question.max_tokens,
            temperature=question.temperature,
            top_k=0,
            top_p=1.0,
            min_p=0.0,
            repetition_penalty=1.0,
            seed=question.seed,
            logprobs=0,
            grammar=JsonSchema(question.schema),
        )
        with self._lock:
            if self._stopped:
                raise StoppedError
            try:
                stream = self.backend.start(question.messages, params)
            except EngineClosedError as error:
                raise ModelGoneError(str(error)) from error
            except EngineError as error:
                raise AnswerFailedError(str(error)) from error
            self._streams[id(stream)] = stream
        watcher.asked()
        try:
            return self._read(stream, watcher)
        finally:
            with self._lock:
                del self._streams[id(stream)]

    def _read(self, stream: Stream, watcher: Watcher) -> Answer:
        draft = _Draft()
        while True:
            for event in stream.wait(1.0):
                match event:
                    case PrefillProgress():
                        watcher.prefilled(event.done)
                    case TextDelta():
                        if draft.is_empty:
                            watcher.answering()
                        draft.add(event)
                    case Failed() if event.kind == EngineClosedError.__name__:
                        raise ModelGoneError(event.message)
                    case Failed():
                        raise AnswerFailedError(event.message)
                    case Finished():
                        if event.reason == "cancelled":
                            raise StoppedError
                        return draft.answer(event)
                    case _:
                        pass


class _Draft:
    """An answer that comes in. Thinking is no part of it."""

    def __init__(self) -> None:
        self.is_empty = True
        self._text = ""
        self._choices: list[Choice] = []
        self._has_logprobs = False

    def add(self, delta: TextDelta) -> None:
        self.is_empty = False
        if delta.kind != "answer":
            return
        start, end = len(self._text), len(self._text) + len(delta.text)
        self._text += delta.text
        self._has_logprobs |= bool(delta.logprobs)
        self._choices += [Choice(start, end, token.logprob) for token in delta.logprobs if not token.forced]

    def answer(self, finished: Finished) -> Answer:
        usage = finished.usage
        return Answer(
            text=self._text,
            ending=finished.reason,
            choices=tuple(self._choices) if self._has_logprobs else None,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
        )
