"""What a review has to do, before a model is loaded: chunks, their tokens, what the cache answers, what the budget holds.

Knows no thread and no backend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from dsv3chat.review.chunks import ChunkLimits, Strategy, numbered, split
from dsv3chat.review.inspection import Inspector, Result
from dsv3chat.review.model import ReviewedModel
from dsv3chat.review.protocol import ReviewProtocol
from dsv3chat.review.values import Chunk, Scope, Skipped, SourceFile
from engine import Message

Splitter: TypeAlias = Callable[[SourceFile], Sequence[Chunk]]
BUDGET = "budget"
_PATH_TOKENS = 100  # of a prompt, beside prefix and code: path, fences, the template's own
_MIN_CHUNK_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Task:
    """One chunk. `tokens`: of its prompts, the shared prefix and all passes included."""

    number: int
    file: SourceFile
    chunk: Chunk
    tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a review will do. Tokens count whole prompts, the shared prefix and all passes included."""

    files: tuple[SourceFile, ...]  # by path
    tasks: tuple[Task, ...]  # by path and line; those beyond the budget too
    skipped: tuple[Skipped, ...]  # the scope's, and what the protocol does not review, by path
    cached: tuple[tuple[Task, Result], ...]  # answered without the model
    pending: tuple[Task, ...]  # for the model
    over_budget: tuple[Task, ...]
    seconds: float | None  # of the pending ones, at the rate of the last review with this model and profile
    exact_tokens: bool  # False: counted from characters, since the model's tokenizer is not there

    @property
    def num_chunks(self) -> int:
        """Chunks that the review looks at."""
        return len(self.cached) + len(self.pending)

    @property
    def prompt_tokens(self) -> int:
        """Of the chunks that the review looks at."""
        return sum(task.tokens for task, _ in self.cached) + self.pending_tokens

    @property
    def pending_tokens(self) -> int:
        return sum(task.tokens for task in self.pending)


def splitter(
    protocol: ReviewProtocol,
    model: ReviewedModel,
    strategy: Strategy = "auto",
    context_tokens: int | None = None,
) -> Splitter:
    """chunks.split within the protocol's limits, and what the model's context leaves beside prefix and answer.

    `context_tokens` takes the place of both for the tokens of a chunk; a request that is too large for it is refused.
    """
    limits = ChunkLimits(protocol.max_lines, context_tokens or _chunk_tokens(protocol, model))
    return lambda file: split(file, limits, model.count_tokens, strategy)


def _chunk_tokens(protocol: ReviewProtocol, model: ReviewedModel) -> int:
    if model.context_tokens is None:
        return protocol.max_tokens
    prefix = model.count_prompt([Message("system", protocol.system_prompt)])
    room = model.context_tokens - prefix - _PATH_TOKENS - protocol.max_answer_tokens
    return max(_MIN_CHUNK_TOKENS, min(protocol.max_tokens, room))


def make_plan(
    scope: Scope,
    inspector: Inspector,
    model: ReviewedModel,
    split_file: Splitter,
    recall: Callable[[Task], Result | None],
    max_prompt_tokens: int | None,
    rate: float | None,
) -> Plan:
    """`recall` gives what the cache makes of a task, None where the model is needed.

    The budget is spent in order of path and line on what the cache does not answer; the first chunk that exceeds it, and
    every one after it, is beyond it. Second looks and retries are not known beforehand and come on top.
    """
    protocol = inspector.protocol
    files: list[SourceFile] = []
    skipped = list(scope.skipped)
    tasks: list[Task] = []
    for file in sorted(scope.files, key=lambda file: file.path):
        if reason := protocol.skip_reason(file.language):
            skipped.append(Skipped(file.path, reason))
            continue
        cut = split_file(file)
        chunks = [chunk for chunk in cut if _may_report(chunk, inspector)]
        skipped += _deletions(file, [chunk for chunk in cut if chunk not in chunks], bool(chunks), protocol)
        if file.changed is not None and not chunks:
            if not any(chunk.removed for chunk in cut):
                skipped.append(Skipped(file.path, "no line is added or changed"))
            continue
        files.append(file)
        frame = _frame_tokens(file, protocol, model) if chunks else 0
        for chunk in chunks:
            tokens = inspector.passes * (frame + _body_tokens(chunk, protocol, model))
            tasks.append(Task(len(tasks), file, chunk, tokens))
    cached: list[tuple[Task, Result]] = []
    pending: list[Task] = []
    over: list[Task] = []
    left = max_prompt_tokens
    for task in tasks:
        if (result := recall(task)) is not None:
            cached.append((task, result))
        elif left is not None and (over or task.tokens > left):
            over.append(task)
        else:
            pending.append(task)
            left = None if left is None else left - task.tokens
    return Plan(
        files=tuple(files),
        tasks=tuple(tasks),
        skipped=tuple(sorted(skipped, key=lambda skip: (skip.path, skip.reason))),
        cached=tuple(cached),
        pending=tuple(pending),
        over_budget=tuple(over),
        seconds=sum(task.tokens for task in pending) / rate if rate else None if pending else 0.0,
        exact_tokens=model.exact_tokens,
    )


def _frame_tokens(file: SourceFile, protocol: ReviewProtocol, model: ReviewedModel) -> int:
    """Tokens of a prompt about this file without its code: the prefix, the path, the template's own."""
    line = Chunk(file.path, file.language, 1, ("x",))
    return model.count_prompt(protocol.messages(line)) - model.count_tokens(numbered(line.lines, 1))


def _body_tokens(chunk: Chunk, protocol: ReviewProtocol, model: ReviewedModel) -> int:
    """Tokens of the code. It stands on lines of its own, which tokenizers do not join with what is around them."""
    tokens = model.count_tokens(numbered(chunk.lines, chunk.start))
    if chunk.removed and protocol.reviews_deletions:
        tokens += model.count_tokens("\n".join(chunk.removed))
    return tokens


def _may_report(chunk: Chunk, inspector: Inspector) -> bool:
    """Whether a finding in the chunk could be kept: not so without a change, or with deletions that the protocol cannot show."""
    if chunk.changed is None or chunk.changed or inspector.context_findings:
        return True
    return bool(chunk.removed) and inspector.protocol.reviews_deletions


def _deletions(
    file: SourceFile, chunks: Sequence[Chunk], others: bool, protocol: ReviewProtocol
) -> list[Skipped]:
    """What is said of hunks that only delete, with their lines where the rest of the file is reviewed."""
    reason = f"{protocol.name} does not review changes that only delete"
    places = [f"{reason}: lines {chunk.start}-{chunk.end}" for chunk in chunks if chunk.removed]
    return [Skipped(file.path, place if others else reason) for place in places[: None if others else 1]]
