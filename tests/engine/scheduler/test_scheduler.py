"""The scheduler over a simulated cache: every text is the one that the request has alone. Knows no tensors."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RequestError, RequestTooLargeError
from engine.scheduler.request import Request, Status
from engine.scheduler.scheduler import Scheduler
from tests.engine.scheduler.simulation import VOCABULARY, Simulation, next_token, solo

prompts = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=40)


@given(
    st.lists(st.tuples(prompts, st.integers(1, 20)), min_size=1, max_size=6),
    st.integers(1, 40),
    st.integers(1, 4),
    st.integers(1, 5),
)
@settings(max_examples=100, deadline=None)
def test_any_chunk_size_batch_and_page_size_gives_each_request_its_solo_text(
    requests, chunk_size, max_batch_size, block_size
):
    simulation = Simulation(-(-64 // block_size), block_size, max_batch_size, chunk_size)
    for prompt, max_new_tokens in requests:
        simulation.submit(prompt, max_new_tokens, stops={0})
    simulation.run()
    for request, (prompt, max_new_tokens) in zip(simulation.requests.values(), requests, strict=True):
        assert request.output_ids == solo(prompt, max_new_tokens, {0})


@pytest.mark.parametrize("chunk_size", [1, 7, 16, 256])
def test_a_prompt_is_read_in_chunks_of_the_budget_and_then_sampled_once_a_step(chunk_size):
    simulation = Simulation(64, 4, chunk_size=chunk_size)
    prompt = [position % VOCABULARY for position in range(100)]
    simulation.submit(prompt, 5)
    simulation.run()
    chunks = [chunk for plan in simulation.plans for chunk in plan.chunks]
    reading = -(-100 // chunk_size)
    assert [len(chunk.token_ids) for chunk in chunks[: reading - 1]] == [chunk_size] * (reading - 1)
    assert [chunk.samples for chunk in chunks] == [False] * (reading - 1) + [True] * 5
    assert [chunk.start for chunk in chunks[reading:]] == [100, 101, 102, 103]


def test_the_last_sampled_token_is_not_computed():
    simulation = Simulation()
    request = simulation.submit([1, 2, 3], 4)
    simulation.run()
    assert sum(plan.num_tokens for plan in simulation.plans) == 3 + 4 - 1
    assert request.num_output == 4


def test_a_stop_token_ends_the_answer_and_is_its_last_token():
    prompt = next([1, 2, n] for n in range(100) if 0 in solo([1, 2, n], 6)[1:])
    simulation = Simulation()
    request = simulation.submit(prompt, 50, stops={0})
    simulation.run()
    assert request.output_ids[-1] == 0
    assert 0 not in request.output_ids[:-1]
    assert simulation.reasons == {0: "stop"}


def test_without_a_stop_token_the_answer_ends_at_its_length():
    simulation = Simulation()
    request = simulation.submit([1, 2, 3], 6)
    simulation.run()
    assert (request.num_output, simulation.reasons) == (6, {0: "length"})


def test_a_decode_is_in_every_step_while_a_long_prompt_is_read():
    simulation = Simulation(256, 4, chunk_size=8)
    simulation.submit([1, 2, 3], 20)
    simulation.step()
    simulation.submit([3] * 400, 2)
    for _ in range(19):
        progress = simulation.step()
        assert progress[0].request_id == 0
        assert progress[0].tokens
        assert [len(chunk.token_ids) for chunk in simulation.plans[-1].chunks] == [1, 7]


def test_more_decodes_than_the_budget_all_run_and_a_prompt_still_moves():
    simulation = Simulation(256, 4, max_batch_size=4, chunk_size=2)
    for length in (2, 2, 2):
        simulation.submit([1] * length, 30)
    while simulation.scheduler.num_waiting or not all(r.num_output for r in simulation.requests.values()):
        simulation.step()
    simulation.submit([2] * 5, 2)
    simulation.step()
    assert [chunk.request_id for chunk in simulation.plans[-1].chunks] == [0, 1, 2, 3]


def test_the_queue_is_first_come_first_served_and_shows_its_positions():
    simulation = Simulation(max_batch_size=1)
    requests = [simulation.submit([n, 1, 2], 3) for n in range(4)]
    assert simulation.scheduler.waiting_ids == (0, 1, 2, 3)
    simulation.step()
    assert simulation.scheduler.waiting_ids == (1, 2, 3)
    order = []
    while simulation.scheduler.requests:
        order += [item.request_id for item in simulation.step() if item.finish_reason]
    assert order == [0, 1, 2, 3]
    assert all(request.status is Status.FINISHED for request in requests)


def test_a_small_request_does_not_overtake_a_large_one_that_waits_for_pages():
    simulation = Simulation(num_blocks=8, block_size=4, max_batch_size=4)
    simulation.submit([1] * 20, 4)
    simulation.step()
    simulation.submit([2] * 24, 4)
    small = simulation.submit([3], 1)
    simulation.step()
    assert small.status is Status.WAITING
    simulation.run()
    assert small.output_ids == solo([3], 1)


def test_the_second_turn_of_a_chat_computes_only_what_is_new_the_answer_included():
    simulation = Simulation(64, 4, chunk_size=64)
    first = simulation.submit([1, 2, 3, 4, 5, 6], 9)  # 15 tokens, 14 of them computed: 3 full pages
    simulation.run()
    second = simulation.submit([*first.prompt_ids, *first.output_ids, 7, 7, 7], 3)
    simulation.step()
    assert second.num_cached == 12
    assert simulation.plans[-1].chunks[0].start == 12
    assert (simulation.scheduler.prefix_hit_tokens, simulation.scheduler.prefix_query_tokens) == (12, 6 + 18)
    simulation.run()
    assert second.output_ids == solo(second.prompt_ids, 3)


def test_a_prompt_that_is_stored_whole_still_computes_its_last_page():
    simulation = Simulation(64, 4, chunk_size=64)
    for _ in range(2):
        request = simulation.submit([1, 2, 3, 4, 5, 6, 7, 0], 2)
        simulation.run()
    assert request.num_cached == 4
    assert request.output_ids == solo(request.prompt_ids, 2)


def test_a_running_request_shares_its_prompt_with_the_next_one():
    simulation = Simulation(64, 4, chunk_size=64)
    simulation.submit([1] * 17, 30)
    simulation.step()
    used = simulation.scheduler.num_pages_used
    second = simulation.submit([1] * 16 + [2], 30)
    simulation.step()
    assert second.num_cached == 16
    assert simulation.scheduler.num_pages_used == used + 1
    simulation.run()
    assert second.output_ids == solo(second.prompt_ids, 30)


def test_a_caller_who_allows_a_long_answer_does_not_drive_out_the_stored_prefixes():
    simulation = Simulation(64, 4, chunk_size=64)
    first = simulation.submit([1] * 120, 1)
    simulation.run()
    simulation.submit([2] * 8, 240, stops={next_token([2] * 8)})
    simulation.run()
    again = simulation.submit([*first.prompt_ids, 2], 1)
    simulation.run()
    assert again.num_cached == 120


def test_cancelling_frees_every_page_at_once_and_twice_is_no_error():
    simulation = Simulation(max_batch_size=1)
    simulation.submit([1] * 30, 20)
    simulation.submit([2] * 30, 20)
    simulation.step()
    assert simulation.scheduler.num_pages_used > 0
    assert simulation.scheduler.cancel(0)
    assert simulation.scheduler.num_pages_used == 0
    assert simulation.scheduler.cancel(1)
    assert not simulation.scheduler.cancel(1)
    assert not simulation.scheduler.requests
    assert simulation.scheduler.schedule().chunks == ()


def test_cancelling_the_one_that_waits_does_not_touch_the_one_that_runs():
    simulation = Simulation(max_batch_size=1)
    runs = simulation.submit([1, 2, 3], 20)
    simulation.submit([4, 5, 6], 20)
    simulation.step()
    assert simulation.scheduler.cancel(1)
    simulation.run()
    assert runs.output_ids == solo([1, 2, 3], 20)
    assert simulation.requests[1].output_ids == ()


def test_a_request_that_is_cancelled_during_a_step_is_passed_over_when_the_step_completes():
    simulation = Simulation()
    simulation.submit([1, 2, 3], 5)
    simulation.submit([1, 2, 4], 5)
    plan = simulation.scheduler.schedule()
    simulation.scheduler.cancel(0)
    assert [item.request_id for item in simulation.scheduler.complete(plan, {1: 3})] == [1]
    assert simulation.requests[0].output_ids == ()


def one_step(scheduler, tokens, forced, complete=frozenset()):
    return scheduler.complete(scheduler.schedule(), tokens, forced, complete)[0]


def test_forced_tokens_become_known_at_once_and_are_the_next_steps_chunk():
    scheduler = Simulation().scheduler
    scheduler.add(Request(0, (1, 2, 3), 20, frozenset(), forced_ids=(4, 5)))
    plan = scheduler.schedule()
    assert plan.chunks[0].token_ids == (1, 2, 3, 4, 5)  # with the prompt, without sampling
    assert scheduler.complete(plan, {0: 6}, {0: (7, 8)})[0].tokens == (6, 7, 8)
    plan = scheduler.schedule()
    assert (plan.chunks[0].token_ids, plan.chunks[0].start, plan.chunks[0].samples) == ((6, 7, 8), 5, True)
    assert scheduler.requests[0].output_ids == (4, 5, 6, 7, 8)


@pytest.mark.parametrize(
    ("max_new_tokens", "stops", "complete", "gained", "reason"),
    [
        (9, (), set(), (6, 7, 8), None),
        (9, (), {0}, (6, 7, 8), "complete"),
        (3, (), {0}, (6, 7, 8), "complete"),  # the last token that was allowed completes the answer
        (3, (), set(), (6, 7, 8), "length"),
        (2, (), {0}, (6, 7), "length"),  # cut: what would have completed it is missing
        (9, (7,), {0}, (6, 7), "stop"),
        (1, (6,), set(), (6,), "stop"),
    ],
)
def test_an_answer_ends_at_the_first_of_its_new_tokens_that_ends_it(
    max_new_tokens, stops, complete, gained, reason
):
    scheduler = Simulation().scheduler
    scheduler.add(Request(0, (1, 2, 3), max_new_tokens, frozenset(stops)))
    progress = one_step(scheduler, {0: 6}, {0: (7, 8)}, complete)
    assert (progress.tokens, progress.finish_reason) == (gained, reason)
    assert (0 in scheduler.requests) is (reason is None)


def test_a_forced_beginning_that_was_computed_before_counts_as_output_and_not_as_cached_prompt():
    simulation = Simulation(block_size=2)
    for _ in range(2):
        request = Request(len(simulation.requests), (1, 2, 3, 4), 4, frozenset(), forced_ids=(5, 6, 7))
        simulation.scheduler.add(request)
        simulation.requests[request.request_id] = request
        simulation.run()
    assert request.num_cached == simulation.scheduler.prefix_hit_tokens == 4
    assert len(simulation.plans[-1].chunks[0].token_ids) == 1


def test_finish_keeps_the_pages_for_the_next_turn():
    simulation = Simulation(64, 4, chunk_size=64)
    request = simulation.submit([1] * 12, 20)
    for _ in range(6):
        simulation.step()
    simulation.scheduler.finish(0)
    assert simulation.scheduler.num_pages_used == 0
    second = simulation.submit([*request.known_ids, 1], 1)
    simulation.run()
    assert second.num_cached == 16


@pytest.mark.parametrize("block_size", [1, 3, 4])
def test_preemption_gives_every_request_its_solo_text(block_size):
    simulation = Simulation(-(-40 // block_size), block_size, max_batch_size=4, chunk_size=6)
    requests = [simulation.submit([n, n + 1, n + 2], 36) for n in range(4)]
    simulation.run()
    assert simulation.scheduler.num_preemptions > 0
    assert sum(request.num_preemptions for request in requests) == simulation.scheduler.num_preemptions
    assert requests[0].num_preemptions == 0
    for request in requests:
        assert request.output_ids == solo(request.prompt_ids, 36)


def test_the_youngest_gives_up_its_pages_and_is_the_next_of_the_queue():
    simulation = Simulation(num_blocks=12, block_size=1, max_batch_size=2, reuse_prefixes=False)
    simulation.submit([1, 2], 10)
    simulation.submit([2, 3], 10)
    simulation.submit([3, 4], 10)
    while not simulation.scheduler.num_preemptions:
        simulation.step()
    assert simulation.plans[-1].preempted == (1,)
    assert simulation.scheduler.waiting_ids == (1, 2)
    simulation.run()


def test_a_preempted_request_that_can_share_what_it_had_copied_comes_back_in_a_later_step():
    simulation = Simulation(num_blocks=20, block_size=1, max_batch_size=2)
    for _ in range(2):  # read in the same step: two copies of the same pages
        simulation.submit([1, 2, 3, 4, 5, 6, 7, 0], 10)
    simulation.run()
    plans = [plan for plan in simulation.plans if plan.preempted]
    assert plans
    assert all(plan.preempted == (1,) for plan in plans)
    assert all([chunk.request_id for chunk in plan.chunks] == [0] for plan in plans)
    assert simulation.requests[1].output_ids == solo([1, 2, 3, 4, 5, 6, 7, 0], 10)


def test_four_times_1024_tokens_are_in_flight_with_cache_lens_8192():
    simulation = Simulation(8192 // 64, 64, max_batch_size=4, chunk_size=256, max_context=8192)
    requests = [simulation.submit([n] * 1000, 1024) for n in range(4)]
    scheduler = simulation.scheduler
    widths = []
    while scheduler.requests:
        plan = scheduler.schedule()
        widths.append(len(plan.chunks))
        for chunk in plan.chunks:  # neighbours in ascending order: a kernel may read them as one piece
            first = chunk.block_ids[0]
            assert chunk.block_ids == tuple(range(first, first + len(chunk.block_ids)))
        scheduler.complete(plan, {chunk.request_id: 1 for chunk in plan.chunks})
    assert widths.count(4) > 1000
    assert scheduler.num_preemptions == 0
    assert all(request.num_output == 1024 for request in requests)


@pytest.mark.parametrize(
    ("prompt", "new", "numbers"),
    [(1025, 1024, ("1025", "1024", "2049", "2048")), (1, 4000, ("4001", "2048"))],
)
def test_what_can_never_fit_is_refused_at_once_with_the_numbers(prompt, new, numbers):
    scheduler = Scheduler(2048 // 64, 64, 4, 256, max_context=4096)
    with pytest.raises(RequestTooLargeError) as error:
        scheduler.add(Request(0, (1,) * prompt, new, frozenset()))
    assert all(number in str(error.value) for number in numbers)
    assert not scheduler.requests
    assert scheduler.num_waiting == 0


def test_the_context_is_a_limit_of_its_own():
    scheduler = Scheduler(64, 64, 4, 256, max_context=512)
    with pytest.raises(RequestTooLargeError, match="context holds 512"):
        scheduler.add(Request(0, (1,) * 500, 13, frozenset()))
    scheduler.add(Request(1, (1,) * 500, 12, frozenset()))


@pytest.mark.parametrize(("prompt", "new"), [((), 5), ((1,), 0)])
def test_an_empty_prompt_and_an_empty_answer_are_refused(prompt, new):
    scheduler = Scheduler(8, 4, 1, 8, 32)
    with pytest.raises(RequestError):
        scheduler.add(Request(0, prompt, new, frozenset()))
    assert not scheduler.requests


def test_a_request_as_large_as_the_pool_runs_to_its_end():
    simulation = Simulation(num_blocks=8, block_size=4)
    request = simulation.submit([1] * 20, 12)
    simulation.run()
    assert request.output_ids == solo([1] * 20, 12)


@given(prompts, st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_a_score_computes_every_position_and_samples_nothing(prompt, chunk_size):
    simulation = Simulation(chunk_size=chunk_size)
    for _ in range(2):  # the second one finds the first one's pages and does not use them
        request = simulation.submit(prompt, score=True)
        simulation.run()
        expected = [next_token(prompt[: position + 1]) for position in range(len(prompt))]
        assert simulation.scores[request.request_id] == expected
        assert simulation.reasons[request.request_id] == "scored"
        assert (request.output_ids, request.num_cached) == ((), 0)


def random_session(seed: int, reuse_prefixes: bool) -> tuple[list[tuple[int, ...]], int]:
    """Fifty random steps of new chats, second turns and aborts, the same whatever the cache does."""
    choose = random.Random(seed)
    simulation = Simulation(48, 4, 3, 12, reuse_prefixes=reuse_prefixes)
    system = [choose.randrange(VOCABULARY) for _ in range(10)]
    aborted: set[int] = set()
    transcripts: list[list[int]] = [[]]
    for _ in range(50):
        prompt = [*system, *choose.choice(transcripts), *choose.choices(range(VOCABULARY), k=5)]
        if len(prompt) < 120 and choose.random() < 0.6:
            request = simulation.submit(prompt, choose.randrange(1, 16), stops={0})
            transcripts.append([*prompt[10:], *solo(prompt, request.max_new_tokens, {0})])
        if choose.random() < 0.2 and simulation.requests:
            chosen = choose.randrange(len(simulation.requests))
            if simulation.scheduler.cancel(chosen):
                aborted.add(chosen)
        if choose.random() < 0.8 and simulation.scheduler.requests:
            simulation.step()
    simulation.run()
    for request in simulation.requests.values():
        whole = solo(request.prompt_ids, request.max_new_tokens, {0})
        cut = request.request_id in aborted
        assert request.output_ids == (whole[: request.num_output] if cut else whole)
    texts = [
        () if request.request_id in aborted else request.output_ids
        for request in simulation.requests.values()
    ]
    return texts, simulation.scheduler.prefix_hit_tokens


def test_fifty_random_steps_give_the_same_text_with_the_cache_on_and_off():
    hits = 0
    for seed in range(20):
        with_cache, hit = random_session(seed, reuse_prefixes=True)
        without, none = random_session(seed, reuse_prefixes=False)
        both = [(a, b) for a, b in zip(with_cache, without, strict=True) if a and b]
        assert both
        assert all(a == b for a, b in both)
        assert none == 0
        hits += hit
    assert hits > 1000
