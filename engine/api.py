"""The engine as a front end uses it: open a model, submit requests, read events, close. Wiring only.

with Engine.open("nano", read_profile(find_profile("nano-cpu"))) as engine:
    for event in engine.submit([Message("user", "Hello")]):
        ...
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Self

import torch

from engine.errors import CheckpointError, EngineError, GrammarError, PromptError, UnsupportedModelError
from engine.events import (
    Event,
    Failed,
    Finished,
    LoadProgress,
    Message,
    ModelInfo,
    Score,
    StepStats,
    SwitchPlan,
)
from engine.profile import Profile
from engine.runtime.assembly import Running, assemble, check_memory, design
from engine.runtime.defaults import checkpoint_sampling, resolve
from engine.runtime.job import AnswerText, Job
from engine.runtime.loop import EngineLoop
from engine.runtime.runner import OnRows
from engine.runtime.switching import plan_switch, switch
from engine.sampling import JsonSchema, ResolvedSampling, SamplingParams
from engine.scheduler.request import Request
from engine.text.stop import StopFinder
from engine.text.tokenizer import Tokenizer
from engine.weights.checkpoint import Checkpoint
from engine.weights.locate import find_model
from engine.weights.requantized import requantized_notes

if TYPE_CHECKING:
    from engine.text.grammar import AnswerGrammar, Grammars

_NO_SAMPLING = ResolvedSampling(1, 0.0, 0, 1.0, 0.0, 1.0, 0, (), None, True)


class Generation:
    """A running answer. Every method may be called from any thread; each event goes to one reader."""

    def __init__(self, job: Job, loop: EngineLoop, prompt_ids: Sequence[int]) -> None:
        self._job = job
        self._loop = loop
        self._ended = False
        self._reading = Lock()  # held while one waits: nobody waits for an end that another has taken
        self.prompt_ids = tuple(prompt_ids)

    def drain(self) -> list[Event]:
        """Every event since the last call, in order, without blocking; the last of all is Finished or Failed.

        Nothing while another thread waits: the events go to it.
        """
        if not self._reading.acquire(blocking=False):
            return []
        try:
            return self._take()
        finally:
            self._reading.release()

    def _take(self) -> list[Event]:
        events: list[Event] = []
        while True:
            try:
                events.append(self._job.outbox.get_nowait())
            except Empty:
                break
        self._ended |= any(isinstance(event, Finished | Failed) for event in events)
        return events

    def wait(self, timeout: float | None = None) -> list[Event]:
        """Like drain, but blocks until at least one event is there or `timeout` seconds have passed."""
        if not self._reading.acquire(timeout=-1 if timeout is None else timeout):
            return []
        try:
            if self._ended:
                return []
            first = self._job.outbox.get(timeout=timeout)
            self._ended |= isinstance(first, Finished | Failed)
            return [first, *self._take()]
        except Empty:
            return []
        finally:
            self._reading.release()

    def __iter__(self) -> Iterator[Event]:
        """Events as they come, up to and with the last."""
        while not self._ended:
            yield from self.wait()

    def cancel(self) -> None:
        """Stop at the next step; the text so far stays. Idempotent."""
        self._loop.cancel(self._job.request_id)


class Engine:
    """A loaded model and the thread that runs it. Made by `Engine.open`."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: Tokenizer | EngineError, running: Running) -> None:
        self._checkpoint = checkpoint
        self._tokenizer_or_error = tokenizer
        self._running = running
        self._switching = Lock()
        self._request_ids = itertools.count(1)
        self._grammars: Grammars | None = None
        self._grammars_lock = Lock()
        self.info = self._describe(running)

    @classmethod
    def open(
        cls,
        model: str | Path,
        profile: Profile | None = None,
        *,
        on_progress: Callable[[LoadProgress], None] = lambda progress: None,
        cancelled: Callable[[], bool] = lambda: False,
        needs_text: bool = False,
    ) -> Self:
        """Load `model` (a folder, a built model's name or a cached hub id) as `profile` says; blocks until it can answer.

        Without a profile: native weights, float32 arithmetic. A checkpoint without a usable tokenizer takes ids only; with
        `needs_text` it is refused before its weights are read. Raises ModelError, PlacementError, LoadCancelledError.
        """
        on_progress(LoadProgress("reading the checkpoint's index"))
        checkpoint = Checkpoint.open(find_model(str(model)))
        designed = design(checkpoint, profile if profile is not None else Profile())
        check_memory(designed)
        tokenizer = _open_tokenizer(checkpoint.path)
        if needs_text and isinstance(tokenizer, EngineError):
            raise tokenizer
        max_ids = _max_token_ids(checkpoint, tokenizer)
        return cls(checkpoint, tokenizer, assemble(checkpoint, designed, max_ids, on_progress, cancelled))

    @property
    def profile(self) -> Profile:
        """The profile that runs."""
        return self._running.design.profile

    def plan_switch(self, profile: Profile) -> SwitchPlan:
        """What `switch` would keep, read and free. PlacementError with the reason when it would be refused.

        Reads no weights; DeepSeek-V3's 45,000 tensors take about a second.
        """
        return plan_switch(self._checkpoint, self._running, design(self._checkpoint, profile))

    def switch(
        self,
        profile: Profile,
        on_progress: Callable[[LoadProgress], None] = lambda progress: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> ModelInfo:
        """Run the same model under another profile; blocks. Requests that still run fail; weights that stay are kept.

        Raises PlacementError (refused: nothing was begun), CheckpointError, LoadCancelledError; the former profile runs on
        or again then, except after EngineClosedError. Another thread's switch is waited for.
        """
        with self._switching:
            wanted = design(self._checkpoint, profile)
            self._running, failure = switch(
                self._checkpoint,
                self._running,
                wanted,
                _max_token_ids(self._checkpoint, self._tokenizer_or_error),
                on_progress,
                cancelled,
            )
            self.info = self._describe(self._running)
        if failure is not None:
            raise failure
        return self.info

    def _describe(self, running: Running) -> ModelInfo:
        checkpoint, config, profile = self._checkpoint, self._checkpoint.config, running.design.profile
        notes = [*checkpoint.notes, *requantized_notes(checkpoint, running.design.placement)]
        notes += checkpoint_sampling(checkpoint.generation_config)[1]
        if running.kernel_note:
            notes.append(running.kernel_note)
        if isinstance(self._tokenizer_or_error, EngineError):
            notes.append(str(self._tokenizer_or_error))
        return ModelInfo(
            name=str(config.metadata.get("name") or checkpoint.name),
            path=str(checkpoint.path),
            architecture="DeepseekV3ForCausalLM",
            num_parameters=checkpoint.num_parameters,
            num_layers=config.num_hidden_layers,
            context_tokens=running.context_tokens,
            profile_name=profile.name,
            max_new_tokens=profile.max_new_tokens,
            attention_bits=running.design.attention_bits,
            notes=tuple(notes),
            metadata=config.metadata,
        )

    def submit(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams | None = None
    ) -> Generation:
        """Begin an answer to `prompt`: messages, which go through the checkpoint's template, or token ids as they are.

        RequestTooLargeError at once when it can never fit; PromptError when the template refuses; GrammarError for a schema
        that cannot be a grammar; EngineClosedError. The first grammar reads the vocabulary, up to a second.
        """
        params = params if params is not None else SamplingParams()
        running = self._running
        profile = running.design.profile
        ids = self._prompt_ids(prompt)
        resolved = resolve(
            params,
            profile.sampling,
            self._checkpoint.generation_config,
            profile.max_new_tokens,
            running.context_tokens - len(ids),
            profile.loop_guard,
        )
        stop_ids = frozenset() if resolved.ignore_eos else frozenset(self._checkpoint.config.eos_token_ids)
        text = self._answer_text(ids, resolved)
        grammar: AnswerGrammar | None = None
        forced_ids: tuple[int, ...] = ()
        if params.begins_with:
            forced_ids = tuple(self._tokenizer.encode_text(params.begins_with))
        if params.grammar is not None:
            grammar, forced_ids = self._begin(params.grammar, text is not None and text.kind == "thinking")
        job = Job(next(self._request_ids), ids, resolved, text, grammar, forced_ids)
        request = Request(job.request_id, ids, resolved.max_new_tokens, stop_ids, forced_ids=job.forced_ids)
        return _start(running, job, request)

    def _begin(self, schema: JsonSchema, thinking: bool) -> tuple[AnswerGrammar, tuple[int, ...]]:
        """The grammar of a new answer, and the tokens with which it makes the answer begin."""
        from engine.text.grammar import Grammars  # llguidance: a chat without a grammar does not load it

        with self._grammars_lock:
            if self._grammars is None:
                config, tokenizer = self._checkpoint.config, self._tokenizer
                num_ids = min(config.vocab_size, tokenizer.num_ids)
                self._grammars = Grammars(tokenizer, config.eos_token_ids, num_ids)
        grammar = self._grammars.start(schema, thinking)
        forced_ids = grammar.begin()
        if grammar.error:
            raise GrammarError(f"the JSON Schema cannot be used as a grammar: {grammar.error}")
        return grammar, forced_ids

    def score(self, ids: Sequence[int], on_rows: OnRows | None = None) -> Score:
        """Log-probabilities of `ids` under the model; blocks. The generation config and sampling play no part.

        `on_rows(start, logits)` is called on the engine's thread for each chunk of positions; a request that was preempted
        begins again at 0. What it raises, `score` raises.
        """
        started = time.monotonic()
        ids = self._checked_ids(ids)
        request = Request(next(self._request_ids), ids, 0, frozenset(), score=True)
        raised: list[Exception] = []
        job = Job(
            request.request_id, ids, _NO_SAMPLING, None, on_rows=on_rows and _kept_quiet(on_rows, raised)
        )
        last = list(_start(self._running, job, request))[-1]
        if raised:
            raise raised[0]
        if isinstance(last, Failed):
            raise EngineError(last.message)
        logprobs = tuple(job.score_logprobs)
        mean = sum(logprobs) / len(logprobs) if logprobs else 0.0
        return Score(len(ids), logprobs, tuple(job.score_argmax), math.exp(-mean), time.monotonic() - started)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt these messages become, template included."""
        return len(self._tokenizer.encode_chat(messages))

    def count_text_tokens(self, text: str) -> int:
        """Tokens of a bare text."""
        return len(self._tokenizer.encode_text(text))

    def stats(self) -> StepStats:
        """The latest step."""
        return self._running.loop.stats()

    def close(self) -> None:
        """Fail what still runs, end the thread. Idempotent."""
        with self._switching:
            self._running.close("the engine was closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _tokenizer(self) -> Tokenizer:
        if isinstance(self._tokenizer_or_error, EngineError):
            raise self._tokenizer_or_error
        return self._tokenizer_or_error

    def _prompt_ids(self, prompt: Sequence[Message] | Sequence[int]) -> tuple[int, ...]:
        if isinstance(prompt, str | bytes):
            raise PromptError('a prompt is messages or token ids, this is text: [Message("user", text)]')
        messages = [part for part in prompt if isinstance(part, Message)]
        if messages and len(messages) == len(prompt):
            return tuple(self._tokenizer.encode_chat(messages))
        if messages:
            raise PromptError("a prompt is either messages or token ids; this one mixes both")
        return self._checked_ids([part for part in prompt if not isinstance(part, Message)])

    def _checked_ids(self, ids: Sequence[int]) -> tuple[int, ...]:
        size = self._checkpoint.config.vocab_size
        for position, token in enumerate(ids):
            if type(token) is not int or not 0 <= token < size:
                raise PromptError(
                    f"token id {token!r} at position {position}: the model knows whole numbers 0 to {size - 1}"
                )
        return tuple(ids)

    def _answer_text(self, prompt_ids: Sequence[int], params: ResolvedSampling) -> AnswerText | None:
        """None without a tokenizer: a prompt of ids then gets its answer as ids."""
        if isinstance(self._tokenizer_or_error, EngineError):
            return None
        tokenizer = self._tokenizer_or_error
        return AnswerText(
            tokenizer.detokenizer(), tokenizer.thinking_splitter(prompt_ids), StopFinder(params.stop)
        )


def _kept_quiet(on_rows: OnRows, raised: list[Exception]) -> OnRows:
    """`on_rows`, whose first error goes to `raised` and ends the calls: it must not break the engine's thread."""

    def rows(start: int, logits: torch.Tensor) -> None:
        if not raised:
            try:
                on_rows(start, logits)
            except Exception as error:
                raised.append(error)

    return rows


def _start(running: Running, job: Job, request: Request) -> Generation:
    running.scheduler.check_fits(request)  # constants only, so any thread may ask
    running.loop.submit(job, request)
    return Generation(job, running.loop, job.prompt_ids)


def _open_tokenizer(folder: Path) -> Tokenizer | EngineError:
    """A checkpoint without a usable tokenizer can still be scored and fed with ids; messages then raise this error."""
    try:
        return Tokenizer.open(folder)
    except (CheckpointError, UnsupportedModelError) as error:
        return error


def _max_token_ids(checkpoint: Checkpoint, tokenizer: Tokenizer | EngineError) -> int:
    """Ids from here on have no text and are never sampled."""
    known = tokenizer.num_ids if isinstance(tokenizer, Tokenizer) else checkpoint.config.vocab_size
    return min(checkpoint.config.vocab_size, known)
