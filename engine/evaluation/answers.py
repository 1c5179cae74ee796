"""Greedy answers to prompts, for how much they repeat themselves. Knows no reference and no table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from engine.api import Engine, Generation
from engine.errors import GenerationError
from engine.evaluation.prompts import ANSWER_TOKENS
from engine.evaluation.repetition import is_looping, repeated_share
from engine.evaluation.values import Answers
from engine.events import Failed, Finished, Message, TextDelta
from engine.sampling import SamplingParams


def answer(engine: Engine, prompts: Sequence[str], on_done: Callable[[int], None]) -> Answers:
    """At most ANSWER_TOKENS tokens each, without a repetition penalty and without the loop guard, which would cut them."""
    started = time.monotonic()
    running = [_start(engine, prompt) for prompt in prompts]
    ids: list[list[int]] = []
    for done, generation in enumerate(running, start=1):
        ids.append(_ids(generation))
        on_done(done)
    return Answers(
        tokens=tuple(map(len, ids)),
        repeated=tuple(map(repeated_share, ids)),
        looping=tuple(map(is_looping, ids)),
        seconds=time.monotonic() - started,
    )


def _start(engine: Engine, prompt: str) -> Generation:
    messages = [Message("user", prompt)]
    room = engine.info.context_tokens - engine.count_tokens(messages)
    params = SamplingParams(
        max_new_tokens=max(1, min(ANSWER_TOKENS, room)), temperature=0.0, loop_guard=False
    )
    return engine.submit(messages, params)


def _ids(generation: Generation) -> list[int]:
    """The tokens of the answer, thinking included, the end-of-turn token not."""
    ids: list[int] = []
    for event in generation:
        if isinstance(event, TextDelta):
            ids += event.token_ids
        elif isinstance(event, Failed):
            raise GenerationError(event.message)
        elif isinstance(event, Finished) and event.reason == "stop" and ids:
            ids.pop()
    return ids
