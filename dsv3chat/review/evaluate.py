"""Runs a model over labelled chunks, by the very questions, grammar and confidence of a review. Knows no command line.

    labelled = read_labelled(file, protocol)
    evaluation = evaluate(labelled, backend, protocol, ReviewOptions(), model=describe_model(name, profile))
    evaluation.to_json()

No answer is taken from the review cache: the figures are of this run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager

from dsv3chat.backend import ChatBackend
from dsv3chat.review.answer import NoAnswerError, read_answer
from dsv3chat.review.ask import AnswerFailedError, Asker, ModelGoneError
from dsv3chat.review.evaluation import Evaluation
from dsv3chat.review.inspection import Inspector
from dsv3chat.review.labelled import LabelledChunk
from dsv3chat.review.model import ReviewedModel
from dsv3chat.review.protocol import ReviewProtocol
from dsv3chat.review.scores import Outcome
from dsv3chat.review.values import ReviewOptions
from engine import EngineError, LoadProgress


class EvaluationError(EngineError):
    """A chunk got no answer, so there are no figures; the message names its line in the file."""


class _Unwatched:
    """Nobody looks at how far an answer is: progress is told by the chunk."""

    def asked(self) -> None:
        pass

    def prefilled(self, tokens: int) -> None:
        pass

    def answering(self) -> None:
        pass


def evaluate(
    labelled: Sequence[LabelledChunk],
    backend: ChatBackend,
    protocol: ReviewProtocol,
    options: ReviewOptions,
    *,
    model: ReviewedModel,
    on_load: Callable[[LoadProgress], None] = lambda progress: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Ask about every chunk, `model.concurrency` at a time; blocks. `on_progress` is told (answered, all) on this thread.

    Of the options min_confidence, passes, verify (None: no second look) and seed are used. The model is loaded first, which
    is not timed. Findings below min_confidence are kept too, for other thresholds, and so get a second look with `verify`.
    Raises what loading raises, EvaluationError, and what `on_progress` raises: every running answer is then stopped.
    """
    inspector = Inspector(
        protocol, 0.0, passes=options.passes, verify=bool(options.verify), seed=options.seed or 0
    )
    asker = Asker(backend, None, "", on_load)
    with _engine_errors():
        asker.load()
    started = time.monotonic()
    outcomes: dict[int, Outcome] = {}
    with ThreadPoolExecutor(max(1, model.concurrency), thread_name_prefix="evaluate") as pool:
        try:
            running = {pool.submit(_outcome, one, inspector, asker): i for i, one in enumerate(labelled)}
            for future in as_completed(running):
                with _engine_errors():
                    outcomes[running[future]] = future.result()
                on_progress(len(outcomes), len(labelled))
        finally:
            asker.stop()
            pool.shutdown(cancel_futures=True)
    return Evaluation(
        model=model.name,
        profile=model.profile,
        protocol=protocol.name,
        min_confidence=protocol.min_confidence if options.min_confidence is None else options.min_confidence,
        outcomes=tuple(outcomes[i] for i in range(len(labelled))),
        prompt_tokens=asker.prompt_tokens,
        reused_tokens=asker.reused_tokens,
        completion_tokens=asker.completion_tokens,
        seconds=time.monotonic() - started,
    )


def _outcome(labelled: LabelledChunk, inspector: Inspector, asker: Asker) -> Outcome:
    chunk = labelled.chunk
    try:
        result = inspector.inspect(chunk, lambda question: asker.ask(question, _Unwatched()))
    except AnswerFailedError as error:
        where = f"line {labelled.source_line} of the labelled file ({chunk.path}:{chunk.start})"
        raise EvaluationError(f"{where} got no answer: {error}") from error
    _, first = result.answers[0]
    try:
        read_answer(first.text, inspector.protocol, chunk)
        valid = True
    except NoAnswerError:
        valid = False
    found = {(sure.candidate.line, sure.candidate.rule): sure.confidence for sure in result.findings}
    return Outcome(labelled, found, valid, dict(result.dropped))


@contextmanager
def _engine_errors() -> Iterator[None]:
    """What broke the model is the engine's error, and is raised as that."""
    try:
        yield
    except ModelGoneError as error:
        cause = error.__cause__
        raise (cause if isinstance(cause, EngineError) else EngineError(str(error))) from error
