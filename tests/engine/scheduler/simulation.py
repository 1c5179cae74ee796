"""A scheduler with a cache whose slots hold token ids, and a model that reads them. Knows no tensors.

The next token is a function of all tokens found in the pages that a chunk names: a wrong page is a wrong token.
"""

from __future__ import annotations

import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

from engine.scheduler.plan import StepPlan
from engine.scheduler.request import Request, Status
from engine.scheduler.scheduler import Progress, Scheduler

VOCABULARY = 8  # few tokens, so that answers meet stop tokens and prompts meet each other


def next_token(tokens: Iterable[int]) -> int:
    return zlib.crc32(array("q", tokens).tobytes()) % VOCABULARY


def forced_after(known: Sequence[int]) -> list[int]:
    """A grammar: the tokens, none to three of them, that must follow `known`."""
    number = zlib.crc32(array("q", [*known, 77]).tobytes())
    return [number >> 8 * place & 7 for place in range(1, 1 + number % 4)]


def is_complete(known: Sequence[int]) -> bool:
    """Whether that grammar lets nothing follow `known`."""
    return zlib.crc32(array("q", [*known, 78]).tobytes()) % 13 == 0


def solo(
    prompt: Sequence[int], max_new_tokens: int, stop_token_ids: Iterable[int] = (), grammar: bool = False
) -> tuple[int, ...]:
    """What the model answers without any scheduler."""
    known, stops = list(prompt), set(stop_token_ids)
    end = len(prompt) + max_new_tokens
    if grammar:
        known += forced_after(known)[: max_new_tokens - 1]
    while len(known) < end:
        known.append(next_token(known))
        forced = forced_after(known) if grammar else []
        if known[-1] in stops:
            break
        for token in forced[: end - len(known)]:
            known.append(token)
            if token in stops:
                return tuple(known[len(prompt) :])
        if grammar and is_complete(known):
            break
    return tuple(known[len(prompt) :])


class Simulation:
    def __init__(
        self,
        num_blocks: int = 32,
        block_size: int = 4,
        max_batch_size: int = 4,
        chunk_size: int = 16,
        max_context: int = 10**6,
        reuse_prefixes: bool = True,
    ) -> None:
        self.scheduler = Scheduler(
            num_blocks, block_size, max_batch_size, chunk_size, max_context, reuse_prefixes=reuse_prefixes
        )
        self.slots: list[int | None] = [None] * (num_blocks * block_size)
        self.requests: dict[int, Request] = {}
        self.grammars: set[int] = set()  # requests whose output a grammar shapes
        self.reasons: dict[int, str] = {}
        self.scores: dict[int, list[int]] = {}
        self.plans: list[StepPlan] = []

    def submit(
        self,
        prompt: Sequence[int],
        max_new_tokens: int = 8,
        stops: Iterable[int] = (),
        score: bool = False,
        grammar: bool = False,
    ) -> Request:
        forced = forced_after(prompt)[: max_new_tokens - 1] if grammar else []
        num_new = 0 if score else max_new_tokens
        request = Request(
            len(self.requests), tuple(prompt), num_new, frozenset(stops), score, forced_ids=tuple(forced)
        )
        self.scheduler.add(request)
        if grammar:
            self.grammars.add(request.request_id)
        self.requests[request.request_id] = request
        return request

    def step(self) -> list[Progress]:
        scheduler = self.scheduler
        plan = scheduler.schedule()
        self.plans.append(plan)
        self.check()
        assert plan.chunks or not scheduler.requests, "requests are there and nothing is computed"
        assert set(plan.preempted).isdisjoint(chunk.request_id for chunk in plan.chunks)
        assert plan.num_tokens <= max(scheduler.chunk_size, scheduler.max_batch_size)
        for chunk in plan.chunks:
            for position, token in enumerate(chunk.token_ids, chunk.start):
                page = chunk.block_ids[position // scheduler.pool.block_size]
                assert scheduler.pool.num_holders(page) == 1, "a shared page is written"
                self.slots[self.slot(chunk.block_ids, position)] = token
        tokens, forced, complete = {}, {}, set()
        for chunk in plan.chunks:
            read = [self.slots[self.slot(chunk.block_ids, position)] for position in range(chunk.end)]
            if chunk.samples:
                tokens[chunk.request_id] = next_token(read)
                if chunk.request_id in self.grammars:
                    whole = [*read, tokens[chunk.request_id]]
                    forced[chunk.request_id] = forced_after(whole)
                    if is_complete(whole + forced[chunk.request_id]):
                        complete.add(chunk.request_id)
            if chunk.scores:
                kept = self.scores.get(chunk.request_id, [])[: chunk.start]
                kept += [next_token(read[: position + 1]) for position in range(chunk.start, chunk.end)]
                self.scores[chunk.request_id] = kept
        before = {request_id: len(request.known_ids) for request_id, request in scheduler.requests.items()}
        progress = scheduler.complete(plan, tokens, forced, complete)
        for item in progress:
            known = self.requests[item.request_id].known_ids
            assert item.tokens == tuple(known[before[item.request_id] :])
            if item.finish_reason is not None:
                self.reasons[item.request_id] = item.finish_reason
        self.check()
        return progress

    def run(self, limit: int = 100_000) -> None:
        for _ in range(limit):
            if not self.scheduler.requests:
                return
            self.step()
        raise AssertionError("no end")

    def slot(self, block_ids: Sequence[int], position: int) -> int:
        size = self.scheduler.pool.block_size
        return block_ids[position // size] * size + position % size

    def check(self) -> None:
        """What holds at every moment: conservation, one writer per page, first come first served."""
        scheduler, pool = self.scheduler, self.scheduler.pool
        assert pool.num_free + pool.num_reusable + pool.num_used == pool.num_blocks
        holders = Counter(page for request in self.requests.values() for page in request.block_ids)
        assert len(holders) == pool.num_used == scheduler.num_pages_used
        assert all(pool.num_holders(page) == holders[page] for page in range(pool.num_blocks))
        assert not any(holders[page] for page in range(pool.num_blocks) if pool.is_reusable(page))
        for request in self.requests.values():
            assert len(set(request.block_ids)) == len(request.block_ids)
            assert request.num_computed <= len(request.known_ids)
            writable = request.block_ids[request.num_computed // pool.block_size :]
            assert all(holders[page] == 1 for page in writable)
            if request.status is not Status.RUNNING:
                assert not request.block_ids
        by_arrival = [request.status for request in scheduler.requests.values()]
        num_running = by_arrival.count(Status.RUNNING)
        assert by_arrival[:num_running] == [Status.RUNNING] * num_running, "a younger request overtook"
        assert num_running == scheduler.num_running <= scheduler.max_batch_size
        assert num_running + scheduler.num_waiting == len(scheduler.requests)
