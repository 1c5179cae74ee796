"""One chunk to its findings: passes, one retry, agreement, thresholds, second look. Knows no thread, file or backend.

Passes: the first is greedy, the others sample at temperature 0.7. A finding is the same when line and rule are; its
confidence is the mean over the passes, 0 where a pass does not report it. So the threshold asks for agreement as well as for
certainty, and one pass is the plain case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dsv3chat.review.answer import Candidate, NoAnswerError, Reading, read_answer
from dsv3chat.review.confidence import confidence
from dsv3chat.review.protocol import ReviewProtocol
from dsv3chat.review.question import Answer, Question
from dsv3chat.review.second_look import confirms, second_question
from dsv3chat.review.values import Chunk

PASS_TEMPERATURE = 0.7  # of the passes after the first
RETRY_TEMPERATURE = 0.5  # a greedy answer would come out the same again

BELOW_CONFIDENCE = "below confidence"
UNCHANGED_LINES = "outside the changed lines"
NOT_CONFIRMED = "not confirmed"
DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Sure:
    """A candidate and how certain the model is of it."""

    candidate: Candidate
    confidence: float


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a chunk. With a `failure` there are no findings, and `raw` is the answer that could not be read."""

    findings: tuple[Sure, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    failure: str = ""
    raw: str = ""
    answers: tuple[tuple[Question, Answer], ...] = ()  # everything that was asked
    has_confidence: bool = True  # False: the backend gives no probabilities


@dataclass(frozen=True, slots=True)
class Inspector:
    """How a review looks at each of its chunks."""

    protocol: ReviewProtocol
    min_confidence: float
    passes: int = 1
    verify: bool = False
    seed: int = 0
    context_findings: bool = False

    def inspect(self, chunk: Chunk, ask: Callable[[Question], Answer]) -> Result:
        """Whatever `ask` raises goes through; an answer that is none twice is a failure."""
        asked: list[tuple[Question, Answer]] = []

        def recorded(question: Question) -> Answer:
            answer = ask(question)
            asked.append((question, answer))
            return answer

        dropped: Counter[str] = Counter()
        passes: list[list[Sure]] = []
        for number in range(self.passes):
            try:
                passes.append(self._one_pass(chunk, number, recorded, dropped))
            except NoAnswerError as error:
                return Result(failure=str(error), raw=asked[-1][1].text, answers=tuple(asked))
        kept = self._filtered(agreed(passes), chunk, dropped)
        if self.verify:
            kept = self._confirmed(kept, chunk, recorded, dropped)
        return Result(
            tuple(kept),
            dropped,
            answers=tuple(asked),
            has_confidence=all(answer.choices is not None for _, answer in asked),
        )

    def questions(self, chunk: Chunk) -> tuple[Question, ...]:
        """What is asked of the chunk in any case: one question a pass."""
        return tuple(self._question(chunk, number) for number in range(self.passes))

    def _question(self, chunk: Chunk, number: int) -> Question:
        return Question(
            self.protocol.messages(chunk),
            self.protocol.schema(chunk),
            self.protocol.max_answer_tokens,
            temperature=PASS_TEMPERATURE if number else 0.0,
            seed=self._seed(number),
        )

    def _seed(self, number: int) -> int:
        """The seed of one answer: any whole number that a person gives makes one that a sampler takes."""
        return (self.seed + number) % 2**63

    def _one_pass(
        self, chunk: Chunk, number: int, ask: Callable[[Question], Answer], dropped: Counter[str]
    ) -> list[Sure]:
        """The findings of one answer, each line and rule once. NoAnswerError when the retry is none either."""
        question = self._question(chunk, number)
        answer = ask(question)
        try:
            reading = self._read(answer, chunk)
        except NoAnswerError:
            retry = Question(
                question.messages,
                question.schema,
                question.max_tokens,
                RETRY_TEMPERATURE,
                self._seed(self.passes + number),
            )
            answer = ask(retry)
            reading = self._read(answer, chunk)
        dropped.update(reading.dropped)
        best: dict[tuple[int, str], Sure] = {}
        for candidate in reading.candidates:
            sure = Sure(candidate, confidence(answer.choices, candidate.start, candidate.end))
            place = (candidate.line, candidate.rule)
            if place in best:
                dropped[DUPLICATE] += 1
            if place not in best or sure.confidence > best[place].confidence:
                best[place] = sure
        return list(best.values())

    def _read(self, answer: Answer, chunk: Chunk) -> Reading:
        try:
            return read_answer(answer.text, self.protocol, chunk)
        except NoAnswerError as error:
            if answer.ending == "length":
                raise NoAnswerError(
                    f"the answer is longer than {self.protocol.max_answer_tokens} tokens"
                ) from error
            raise

    def _filtered(self, found: Sequence[Sure], chunk: Chunk, dropped: Counter[str]) -> list[Sure]:
        kept = []
        for sure in found:
            if not (self.context_findings or on_changed_lines(sure.candidate, chunk)):
                dropped[UNCHANGED_LINES] += 1
            elif sure.confidence < self.min_confidence:
                dropped[BELOW_CONFIDENCE] += 1
            else:
                kept.append(sure)
        return kept

    def _confirmed(
        self,
        found: Sequence[Sure],
        chunk: Chunk,
        ask: Callable[[Question], Answer],
        dropped: Counter[str],
    ) -> list[Sure]:
        kept = []
        for sure in found:
            question = second_question(self.protocol, chunk, sure.candidate)
            if question is None or confirms(self.protocol, chunk, sure.candidate, ask(question).text):
                kept.append(sure)
            else:
                dropped[NOT_CONFIRMED] += 1
        return kept


def agreed(passes: Sequence[Sequence[Sure]]) -> list[Sure]:
    """The findings of all passes by place, as the most certain pass worded them, with the mean confidence."""
    found: dict[tuple[int, str], list[Sure]] = {}
    for sures in passes:
        for sure in sures:
            found.setdefault((sure.candidate.line, sure.candidate.rule), []).append(sure)
    return [
        Sure(
            max(same, key=lambda sure: sure.confidence).candidate,
            sum(sure.confidence for sure in same) / len(passes),
        )
        for _, same in sorted(found.items())
    ]


def on_changed_lines(candidate: Candidate, chunk: Chunk) -> bool:
    """Whether the finding touches a line that the diff adds or changes. Where the diff only deletes, every line counts."""
    if not chunk.changed:
        return chunk.changed is None or bool(chunk.removed)
    return any(line in chunk.changed for line in range(candidate.line, candidate.end_line + 1))
