"""Any order of submitting, stepping, cancelling and resuming leaves the invariants and the texts intact."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.errors import RequestTooLargeError
from tests.engine.scheduler.simulation import VOCABULARY, Simulation, next_token, solo


class Sessions(RuleBasedStateMachine):
    @initialize(
        num_blocks=st.integers(2, 24),
        block_size=st.integers(1, 5),
        max_batch_size=st.integers(1, 4),
        chunk_size=st.integers(1, 24),
    )
    def open(self, num_blocks, block_size, max_batch_size, chunk_size):
        self.simulation = Simulation(num_blocks, block_size, max_batch_size, chunk_size)
        self.cut: set[int] = set()

    def submit_or_refuse(self, prompt, max_new_tokens, score=False, grammar=False):
        pool = self.simulation.scheduler.pool
        fits = len(prompt) + (0 if score else max_new_tokens) <= pool.num_blocks * pool.block_size
        before = dict(self.simulation.scheduler.requests)
        try:
            self.simulation.submit(prompt, max_new_tokens, stops={0}, score=score, grammar=grammar)
            assert fits
        except RequestTooLargeError:
            assert not fits
            assert dict(self.simulation.scheduler.requests) == before

    @rule(
        shared=st.integers(0, 5),
        own=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6),
        max_new_tokens=st.integers(1, 20),
        kind=st.sampled_from(["plain", "score", "grammar"]),
    )
    def submit(self, shared, own, max_new_tokens, kind):
        prompt = [1, 2, 3, 4, 5][:shared] * 4 + own
        self.submit_or_refuse(prompt, max_new_tokens, score=kind == "score", grammar=kind == "grammar")

    @precondition(lambda self: self.simulation.requests)
    @rule(data=st.data(), more=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=4))
    def next_turn(self, data, more):
        before = data.draw(st.sampled_from(sorted(self.simulation.requests)))
        self.submit_or_refuse([*self.simulation.requests[before].known_ids, *more], 5)

    @precondition(lambda self: self.simulation.requests)
    @rule(data=st.data())
    def cancel(self, data):
        request_id = data.draw(st.sampled_from(sorted(self.simulation.requests)))
        there = request_id in self.simulation.scheduler.requests
        assert self.simulation.scheduler.cancel(request_id) is there
        if there:
            self.cut.add(request_id)

    @rule(count=st.integers(1, 8))
    def steps(self, count):
        for _ in range(count):
            self.simulation.step()

    @precondition(lambda self: not self.simulation.scheduler.num_pages_used)
    @rule()
    def clear(self):
        self.simulation.scheduler.pool.clear()
        assert self.simulation.scheduler.pool.num_free == self.simulation.scheduler.pool.num_blocks

    @invariant()
    def pages_are_conserved(self):
        self.simulation.check()

    def teardown(self):
        if not hasattr(self, "simulation"):
            return
        self.simulation.run()
        assert self.simulation.scheduler.num_pages_used == 0
        for request in self.simulation.requests.values():
            grammar = request.request_id in self.simulation.grammars
            whole = solo(request.prompt_ids, request.max_new_tokens, {0}, grammar)
            cut = request.request_id in self.cut
            if request.score and not cut:
                ids = request.prompt_ids
                expected = [next_token(ids[: position + 1]) for position in range(len(ids))]
                assert self.simulation.scores[request.request_id] == expected
            assert request.output_ids == (whole[: request.num_output] if cut else whole)


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
