"""The engine thread: takes commands, plans a step, runs it, hands out what came of it.

Owns scheduler, runner and jobs; other threads reach it only through `submit`, `cancel`, `close` and `stats`. Knows no
widgets, no files and no templates.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeAlias

from engine.errors import EngineClosedError, GenerationError, RequestError
from engine.events import FinishReason, PrefillProgress, Queued, StepStats
from engine.runtime.job import Job
from engine.runtime.runner import Runner, StepResult
from engine.runtime.telemetry import Telemetry
from engine.scheduler.plan import Chunk, StepPlan
from engine.scheduler.request import Request
from engine.scheduler.scheduler import Scheduler

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Submit:
    job: Job
    request: Request


@dataclass(frozen=True, slots=True)
class _Cancel:
    request_id: int


@dataclass(frozen=True, slots=True)
class _Close:
    """The last command."""

    reason: str


_REASON: dict[str, FinishReason] = {
    "stop": "stop",
    "complete": "stop",
    "length": "length",
    "scored": "scored",
}

_Command: TypeAlias = _Submit | _Cancel | _Close


class EngineLoop:
    """One thread, one inbox. A step is: schedule, run, complete."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        base_stats: StepStats,
    ) -> None:
        """`base_stats` carries what does not change: page size, bytes."""
        self._scheduler = scheduler
        self._runner = runner
        self._telemetry = Telemetry()
        self._jobs: dict[int, Job] = {}
        self._ends: list[
            Callable[[], None]
        ] = []  # last events, told when `stats` no longer counts their requests
        self._inbox: SimpleQueue[_Command] = SimpleQueue()
        self._base_stats = base_stats
        self._snapshot = base_stats
        self._gate = threading.Lock()  # a command is either taken by the thread or refused, never lost
        self._closed_because: str | None = None
        self._thread = threading.Thread(target=self._main, name="dsv3chat-engine", daemon=True)

    def start(self) -> None:
        self._take_snapshot()
        self._thread.start()

    # ---- any thread

    def submit(self, job: Job, request: Request) -> None:
        """EngineClosedError with the reason when the engine does not run."""
        self._put(_Submit(job, request))

    def cancel(self, request_id: int) -> None:
        """Takes effect at the next step boundary; unknown and ended requests are left alone."""
        with self._gate:
            if self._closed_because is None:
                self._inbox.put(_Cancel(request_id))

    def close(self, reason: str = "the engine was closed") -> None:
        """End every request, then the thread. Returns when the running step is over. Idempotent."""
        try:
            self._put(_Close(reason))
        except EngineClosedError:
            pass
        else:
            with self._gate:
                self._closed_because = reason
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def stats(self) -> StepStats:
        """The latest step, with rates as of now."""
        decode, prefill = self._telemetry.rates()
        return replace(self._snapshot, decode_tokens_per_s=decode, prefill_tokens_per_s=prefill)

    def _put(self, command: _Command) -> None:
        with self._gate:
            if self._closed_because is not None:
                raise EngineClosedError(f"no request can be taken: {self._closed_because}")
            self._inbox.put(command)

    # ---- the engine thread

    def _main(self) -> None:
        try:
            while (closing := self._take_commands()) is None:
                self._step()
            self._end_all(closing)
        except Exception as error:
            log.exception("the engine thread broke")
            self._end_all(f"the engine broke: {type(error).__name__}: {error}")

    def _take_commands(self) -> str | None:
        """Take what waits in the inbox, blocking only when there is nothing to compute. A reason: close."""
        while True:
            idle = not self._jobs
            try:
                command = self._inbox.get(block=idle)
            except Empty:
                return None
            match command:
                case _Submit(job, request):
                    self._admit(job, request)
                case _Cancel(request_id):
                    if job_of := self._jobs.pop(request_id, None):
                        self._scheduler.cancel(request_id)
                        self._ends.append(partial(job_of.finish, "cancelled"))
                case _Close(reason):
                    return reason
            self._tell_ends()

    def _admit(self, job: Job, request: Request) -> None:
        if (reason := job.foregone) is not None:
            stopped = job.tokens((), None, ends=False)
            job.finish(stopped or reason)
            return
        try:
            self._scheduler.add(request)
        except RequestError as error:
            job.fail(str(error), type(error).__name__)
        else:
            self._jobs[job.request_id] = job

    def _step(self) -> None:
        """One step. The three verbs, and what they mean for the jobs."""
        started = time.monotonic()
        plan = self._scheduler.schedule()
        self._take_snapshot()  # the step itself may take seconds
        self._announce(plan, started)
        if not plan.chunks:
            raise AssertionError(f"{len(self._jobs)} requests and nothing to compute")
        result = self._runner.run(
            plan,
            {c.request_id: self._jobs[c.request_id].draw() for c in plan.chunks if c.samples},
            {c.request_id: self._jobs[c.request_id].prompt_ids for c in plan.chunks if c.scores},
            {
                c.request_id: hook
                for c in plan.chunks
                if (hook := self._jobs[c.request_id].on_rows) is not None
            },
        )
        decode = sum(len(c.token_ids) for c in plan.chunks if self._decodes(c))
        self._drop_broken(plan, result)
        self._complete(plan, result)
        self._telemetry.record(time.monotonic() - started, plan.num_tokens - decode, decode)
        self._tell_ends()

    def _tell_ends(self) -> None:
        self._take_snapshot()
        while self._ends:
            self._ends.pop(0)()

    def _announce(self, plan: StepPlan, now: float) -> None:
        for chunk in plan.chunks:
            job, request = self._jobs[chunk.request_id], self._scheduler.requests[chunk.request_id]
            if job.clock.started is None:
                job.clock.started = now
                job.num_cached = request.num_cached
            if len(chunk.token_ids) > 1 and not self._decodes(chunk):
                job.notice(PrefillProgress(chunk.start, len(job.history), request.num_cached))
        for position, request_id in enumerate(self._scheduler.waiting_ids):
            self._jobs[request_id].notice(Queued(position))

    def _decodes(self, chunk: Chunk) -> bool:
        """Whether the chunk is what the last step added to an answer: one token, or more where a grammar forced some."""
        return chunk.samples and chunk.start >= len(self._jobs[chunk.request_id].prompt_ids)

    def _drop_broken(self, plan: StepPlan, result: StepResult) -> None:
        for chunk in plan.chunks:
            where = result.broken.get(chunk.request_id)
            if where is None:
                continue
            self._scheduler.finish(chunk.request_id)
            message = (
                f"the logits at position {chunk.end - 1} (step {self._telemetry.num_steps}) are not finite; the first "
                f"values that are not came out of {where}. The weights or their precision are at fault: try another "
                "profile or check the checkpoint"
            )
            job = self._jobs.pop(chunk.request_id)
            self._ends.append(partial(job.fail, message, GenerationError.__name__))

    def _complete(self, plan: StepPlan, result: StepResult) -> None:
        starts = {chunk.request_id: chunk.start for chunk in plan.chunks}
        for request_id, (logprobs, argmax) in result.scores.items():
            job = self._jobs[request_id]
            at = starts[request_id]  # a preempted request begins again at 0
            job.score_logprobs[at:] = logprobs
            job.score_argmax[at:] = argmax
        forced, complete_ids = self._follow_grammars(result)
        for progress in self._scheduler.complete(plan, result.tokens, forced, complete_ids):
            job = self._jobs[progress.request_id]
            reason = progress.finish_reason
            stopped = None
            if progress.tokens:
                stopped = job.tokens(
                    progress.tokens, result.logprobs.get(progress.request_id), ends=reason == "stop"
                )
            if stopped and reason is None:
                self._scheduler.finish(progress.request_id)
            if stopped or reason is not None:
                del self._jobs[progress.request_id]
                self._ends.append(partial(job.finish, stopped or _REASON[reason or "stop"]))

    def _follow_grammars(self, result: StepResult) -> tuple[dict[int, tuple[int, ...]], set[int]]:
        """(the tokens that must follow each sampled one, the requests whose answers are complete with them)."""
        forced: dict[int, tuple[int, ...]] = {}
        complete_ids: set[int] = set()
        for request_id, token in result.tokens.items():
            grammar = self._jobs[request_id].grammar
            if grammar is None:
                continue
            forced[request_id] = grammar.push(token)
            if grammar.ended:
                complete_ids.add(request_id)
            elif grammar.error:
                self._scheduler.finish(request_id)
                message = f"the answer cannot go on in its grammar: {grammar.error}; simplify the schema"
                job = self._jobs.pop(request_id)
                self._ends.append(partial(job.fail, message, GenerationError.__name__))
        return forced, complete_ids

    def _end_all(self, reason: str) -> None:
        with self._gate:
            self._closed_because = reason
        for request_id, job in self._jobs.items():
            self._scheduler.cancel(request_id)
            self._ends.append(partial(job.fail, reason, EngineClosedError.__name__))
        self._jobs.clear()
        self._tell_ends()
        del self._runner  # a Generation may outlive its loop; the weights and the cache must not
        while True:
            try:
                command = self._inbox.get_nowait()
            except Empty:
                break
            if isinstance(command, _Submit):
                command.job.fail(reason, EngineClosedError.__name__)

    def _take_snapshot(self) -> None:
        scheduler = self._scheduler
        self._snapshot = replace(
            self._base_stats,
            num_steps=self._telemetry.num_steps,
            num_running=scheduler.num_running,
            num_waiting=scheduler.num_waiting,
            kv_pages_used=scheduler.num_pages_used,
            kv_pages_reusable=scheduler.num_pages_reusable,
            prefix_hit_tokens=scheduler.prefix_hit_tokens,
            prefix_query_tokens=scheduler.prefix_query_tokens,
            num_preemptions=scheduler.num_preemptions,
            step_seconds=self._telemetry.last_seconds,
        )
