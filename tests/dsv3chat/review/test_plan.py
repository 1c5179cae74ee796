"""What a review will do, known before any model is loaded."""

from dataclasses import replace

import pytest

from dsv3chat.review.general_protocol import GENERAL
from dsv3chat.review.inspection import Inspector, Result
from dsv3chat.review.model import estimate_prompt
from dsv3chat.review.nano_protocol import NANO
from dsv3chat.review.plan import make_plan, splitter
from dsv3chat.review.values import Chunk, Hunk, Skipped
from tests.dsv3chat.review.scripted import model, scope, source


def plan(*files, protocol=NANO, recall=lambda task: None, budget=None, rate=None, skipped=(), **how):
    return make_plan(
        scope(*files, skipped=skipped),
        Inspector(protocol, 0.5, **how),
        model(),
        splitter(protocol, model()),
        recall,
        budget,
        rate,
    )


def long_file(path, functions=60):
    return source(path, "".join(f"def f{n}(a):\n    return a + {n}\n\n" for n in range(functions)))


def test_tasks_come_by_path_and_line_whatever_the_scopes_order():
    made = plan(long_file("b.py"), source("a.py"))
    places = [(task.chunk.path, task.chunk.start) for task in made.tasks]
    assert places == sorted(places)
    assert len({path for path, _ in places}) == 2
    assert [task.number for task in made.tasks] == list(range(len(made.tasks)))


def test_tokens_count_whole_prompts_and_passes():
    (task,) = plan(source("a.py")).tasks
    assert task.tokens == pytest.approx(estimate_prompt(NANO.messages(task.chunk)), abs=2)  # two roundings
    assert plan(source("a.py"), passes=3).prompt_tokens == 3 * task.tokens


def test_what_the_protocol_does_not_read_is_listed_among_the_skipped_by_path():
    made = plan(
        source("b.go", language="go"), skipped=[Skipped("c.bin", "binary"), Skipped("a.bin", "binary")]
    )
    assert [(s.path, s.reason) for s in made.skipped] == [
        ("a.bin", "binary"),
        ("b.go", "nano reviews Python"),
        ("c.bin", "binary"),
    ]
    assert plan(source("b.go", language="go"), protocol=GENERAL).skipped == ()


def test_chunks_keep_to_the_limits_of_the_protocol():
    made = plan(long_file("a.py", 200))
    assert len(made.tasks) > 1
    assert all(len(task.chunk.lines) <= NANO.max_lines for task in made.tasks)


def test_chunks_leave_room_for_prefix_and_answer_in_a_small_context():
    small = replace(model(), context_tokens=NANO.max_answer_tokens + 500)
    chunks = splitter(NANO, small)(long_file("a.py", 200))
    assert chunks
    for chunk in chunks:
        assert estimate_prompt(NANO.messages(chunk)) + NANO.max_answer_tokens <= small.context_tokens


def test_the_budget_ends_before_the_first_chunk_that_exceeds_it():
    files = [source(f"{name}.py") for name in "abc"]
    one = plan(files[0]).prompt_tokens
    made = plan(*files, budget=2 * one)
    assert [task.file.path for task in made.pending] == ["a.py", "b.py"]
    assert [task.file.path for task in made.over_budget] == ["c.py"]
    assert plan(source("a.py", "x = 1\n" * 80), source("b.py"), budget=one).pending == ()


def test_what_the_cache_answers_costs_no_budget():
    files = [source(f"{name}.py") for name in "abc"]
    one = plan(files[0]).prompt_tokens
    made = plan(*files, budget=one, recall=lambda task: Result() if task.file.path != "c.py" else None)
    assert (len(made.cached), len(made.pending), made.over_budget) == (2, 1, ())
    assert (made.num_chunks, made.pending_tokens) == (3, one)


def test_the_expected_time_comes_from_the_last_rate_and_is_unknown_without_one():
    made = plan(source("a.py"), rate=10.0)
    assert made.seconds == pytest.approx(made.pending_tokens / 10)
    assert plan(source("a.py")).seconds is None
    assert plan(source("a.py"), recall=lambda task: Result()).seconds == 0.0


def deletion(**more):
    text = "".join(f"x{n} = {n}\n" for n in range(1, 60))
    return source("a.py", text, changed=more.pop("changed", frozenset()), **more)


def test_a_hunk_that_only_deletes_goes_to_general_and_is_skipped_by_nano():
    file = deletion(hunks=(Hunk(1, 4, frozenset(), ("gone()",)),))
    made = plan(file)
    assert made.tasks == ()
    assert made.skipped == (Skipped("a.py", "nano does not review changes that only delete"),)
    (task,) = plan(file, protocol=GENERAL).tasks
    assert task.chunk.removed == ("gone()",)


def test_beside_other_changes_the_lines_of_a_deletion_are_named():
    file = deletion(
        changed=frozenset({50}),
        hunks=(Hunk(1, 4, frozenset(), ("gone()",)), Hunk(48, 52, frozenset({50}))),
    )
    made = plan(file)
    assert [task.chunk.changed for task in made.tasks] == [frozenset({50})]
    (skip,) = made.skipped
    assert skip.reason.startswith("nano does not review changes that only delete: lines 1-")


def test_a_file_of_a_diff_without_a_changed_line_is_listed():
    assert plan(deletion()).skipped == (Skipped("a.py", "no line is added or changed"),)


def test_an_unchanged_part_is_asked_only_where_its_findings_are_wanted():
    chunks = [
        Chunk("a.py", "python", 1, ("x",), frozenset()),
        Chunk("a.py", "python", 2, ("y",), frozenset({2})),
    ]
    file = source("a.py", "x\ny\n", changed=frozenset({2}))
    for context, expected in ((False, 1), (True, 2)):
        made = make_plan(
            scope(file),
            Inspector(NANO, 0.5, context_findings=context),
            model(),
            lambda _: chunks,
            lambda task: None,
            None,
            None,
        )
        assert len(made.tasks) == expected
