"""The whole pipeline with a scripted model: events, order, failure, stop, cache, resume, budget, baseline."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dsv3chat.review.ask import Asker
from dsv3chat.review.baseline import OVER_LIMIT, Baseline
from dsv3chat.review.cache import ReviewCache
from dsv3chat.review.inspection import BELOW_CONFIDENCE, DUPLICATE
from dsv3chat.review.reviewer import NO_CONFIDENCE, NothingToResumeError
from dsv3chat.review.second_look import VERIFY_FROM_PARAMETERS
from dsv3chat.review.values import (
    Chunk,
    ChunkDone,
    FileDone,
    FileStarted,
    FindingFound,
    Hunk,
    ReviewFinished,
    ReviewOptions,
    ReviewStarted,
    Severity,
    Skipped,
)
from engine import Failed, ModelNotFoundError, RequestTooLargeError
from tests.dsv3chat.review.scripted import (
    EMPTY,
    GENERAL,
    ScriptedBackend,
    answer,
    closed,
    finding,
    general_finding,
    model,
    review,
    run,
    scope,
    source,
)

SECONDS = 60  # before a test gives up
FUNCTIONS = "def f(x):\n    return x\n\n\ndef g(x):\n    return x\n"


def by_path(replies, default=EMPTY):
    """A reply that depends on the file that is asked about."""

    def reply(messages, params):
        path = messages[1].content.split("\n")[0].removeprefix("File: ")
        return replies.get(path, default)

    return reply


def held_at(path):
    """A backend with a finding for each file, which never comes to the end of the answer about `path`."""
    backend = ScriptedBackend()

    def reply(messages, params):
        if messages[1].content.startswith(f"File: {path}\n"):
            backend.go.clear()
        return answer(finding())

    backend.reply = reply
    return backend


def files(names, text="x = 1\ny = 2\n"):
    return [source(f"{name}.py", text) for name in names]


@pytest.fixture
def cache(tmp_path):
    opened = ReviewCache(tmp_path / "answers.db")
    yield opened
    opened.close()


# ---- events and order


def test_the_events_of_a_file_come_in_their_order_and_the_report_last():
    events = list(review(ScriptedBackend(answer(finding())), *files("a")).events())
    assert [type(event) for event in events] == [
        ReviewStarted,
        FileStarted,
        FindingFound,
        ChunkDone,
        FileDone,
        ReviewFinished,
    ]
    assert events[-2] == FileDone("a.py", "findings", 1)
    assert events[0].num_chunks == 1


def test_the_report_is_by_path_and_line_whatever_finished_first():
    backend = ScriptedBackend(answer(finding(2), finding(1)))
    report = run(backend, *files("cab"))
    places = [(found.path, found.line) for found in report.findings]
    assert places == [(f"{name}.py", line) for name in "abc" for line in (1, 2)]
    assert report.reviewed == ("a.py", "b.py", "c.py")
    assert report.complete


def test_a_finding_carries_the_source_line_and_a_fingerprint():
    report = run(ScriptedBackend(answer(finding(2, "missing-call", "error"))), *files("a"))
    (found,) = report.findings
    assert (found.line_text, found.severity, found.title) == ("y = 2", Severity.HIGH, "Missing call")
    assert len(found.fingerprint) == 32


def test_an_empty_file_is_clean_and_asks_nothing():
    backend = ScriptedBackend()
    events = list(review(backend, source("a.py", "")).events())
    assert FileDone("a.py", "clean", 0) in events
    assert backend.asked == []
    assert backend.info is None


def test_the_same_finding_of_overlapping_chunks_is_one():
    chunks = [Chunk("a.py", "python", 1, ("x", "y")), Chunk("a.py", "python", 2, ("y", "z"))]
    started = review(
        ScriptedBackend(answer(finding(2))), source("a.py", "x\ny\nz\n"), split=lambda file: chunks
    )
    events = list(started.events())
    assert sum(isinstance(event, FindingFound) for event in events) == 1
    assert started.report.dropped == {DUPLICATE: 1}


def test_every_sampling_value_is_given_so_that_no_checkpoint_decides():
    backend = ScriptedBackend()
    run(backend, *files("a"), options=ReviewOptions(seed=5))
    ((_, params),) = backend.asked
    assert (params.temperature, params.top_k, params.top_p, params.min_p) == (0.0, 0, 1.0, 0.0)
    assert (params.repetition_penalty, params.seed, params.logprobs) == (1.0, 5, 0)
    assert '"maximum":2' in params.grammar.schema


# ---- concurrency and prefix


def test_files_are_asked_together_up_to_the_batch_size():
    backend = ScriptedBackend()
    backend.go.clear()
    started = review(backend, *files("abcdefgh"), model=model(concurrency=3))
    seen = []
    done = threading.Thread(target=lambda: seen.extend(started.events()))
    done.start()
    wait_for(lambda: len(backend.asked) == 1)
    backend.go.set()
    done.join(SECONDS)
    assert len(backend.asked) == 8
    assert backend.most_running <= 3


def test_the_first_chunk_goes_alone_until_its_prefix_is_there():
    backend = ScriptedBackend()
    backend.go.clear()
    started = review(backend, *files("abcd"))
    thread = threading.Thread(target=lambda: list(started.events()))
    thread.start()
    wait_for(lambda: backend.num_running == 1)
    assert not wait_for(lambda: len(backend.asked) > 1, seconds=0.2)
    backend.go.set()
    thread.join(SECONDS)
    assert len(backend.asked) == 4


# ---- confidence


def test_confidence_is_the_models_own_and_forced_tokens_do_not_count():
    backend = ScriptedBackend(
        answer(finding()), logprob=-0.05, forced=("line", "severity", "rule", '":', '":"')
    )
    (found,) = run(backend, *files("a")).findings
    assert 0.5 < found.confidence < 0.9
    sure = ScriptedBackend(answer(finding()), logprob=-0.05)
    assert (
        run(sure, *files("a"), options=ReviewOptions(min_confidence=0.0)).findings[0].confidence
        < found.confidence
    )


def test_an_uncertain_finding_is_dropped_and_counted():
    report = run(ScriptedBackend(answer(finding()), logprob=-3.0), *files("a"))
    assert (report.findings, report.dropped) == ((), {BELOW_CONFIDENCE: 1})
    assert report.complete


def test_a_backend_without_probabilities_is_said_in_the_report():
    report = run(ScriptedBackend(answer(finding()), logprob=None), *files("a"))
    assert report.findings[0].confidence == 1.0
    assert report.notes == (NO_CONFIDENCE,)


@pytest.mark.parametrize(("parameters", "asked"), [(None, 1), (1000, 1), (VERIFY_FROM_PARAMETERS, 2)])
def test_the_second_look_is_on_where_the_model_is_large_enough(parameters, asked):
    backend = ScriptedBackend(answer(finding()))
    run(backend, *files("a", FUNCTIONS), model=model(num_parameters=parameters))
    assert len(backend.asked) == asked


# ---- failure


def test_a_file_without_an_answer_has_failed_and_the_others_go_on():
    report = run(ScriptedBackend(by_path({"b.py": "I cannot."}, answer(finding()))), *files("abc"))
    assert report.reviewed == ("a.py", "c.py")
    (failed,) = report.failed
    assert failed.path == "b.py"
    assert "the answer is no JSON" in failed.reason
    assert report.raw_answers == (("b.py", 1, "I cannot."),)
    assert not report.complete
    assert not report.interrupted


@pytest.mark.parametrize(
    "reply",
    [RequestTooLargeError("too large for me"), Failed("too large for me", "GenerationError")],
    ids=["refused", "failed"],
)
def test_a_request_that_fails_fails_its_file_in_the_engines_words(reply):
    report = run(ScriptedBackend(by_path({"a.py": reply})), *files("ab"))
    assert report.failed == (Skipped("a.py", "too large for me"),)
    assert report.reviewed == ("b.py",)


def test_a_broken_engine_ends_the_review_with_its_own_words():
    backend = ScriptedBackend(by_path({"b.py": closed("the engine broke: NaN")}, answer(finding())))
    started = review(backend, *files("abc"), model=model(concurrency=1))
    events = list(started.events())
    report = started.report
    assert [event.path for event in events if isinstance(event, FileDone)] == ["a.py", "b.py", "c.py"]
    assert report.reviewed == ("a.py",)
    assert report.failed == (
        Skipped("b.py", "the engine broke: NaN"),
        Skipped("c.py", "the engine broke: NaN"),
    )
    assert report.notes == ("the engine broke: NaN",)
    assert len(report.findings) == 1
    assert not report.complete


def test_answers_that_were_under_way_when_the_engine_broke_are_counted_once():
    backend = ScriptedBackend(by_path({"b.py": closed()}, answer(finding())))
    started = review(backend, *files("abcdef"), model=model(concurrency=4))
    done = [event.path for event in started.events() if isinstance(event, FileDone)]
    report = started.report
    assert sorted(done) == [f"{name}.py" for name in "abcdef"]
    assert sorted([*report.reviewed, *(failed.path for failed in report.failed)]) == sorted(done)


def test_a_model_that_does_not_load_is_the_callers_error():
    backend = ScriptedBackend()
    backend.load_error = ModelNotFoundError("no such model")
    with pytest.raises(ModelNotFoundError, match="no such model"):
        list(review(backend, *files("abcde")).events())


def test_a_fault_of_this_program_is_raised_and_not_a_failed_file(monkeypatch):
    monkeypatch.setattr(Asker, "ask", lambda self, question, watcher: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(review(ScriptedBackend(), *files("ab")).events())


# ---- stop


def test_a_stop_keeps_what_was_finished_and_says_so():
    started = review(held_at("b.py"), *files("abc"), model=model(concurrency=1))
    events = []
    for event in started.events():
        events.append(event)
        if event == FileStarted("b.py", 1):
            started.stop()
    report = started.report
    assert report.interrupted
    assert not report.complete
    assert report.reviewed == ("a.py",)
    assert report.failed == (Skipped("b.py", "stopped"), Skipped("c.py", "stopped"))
    assert [found.path for found in report.findings] == ["a.py"]
    assert FileDone("b.py", "stopped", 0, "stopped") in events


def test_a_stop_from_another_thread_ends_running_answers():
    backend = ScriptedBackend()
    backend.go.clear()
    started = review(backend, *files("ab"))
    thread = threading.Thread(target=lambda: list(started.events()))
    thread.start()
    wait_for(lambda: backend.num_running == 1)
    started.stop()
    started.stop()
    thread.join(SECONDS)
    assert started.report.interrupted
    assert started.report.reviewed == ()
    assert [skipped.reason for skipped in started.report.failed] == ["stopped", "stopped"]


def test_a_stop_ends_the_loading_too():
    backend = ScriptedBackend()
    backend.may_load.clear()
    started = review(backend, *files("a"))
    thread = threading.Thread(target=lambda: list(started.events()))
    thread.start()
    backend.loading.wait(SECONDS)
    started.stop()
    thread.join(SECONDS)
    assert started.report.interrupted
    assert backend.asked == []


def test_a_stop_before_the_start_asks_nothing():
    backend = ScriptedBackend()
    started = review(backend, *files("a"))
    started.stop()
    list(started.events())
    assert started.report.interrupted
    assert backend.asked == []


def test_a_stop_after_the_end_interrupts_nothing():
    started = review(ScriptedBackend(), *files("a"))
    events = started.events()
    while not isinstance(next(events), FileDone):
        pass
    started.stop()
    list(events)
    assert started.report.complete
    assert not started.report.interrupted


def test_who_stops_reading_stops_the_review():
    backend = ScriptedBackend()
    backend.go.clear()
    events = review(backend, *files("ab")).events()
    next(events)
    next(events)
    wait_for(lambda: backend.num_running == 1)
    events.close()
    assert wait_for(lambda: backend.num_running == 0)


# ---- cache and resume


def test_a_second_run_of_an_unchanged_tree_loads_no_model(cache):
    first = run(ScriptedBackend(answer(finding())), *files("abc"), cache=cache)
    backend = ScriptedBackend()
    again = review(backend, *files("abc"), cache=cache)
    assert len(again.plan.pending) == 0
    events = list(again.events())
    assert backend.info is None
    assert again.report.findings == first.findings
    assert (again.report.cached_chunks, again.report.prompt_tokens) == (3, 0)
    assert FileDone("a.py", "findings", 1, from_cache=True) in events


@pytest.mark.parametrize(
    "change",
    [
        {"model": model(digest="other")},
        {"protocol": GENERAL},
        {"options": ReviewOptions(passes=2)},
        {"options": ReviewOptions(verify=True)},
    ],
    ids=["model", "protocol", "passes", "verify"],
)
def test_another_model_protocol_or_way_of_asking_is_asked_anew(cache, change):
    run(ScriptedBackend(answer(finding())), *files("a", FUNCTIONS), cache=cache)
    assert len(review(ScriptedBackend(), *files("a", FUNCTIONS), cache=cache, **change).plan.pending) == 1


def test_only_the_changed_file_is_asked_again(cache):
    run(ScriptedBackend(), *files("abc"), cache=cache)
    backend = ScriptedBackend()
    run(backend, *files("ac"), source("b.py", "changed = 1\n"), cache=cache)
    assert [messages[1].content.split("\n")[0] for messages, _ in backend.asked] == ["File: b.py"]


def test_a_threshold_a_baseline_or_a_comment_asks_nothing_anew(cache):
    file = source("a.py", "x = 1\ny = 2\n")
    run(ScriptedBackend(answer(finding()), logprob=-0.2), file, cache=cache)
    backend = ScriptedBackend()
    report = run(backend, file, cache=cache, options=ReviewOptions(min_confidence=0.0))
    assert len(report.findings) == 1
    assert backend.asked == []


def test_what_failed_is_not_remembered(cache):
    run(ScriptedBackend("nonsense"), *files("a"), cache=cache)
    backend = ScriptedBackend(answer(finding()))
    assert len(run(backend, *files("a"), cache=cache).findings) == 1


def test_an_answer_that_took_a_retry_is_remembered_with_it(cache):
    replies = iter(["nonsense", answer(finding())])
    run(ScriptedBackend(lambda m, p: next(replies)), *files("a"), cache=cache)
    backend = ScriptedBackend()
    assert len(run(backend, *files("a"), cache=cache).findings) == 1
    assert backend.asked == []


def test_after_a_stop_the_review_is_resumed_and_only_the_rest_is_asked(cache):
    started = review(held_at("c.py"), *files("abcd"), model=model(concurrency=1), cache=cache)
    for event in started.events():
        if event == FileStarted("c.py", 1):
            started.stop()
    second = ScriptedBackend(answer(finding()))
    report = run(second, *files("abcd"), cache=cache, options=ReviewOptions(resume=True))
    assert report.complete
    assert len(report.findings) == 4
    assert (report.cached_chunks, len(second.asked)) == (2, 2)


def test_resume_refuses_where_no_review_of_this_scope_is_unfinished(cache):
    for number in range(2):
        with pytest.raises(NothingToResumeError, match="nothing to resume: no review of test with scripted"):
            review(ScriptedBackend(), *files("a"), cache=cache, options=ReviewOptions(resume=True))
        if number == 0:
            run(ScriptedBackend(), *files("a"), cache=cache)
    with pytest.raises(NothingToResumeError):
        review(ScriptedBackend(), *files("a"), options=ReviewOptions(resume=True))


def test_a_review_with_a_failed_file_can_be_resumed(cache):
    run(ScriptedBackend(by_path({"a.py": "no"})), *files("ab"), cache=cache)
    backend = ScriptedBackend()
    report = run(backend, *files("ab"), cache=cache, options=ReviewOptions(resume=True))
    assert (report.complete, len(backend.asked)) == (True, 1)


# ---- budget, limits, baseline, suppression


def test_beyond_the_budget_files_are_listed_and_the_report_is_not_complete():
    one = review(ScriptedBackend(), *files("a")).plan.prompt_tokens
    started = review(ScriptedBackend(), *files("abc"), options=ReviewOptions(max_prompt_tokens=one))
    events = list(started.events())
    report = started.report
    assert report.reviewed == ("a.py",)
    assert report.failed == (Skipped("b.py", "budget"), Skipped("c.py", "budget"))
    assert not report.complete
    assert not report.interrupted
    assert FileDone("b.py", "failed", 0, "budget") in events


def test_what_a_damaged_diff_hides_has_failed_though_all_else_was_reviewed():
    damaged = Skipped("0.py", "its diff is damaged")
    started = review(ScriptedBackend(), scope=replace(scope(*files("a")), failed=(damaged,)))
    events = list(started.events())
    report = started.report
    assert (report.reviewed, report.failed) == (("a.py",), (damaged,))
    assert not report.complete
    assert not report.interrupted
    assert events[0].num_files == 2
    assert FileDone("0.py", "failed", 0, "its diff is damaged") in events


def test_a_file_that_fits_the_budget_in_part_says_from_which_line_it_is_not_reviewed():
    chunks = [Chunk("a.py", "python", 1, ("x",)), Chunk("a.py", "python", 2, ("y",))]
    file = source("a.py", "x\ny\n")
    one = review(ScriptedBackend(), file, split=lambda f: chunks[:1]).plan.prompt_tokens
    report = run(
        ScriptedBackend(), file, split=lambda f: chunks, options=ReviewOptions(max_prompt_tokens=one)
    )
    assert report.failed == (Skipped("a.py", "budget: not reviewed from line 2 on"),)


def test_the_limit_keeps_the_most_severe_then_the_most_certain():
    said = answer(finding(1, "off-by-one", "info"), finding(2, "sql-injection"), finding(2, "bare-except"))
    report = run(ScriptedBackend(said), *files("a"), options=ReviewOptions(max_findings=2))
    assert [found.rule for found in report.findings] == ["bare-except", "sql-injection"]
    assert report.dropped == {OVER_LIMIT: 1}


def test_known_findings_are_baseline_and_take_no_place_of_the_limit():
    backend = ScriptedBackend(answer(finding(1), finding(2)))
    first = run(backend, *files("a"))
    baseline = Baseline().adding(first.findings[:1])
    report = run(backend, *files("a"), baseline=baseline, options=ReviewOptions(max_findings=1))
    assert [found.state for found in report.findings] == ["baseline", "new"]
    assert report.new_findings == report.findings[1:]


def test_a_comment_suppresses_its_findings_and_an_unused_one_is_reported():
    text = "x = 1  # dsv3: ignore[bug]\ny = 2  # dsv3: ignore[security]\n"
    report = run(ScriptedBackend(answer(finding(1))), source("a.py", text))
    assert [found.state for found in report.findings] == ["suppressed"]
    assert report.unused_suppressions == (("a.py", 2, "security"),)
    assert report.new_findings == ()


def test_a_comment_in_a_file_that_failed_is_not_called_unused():
    report = run(ScriptedBackend("no"), source("a.py", "x = 1  # dsv3: ignore\n"))
    assert report.unused_suppressions == ()


def test_in_a_diff_a_comment_on_unchanged_lines_is_not_called_unused():
    text = "x = 1  # dsv3: ignore\n\n\ny = 2  # dsv3: ignore\n"
    file = source("a.py", text, changed=frozenset({4}), hunks=(Hunk(1, 4, frozenset({4})),))
    assert run(ScriptedBackend(), file).unused_suppressions == (("a.py", 4, ""),)


def test_findings_below_the_threshold_do_not_use_a_comment_up():
    report = run(ScriptedBackend(answer(finding(1)), logprob=-3.0), source("a.py", "x = 1  # dsv3: ignore\n"))
    assert report.unused_suppressions == (("a.py", 1, ""),)


@pytest.mark.parametrize(
    ("suggestion", "kept"), [("y = 2", ""), ("y = 2  \n", ""), ("y = 3", "y = 3"), ("  y = 2", "  y = 2")]
)
def test_a_suggestion_that_is_what_stands_there_is_none(suggestion, kept):
    (found,) = run(ScriptedBackend(answer(finding(line=2, suggestion=suggestion))), *files("a")).findings
    assert found.suggestion == kept


def test_a_finding_of_several_lines_holds_their_source():
    text = answer(general_finding(1, 2) | {"suggestion": "x = 1\ny = 2"})
    (found,) = run(ScriptedBackend(text), *files("a"), protocol=GENERAL).findings
    assert (found.line_text, found.suggestion) == ("x = 1\ny = 2", "")


# ---- figures


def test_the_report_counts_what_this_run_asked_of_the_model():
    report = run(ScriptedBackend(answer(finding())), *files("abc"))
    assert report.num_chunks == 3
    assert report.prompt_tokens > 3 * 50
    assert report.reused_tokens == 3 * 32
    assert report.completion_tokens > 0


def test_the_speed_of_a_review_is_the_first_estimate_of_the_next(cache):
    text = "x = 1\n" * 60
    first = review(ScriptedBackend(), *files("abcd", text), cache=cache)
    started, *_ = first.events()
    assert started.seconds_left is None
    second = review(ScriptedBackend(), *files("ef", text), cache=cache)
    assert second.plan.seconds > 0
    assert next(second.events()).seconds_left == pytest.approx(second.plan.seconds)


def test_a_small_review_gives_an_estimate_where_there_is_none_and_replaces_none(cache):
    list(review(ScriptedBackend(), *files("a"), cache=cache).events())
    small = review(ScriptedBackend(), *files("b"), cache=cache).plan.seconds
    assert small > 0
    cache.keep_rate("d test", 1.0)
    list(review(ScriptedBackend(), *files("b"), cache=cache).events())
    assert cache.rate("d test") == 1.0


def test_skipped_files_of_the_scope_and_of_the_protocol_are_in_the_report():
    covered = scope(source("b.go", language="go"), skipped=[Skipped("a.bin", "binary")], root=Path("/x"))
    report = run(ScriptedBackend(), scope=covered)
    assert [skip.path for skip in report.skipped] == ["a.bin", "b.go"]
    assert report.root == Path("/x")
    assert report.complete


def wait_for(condition, seconds=SECONDS):
    """True as soon as the condition holds, False after so many seconds."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.005)):
        if condition():
            return True
        pause.wait(0.005)
    return False
