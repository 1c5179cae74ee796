"""Decides which tokens of which requests the next step computes. Knows no tensors, no text and no sampling.

There is no prefill phase and no decode phase: each request's computed tokens catch up with its known tokens, and a
chunk of length one at their end is decode. Requests are served first come, first served; none overtakes.

Progress: `_running` followed by `_waiting` is always in order of arrival, pages are only ever taken from the youngest
running request, and a request that does not fit into the pool alone is refused. So nothing takes a page from the
oldest request, every page it does not hold can be had for it, and it moves on in every step until it is finished;
then the next one is the oldest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from engine.errors import RequestError, RequestTooLargeError
from engine.scheduler.block_pool import BlockPool, page_key
from engine.scheduler.plan import Chunk, StepPlan
from engine.scheduler.request import Request, Status

FinishReason: TypeAlias = Literal["stop", "complete", "length", "scored"]


@dataclass(frozen=True, slots=True)
class Progress:
    """What a step did for one request. `finish_reason` is set when the request has ended by it.

    "stop": the last token is a stop token. "complete": nothing can follow the last token, as the caller said.
    """

    request_id: int
    tokens: tuple[int, ...]  # what the output gained, a stop token included; empty while the prompt is read
    finish_reason: FinishReason | None


class Scheduler:
    """`plan = schedule()`, run the plan, `complete(plan, tokens)`; `add`, `cancel` and `finish` come in between.

    chunk_size: tokens of a step over all requests. Every decode is in every step, and what is left, at least one
    token, goes to the prompts in order of arrival: a step has at most max(chunk_size, max_batch_size) tokens.
    max_context: the most tokens, prompt and answer, that the model can take.
    reuse_prefixes: False computes every prompt from its first token.
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        max_batch_size: int,
        chunk_size: int,
        max_context: int,
        *,
        reuse_prefixes: bool = True,
    ) -> None:
        self.pool = BlockPool(num_blocks, block_size)
        self.max_batch_size = max_batch_size
        self.chunk_size = chunk_size
        self.max_context = max_context
        self.reuse_prefixes = reuse_prefixes
        self.prefix_hit_tokens = 0  # prompt tokens reused since the start
        self.prefix_query_tokens = 0  # prompt tokens of the requests that could have reused some
        self.num_preemptions = 0
        self._running: list[Request] = []
        self._waiting: deque[Request] = deque()
        self._requests: dict[int, Request] = {}

    # What can be seen

    @property
    def requests(self) -> Mapping[int, Request]:
        """The requests that run or wait, by id."""
        return MappingProxyType(self._requests)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_pages_used(self) -> int:
        """Pages that running requests hold; a shared page counts once."""
        return self.pool.num_used

    @property
    def num_pages_reusable(self) -> int:
        """Pages held only for prefix reuse: free to whoever needs them."""
        return self.pool.num_reusable

    @property
    def waiting_ids(self) -> tuple[int, ...]:
        """The requests that wait, in the order in which they will be served."""
        return tuple(request.request_id for request in self._waiting)

    # Verbs

    def add(self, request: Request) -> None:
        """Put a request at the end of the queue. Raises what `check_fits` raises."""
        assert request.request_id not in self._requests, f"request id {request.request_id} is in use"
        self.check_fits(request)
        self._requests[request.request_id] = request
        self._waiting.append(request)

    def check_fits(self, request: Request) -> None:
        """RequestError: an empty prompt, or nothing to generate. RequestTooLargeError: it can never fit.

        Reads constants only, so any thread may ask.
        """
        num_prompt, num_new = len(request.prompt_ids), request.max_new_tokens
        if not num_prompt:
            raise RequestError("The prompt is empty: at least one token is needed.")
        if num_new < 1 and not request.score:
            raise RequestError(f"max_new_tokens = {num_new}: at least one token must be asked for.")
        pool_tokens = self.pool.num_blocks * self.pool.block_size
        total = f"{num_prompt} prompt tokens + {num_new} new tokens = {request.max_tokens}"
        if request.max_tokens > self.max_context:
            raise RequestTooLargeError(
                f"{total}, but the context holds {self.max_context}; shorten the prompt or lower max_new_tokens."
            )
        if request.max_tokens > pool_tokens:
            raise RequestTooLargeError(
                f"{total}, but the cache holds {pool_tokens}; shorten the prompt, lower max_new_tokens or raise"
                " cache_lens in the profile."
            )

    def schedule(self) -> StepPlan:
        """The next step. No chunks: nothing to do. `complete` or `cancel` must follow before the next call."""
        chunks: list[Chunk] = []
        preempted: list[int] = []
        num_decodes = sum(request.num_uncomputed == 1 for request in self._running)
        budget = max(1, self.chunk_size - num_decodes)  # tokens for prompts
        index = 0
        while index < len(self._running):  # the list loses requests at its end only: see _make_room
            request = self._running[index]
            index += 1
            length = 1 if request.num_uncomputed == 1 else min(budget, request.num_uncomputed)
            if length and self._make_room(request, length, preempted):
                budget -= length if request.num_uncomputed > 1 else 0
                chunks.append(self._chunk(request, length))
        while budget and not preempted and self._admit():
            request = self._running[-1]
            length = min(budget, request.num_uncomputed)
            self._grow(request, length)
            budget -= length
            chunks.append(self._chunk(request, length))
        return StepPlan(tuple(chunks), tuple(preempted))

    def complete(
        self,
        plan: StepPlan,
        tokens: Mapping[int, int],
        forced: Mapping[int, Sequence[int]] = MappingProxyType({}),
        complete_ids: Set[int] = frozenset(),
    ) -> list[Progress]:
        """The plan was computed; `tokens` maps request id to sampled token, for the chunks that sample.

        `forced`: tokens that follow a sampled one without a choice; they become known at once, and the next step computes
        them as a longer chunk. `complete_ids`: requests whose output ends with these tokens.
        A request that was cancelled or finished since is passed over. A request that has ended is gone when this
        returns, its pages reusable.
        """
        progress: list[Progress] = []
        for chunk in plan.chunks:
            request = self._requests.get(chunk.request_id)
            if request is None:
                continue
            assert request.num_computed == chunk.start, f"plan of request {chunk.request_id} is out of date"
            request.num_computed = chunk.end
            self._publish(request)
            known = len(request.known_ids)
            reason: FinishReason | None = None
            if chunk.samples:
                gained = (tokens[chunk.request_id], *forced.get(chunk.request_id, ()))
                reason = self._extend(request, gained, chunk.request_id in complete_ids)
            elif request.score and request.num_uncomputed == 0:
                reason = "scored"
            progress.append(Progress(chunk.request_id, tuple(request.known_ids[known:]), reason))
            if reason is not None:
                self._retire(request)
        return progress

    def cancel(self, request_id: int) -> bool:
        """End a request that runs or waits and free its pages now. False: it is not there (any more)."""
        request = self._requests.get(request_id)
        if request is None:
            return False
        self._retire(request)
        return True

    def finish(self, request_id: int) -> None:
        """End a request for a reason that tokens do not show (a stop string, an error); its pages stay reusable."""
        self.cancel(request_id)

    # How

    def _chunk(self, request: Request, length: int) -> Chunk:
        start = request.num_computed
        return Chunk(
            request_id=request.request_id,
            token_ids=tuple(request.known_ids[start : start + length]),
            start=start,
            block_ids=tuple(request.block_ids),
            samples=length == request.num_uncomputed and not request.score,
            scores=request.score,
        )

    def _extend(self, request: Request, tokens: Sequence[int], complete: bool) -> FinishReason | None:
        """Add `tokens` to the output, up to the first at which it ends."""
        for count, token in enumerate(tokens, start=1):
            request.known_ids.append(token)
            if token in request.stop_token_ids:
                return "stop"
            if request.num_output >= request.max_new_tokens:
                return "complete" if complete and count == len(tokens) else "length"
        return "complete" if complete else None

    def _make_room(self, request: Request, length: int, preempted: list[int]) -> bool:
        """Pages for `length` more tokens of a running request; the youngest running ones give theirs up for it.

        False: it is the youngest itself, gave up its pages and waits.
        """
        count = self.pool.num_pages(request.num_computed + length) - len(request.block_ids)
        while count > self.pool.num_available:
            youngest = self._running.pop()
            self._give_up_pages(youngest)
            youngest.status = Status.WAITING
            youngest.num_preemptions += 1
            self.num_preemptions += 1
            self._waiting.appendleft(youngest)
            preempted.append(youngest.request_id)
            if youngest is request:
                return False
        self._grow(request, length)
        return True

    def _grow(self, request: Request, length: int) -> None:
        held = request.block_ids
        count = self.pool.num_pages(request.num_computed + length) - len(held)
        if count <= 0:
            return
        keep_clear = [
            range(other.block_ids[-1] + 1, other.block_ids[-1] + 1 + self._room(other))
            for other in self._running
            if other is not request and other.block_ids
        ]
        held += self.pool.allocate(count, held[-1] if held else None, self._room(request), keep_clear)

    def _room(self, request: Request) -> int:
        """Pages that a request is likely to need: for what it knows, and for an answer of at most 1/8 of the pool.

        The limit keeps a caller who allows a very long answer from driving every stored prefix out.
        """
        known = self.pool.num_pages(len(request.known_ids))
        answer = self.pool.num_pages(request.max_tokens) - known
        return known + min(answer, self.pool.num_blocks // 8) - len(request.block_ids)

    def _admit(self) -> bool:
        """Move the head of the queue to the running requests, if a place and pages for all it knows are there.

        Asked only while the budget lasts, so the running requests hold pages for all that they know; and not in a
        step that preempts: a request that had copies of shared pages could come back at once, and stand in the plan
        as preempted and as computed.
        """
        if not self._waiting or len(self._running) >= self.max_batch_size:
            return False
        request = self._waiting[0]
        found: list[int] = []
        if self.reuse_prefixes and not request.score:
            self._extend_keys(request)
            found = self.pool.match(
                request.page_keys[: (len(request.known_ids) - 1) // self.pool.block_size]
            )  # at least the last token is computed: its logits are wanted
        available = self.pool.num_available - sum(map(self.pool.is_reusable, found))
        if self.pool.num_pages(len(request.known_ids)) - len(found) > available:
            return False
        self._waiting.popleft()
        self._running.append(request)
        self.pool.acquire(found)
        request.status = Status.RUNNING
        request.block_ids = found
        request.num_published = len(found)
        request.num_computed = len(found) * self.pool.block_size
        if not request.admitted_before and not request.score:
            request.num_cached = min(request.num_computed, len(request.prompt_ids))
            self.prefix_hit_tokens += request.num_cached
            self.prefix_query_tokens += len(request.prompt_ids)
        request.admitted_before = True
        return True

    def _extend_keys(self, request: Request) -> None:
        """Keys for the pages that have become full of known tokens."""
        size, keys = self.pool.block_size, request.page_keys
        for start in range(len(keys) * size, len(request.known_ids) - size + 1, size):
            tokens = request.known_ids[start : start + size].tobytes()
            keys.append(page_key(keys[-1] if keys else None, tokens))

    def _publish(self, request: Request) -> None:
        """Offer the pages that have become full of computed tokens for reuse."""
        num_full = request.num_computed // self.pool.block_size
        if not self.reuse_prefixes or num_full == request.num_published:
            return
        self._extend_keys(request)
        for index in range(request.num_published, num_full):
            self.pool.publish(request.block_ids[index], request.page_keys[index])
        request.num_published = num_full

    def _give_up_pages(self, request: Request) -> None:
        self.pool.release(request.block_ids)
        request.block_ids = []
        request.num_computed = 0

    def _retire(self, request: Request) -> None:
        if request.status is Status.RUNNING:
            self._running.remove(request)
        else:
            self._waiting.remove(request)
        self._give_up_pages(request)
        request.status = Status.FINISHED
        del self._requests[request.request_id]
