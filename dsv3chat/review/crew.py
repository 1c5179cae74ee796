"""The threads that put tasks to the model, a few at a time, and the queue that their results come out of.

Knows neither findings nor reports. The first task goes alone until the model holds its prefix, so that all others find
the prefix in the cache.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeAlias

from dsv3chat.review.ask import AnswerFailedError, Asker, StoppedError
from dsv3chat.review.inspection import Inspector, Result
from dsv3chat.review.pace import Pace
from dsv3chat.review.plan import Task
from dsv3chat.review.question import Answer, Question


@dataclass(frozen=True, slots=True)
class Begun:
    """A task is about to be asked."""

    task: Task


@dataclass(frozen=True, slots=True)
class Done:
    """A task has its result."""

    task: Task
    result: Result


@dataclass(frozen=True, slots=True)
class Broken:
    """Nothing more can come: the model is gone (ModelGoneError), or this program is at fault."""

    error: BaseException


Outcome: TypeAlias = Begun | Done | Broken


class Crew:
    """Runs tasks in order, `size` at a time. `outcomes` may be read by one thread, `stop` called from any."""

    def __init__(
        self,
        tasks: Sequence[Task],
        inspector: Inspector,
        asker: Asker,
        pace: Pace,
        size: int,
        prefix_tokens: int,
    ) -> None:
        self._todo = deque(tasks)
        self._inspector = inspector
        self._asker = asker
        self._pace = pace
        self._prefix = _Prefix(prefix_tokens)
        self._results: SimpleQueue[Outcome | None] = SimpleQueue()  # None: one thread has ended
        self._ended = False
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"review-{number}", daemon=True)
            for number in range(min(size, len(tasks)))
        ]

    def outcomes(self) -> Iterator[Outcome]:
        """Everything that happens, until all tasks are done, or the crew is stopped or broken."""
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            while (outcome := self._results.get()) is not None:
                yield outcome

    def stop(self) -> None:
        """Take no further task, end the running ones, and return at once. Idempotent."""
        self._ended = True
        self._asker.stop()
        self._prefix.give_up()

    def _work(self, number: int) -> None:
        try:
            if number:
                self._prefix.wait()
            while not self._ended:
                try:
                    task = self._todo.popleft()
                except IndexError:
                    break
                self._results.put(Begun(task))
                self._results.put(Done(task, self._inspect(task)))
        except StoppedError:
            pass
        except BaseException as error:
            self._ended = True
            self._results.put(Broken(error))
        finally:
            self._prefix.give_up()
            self._results.put(None)

    def _inspect(self, task: Task) -> Result:
        watch = _Watch(task, self._inspector.passes, self._pace, self._prefix)

        def ask(question: Question) -> Answer:
            answer = self._asker.ask(question, watch)
            watch.answered()
            return answer

        try:
            result = self._inspector.inspect(task.chunk, ask)
        except AnswerFailedError as error:
            result = Result(failure=str(error))
        if not result.failure:
            for question, answer in result.answers:
                self._asker.keep(question, answer)
        self._pace.done(task.number, task.tokens)
        return result


class _Prefix:
    """What all prompts begin with: whether the model holds it by now."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._is_there = threading.Event()

    def reached(self, tokens: int) -> None:
        """So many tokens of some prompt are in the model."""
        if tokens >= self._tokens:
            self._is_there.set()

    def give_up(self) -> None:
        """Nobody waits any longer."""
        self._is_there.set()

    def wait(self) -> None:
        self._is_there.wait()


class _Watch:
    """Tells the pace how far one task is, and the others when the prefix is there."""

    def __init__(self, task: Task, passes: int, pace: Pace, prefix: _Prefix) -> None:
        self._task = task
        self._tokens = task.tokens // passes  # of one prompt
        self._pace = pace
        self._prefix = prefix
        self._before = 0  # tokens of the task's questions that have their answers
        self._now = 0

    def asked(self) -> None:
        self._pace.begin()

    def prefilled(self, tokens: int) -> None:
        self._now = max(self._now, tokens)
        self._prefix.reached(self._now)
        self._pace.prefilled(self._task.number, min(self._task.tokens, self._before + self._now))

    def answering(self) -> None:
        self.prefilled(self._tokens)

    def answered(self) -> None:
        self._before, self._now = self._before + self._now, 0
