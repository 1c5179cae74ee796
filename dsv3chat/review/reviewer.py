"""A review from its scope to its report: one object that the command and the screen share. Knows no format and no widget.

    model = describe_model(name, profile)              what is known of it without loading it
    protocol = choose_protocol(None, model)
    review = Review(scope, EngineBackend(name, profile), protocol, options, model=model)
    review.plan                                        files, chunks, tokens, what the cache answers; nothing is loaded
    for event in review.events():                      loads the model only when something is pending
        ...

Each chunk's answers go into the cache as the chunk ends. So a stop or a kill loses nothing that was finished, and the next
review, of whatever scope, asks only what is new. `ReviewOptions.resume` adds one thing: it asks for a review of the same
scope, protocol and model that has not ended completely, and refuses to begin where there is none.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator

from dsv3chat.backend import ChatBackend
from dsv3chat.review.ask import Asker, ModelGoneError, NotCachedError
from dsv3chat.review.baseline import Baseline
from dsv3chat.review.cache import ReviewCache
from dsv3chat.review.crew import Begun, Broken, Crew, Done
from dsv3chat.review.inspection import Inspector, Result
from dsv3chat.review.model import ReviewedModel
from dsv3chat.review.pace import Pace
from dsv3chat.review.plan import Plan, Splitter, Task, make_plan, splitter
from dsv3chat.review.protocol import ReviewProtocol
from dsv3chat.review.second_look import VERIFY_FROM_PARAMETERS
from dsv3chat.review.tally import Tally
from dsv3chat.review.values import (
    ChunkDone,
    FileDone,
    FileStarted,
    FindingFound,
    Report,
    ReviewEvent,
    ReviewFinished,
    ReviewOptions,
    ReviewStarted,
    Scope,
)
from engine import EngineError, LoadProgress, Message

DEFAULTS = ReviewOptions()
_MIN_RATE_TOKENS = 500  # a review of less says little about the speed of the next one, more than nothing
NO_CONFIDENCE = (
    "the backend gives no probabilities: every confidence is 1, and --min-confidence drops nothing"
)


class NothingToResumeError(Exception):
    """`resume` was asked for, and no review of this scope, protocol and model is unfinished."""


class Review:
    """`events` once, on any thread; everything else at any time, from any thread."""

    def __init__(
        self,
        scope: Scope,
        backend: ChatBackend,
        protocol: ReviewProtocol,
        options: ReviewOptions = DEFAULTS,
        *,
        model: ReviewedModel,
        split: Splitter | None = None,
        baseline: Baseline | None = None,
        cache: ReviewCache | None = None,
        on_load: Callable[[LoadProgress], None] = lambda progress: None,
    ) -> None:
        """`split` cuts a file into chunks (None: plan.splitter's, within the protocol's limits); without a cache nothing
        is remembered. `on_load` is called on a thread of the review. NothingToResumeError.
        """
        self.scope = scope
        self.protocol = protocol
        self.model = model
        self.report: Report | None = None  # until ReviewFinished
        self._backend = backend
        self._options = options
        self._baseline = baseline if baseline is not None else Baseline()
        self._cache = cache
        self._split = split if split is not None else splitter(protocol, model)
        self._identity = f"{model.digest} {protocol.name} {protocol.version}"
        self._rate_key = f"{model.digest} {model.profile}"
        self._review_key = _key(scope, self._identity)
        self._asker = Asker(backend, cache, self._identity, on_load)
        self._inspector = _inspector(protocol, options, model)
        self._lock = threading.Lock()
        self._planning = threading.Lock()
        self._plan: Plan | None = None
        self._stopped = False
        self._crew: Crew | None = None
        self._pace: Pace | None = None
        if options.resume and not (cache is not None and cache.is_unfinished(self._review_key)):
            raise NothingToResumeError(
                f"there is nothing to resume: no review of {scope.description} with {model.name} is unfinished; begin one "
                "without --resume (what the cache knows is not asked again)"
            )

    @property
    def plan(self) -> Plan:
        """Cuts the files and asks the cache, at the first use; loads no model."""
        with self._planning:
            if self._plan is None:
                self._plan = make_plan(
                    self.scope,
                    self._inspector,
                    self.model,
                    self._split,
                    self._recall,
                    self._options.max_prompt_tokens,
                    self._known_rate,
                )
            return self._plan

    def events(self) -> Iterator[ReviewEvent]:
        """Reviews; ReviewStarted is the first event, ReviewFinished the last, after `stop` too.

        EngineError when the model does not load. A model that breaks later ends the review: what is not done has failed,
        in the engine's words. Who stops iterating stops the review.
        """
        started = time.monotonic()
        plan = self.plan
        tally = Tally(plan, self._baseline)
        self._pace = Pace(plan.pending_tokens, self._known_rate)
        if self._cache is not None:
            self._cache.begin(self._review_key)
        yield ReviewStarted(
            self.scope.description,
            len(plan.files) + len(self.scope.failed),
            plan.num_chunks,
            plan.prompt_tokens,
            plan.skipped,
            self.seconds_left(),
        )
        for failed in self.scope.failed:
            yield FileStarted(failed.path, 0)
            yield FileDone(failed.path, "failed", 0, failed.reason)
        begun: set[str] = set()
        for file in plan.files:
            if tally.is_done(file.path):  # without a chunk: empty, or beyond the budget
                yield FileStarted(file.path, 0)
                yield self._file_done(tally, file.path)
        for task, result in plan.cached:
            if self._stopped:
                break
            yield from self._begin(tally, task, begun)
            yield from self._take(tally, task, result)
        notes: list[str] = []
        if plan.pending and not self._stopped:
            yield from self._ask_model(tally, begun, notes)
        for path in sorted(begun):
            if not tally.is_done(path):
                yield self._file_done(tally, path)
        yield ReviewFinished(self._finish(tally, notes, time.monotonic() - started))

    def stop(self) -> None:
        """End soon, with what there is: the report says interrupted. Returns at once; idempotent."""
        with self._lock:
            self._stopped = True
            crew = self._crew
        if crew is not None:
            crew.stop()

    def seconds_left(self) -> float | None:
        """The time until the end, from tokens and measured speed; None while nothing is known. Never waits."""
        if self._pace is not None:
            return self._pace.seconds_left()
        return None if self._plan is None else self._plan.seconds

    @property
    def _known_rate(self) -> float | None:
        return None if self._cache is None else self._cache.rate(self._rate_key)

    def _recall(self, task: Task) -> Result | None:
        """What the cache makes of a task; None where it lacks an answer."""
        if self._cache is None:
            return None
        try:
            return self._inspector.inspect(task.chunk, self._asker.recall)
        except NotCachedError:
            return None

    def _ask_model(self, tally: Tally, begun: set[str], notes: list[str]) -> Iterator[ReviewEvent]:
        assert self._pace is not None
        prefix = self.model.count_prompt([Message("system", self.protocol.system_prompt)])
        crew = Crew(
            self.plan.pending, self._inspector, self._asker, self._pace, self.model.concurrency, prefix
        )
        with self._lock:
            self._crew = crew
            if self._stopped:
                return
        try:
            for outcome in crew.outcomes():
                match outcome:
                    case Begun(task):
                        yield from self._begin(tally, task, begun)
                    case Done(task, result):
                        yield from self._take(tally, task, result)
                    case Broken(ModelGoneError() as gone):
                        crew.stop()
                        if self._backend.info is None and isinstance(gone.__cause__, EngineError):
                            raise gone.__cause__
                        notes[:] = [str(gone)]
                    case Broken(error):
                        raise error
        finally:
            crew.stop()
        for path in tally.fail_rest(notes[0]) if notes else ():
            yield self._file_done(tally, path)

    def _begin(self, tally: Tally, task: Task, begun: set[str]) -> Iterator[ReviewEvent]:
        path = task.file.path
        if path not in begun:
            begun.add(path)
            yield FileStarted(path, tally.num_chunks(path))

    def _take(self, tally: Tally, task: Task, result: Result) -> Iterator[ReviewEvent]:
        for finding in tally.add(task, result):
            yield FindingFound(finding)
        yield ChunkDone(task.file.path, tally.num_done, self.plan.num_chunks, self.seconds_left())
        if tally.is_done(task.file.path):
            yield self._file_done(tally, task.file.path)

    def _file_done(self, tally: Tally, path: str) -> FileDone:
        return FileDone(
            path, tally.status(path), tally.num_findings(path), tally.reason(path), tally.from_cache(path)
        )

    def _finish(self, tally: Tally, notes: list[str], seconds: float) -> Report:
        cache, asker = self._cache, self._asker
        rate = self._pace.rate() if self._pace is not None else None
        says_much = asker.prompt_tokens >= _MIN_RATE_TOKENS or self._known_rate is None
        if cache is not None and rate is not None and says_much:
            cache.keep_rate(self._rate_key, rate)
        if tally.without_confidence:
            notes.append(NO_CONFIDENCE)
        base = Report(
            description=self.scope.description,
            root=self.scope.root,
            model=self.model.name,
            profile=self.model.profile,
            protocol=self.protocol.name,
            findings=(),
            reviewed=(),
            skipped=self.plan.skipped,
            failed=self.scope.failed,
            num_chunks=self.plan.num_chunks,
            cached_chunks=len(self.plan.cached),
            prompt_tokens=asker.prompt_tokens,
            reused_tokens=asker.reused_tokens,
            completion_tokens=asker.completion_tokens,
            seconds=seconds,
        )
        report = tally.report(base, self._options.max_findings, self._stopped, tuple(notes))
        if cache is not None and report.complete:
            cache.end(self._review_key)
        self.report = report
        return report


def _inspector(protocol: ReviewProtocol, options: ReviewOptions, model: ReviewedModel) -> Inspector:
    verify = options.verify
    if verify is None:
        verify = model.num_parameters is not None and model.num_parameters >= VERIFY_FROM_PARAMETERS
    chosen = options.min_confidence
    return Inspector(
        protocol=protocol,
        min_confidence=protocol.min_confidence if chosen is None else chosen,
        passes=options.passes,
        verify=verify,
        seed=options.seed or 0,
        context_findings=options.context_findings,
    )


def _key(scope: Scope, identity: str) -> str:
    """The identity of a review that can be resumed: the same scope, model and protocol, whatever the files hold now."""
    parts = [str(scope.root.absolute()), scope.description, identity]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
