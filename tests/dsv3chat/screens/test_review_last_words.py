"""What the review screen says after the end, after a failure and where there is little room."""

from __future__ import annotations

import pytest

from dsv3chat.review.baseline import BASELINE_FILE, Baseline
from dsv3chat.screens.picker import Picker
from dsv3chat.screens.review_state import ReviewState
from dsv3chat.widgets.finding_list import heading
from tests.dsv3chat.screens.scripted_review import (
    FINDINGS,
    ScriptedReview,
    job_of,
    make_scope,
)


def keys(s) -> str:
    return s.screen._keys.text


async def test_esc_is_called_stop_while_it_runs_and_leave_after_the_end(opened, tmp_path):
    review = ScriptedReview(make_scope(tmp_path / "work"), hold=3)
    async with opened(review) as s:
        await s.until(lambda: "esc stop" in keys(s))
        review.go_on.set()
        await s.until(lambda: "esc leave" in keys(s))
        assert "stop" not in keys(s)


async def test_esc_is_called_leave_once_the_review_is_told_to_stop(opened, tmp_path):
    review = ScriptedReview(make_scope(tmp_path / "work"), hold=3)
    review.stop = review.stopped.set  # it takes its time to end
    async with opened(review) as s:
        await s.until(lambda: "esc stop" in keys(s))
        await s.press("escape")
        await s.until(lambda: "esc leave" in keys(s))
        review.go_on.set()


@pytest.mark.parametrize(("size", "clears"), [((80, 24), 2), ((120, 36), 0)])
async def test_a_notice_replaces_those_before_it_where_there_is_little_room(
    opened, monkeypatch, size, clears
):
    async with opened(size=size) as s:
        cleared = []
        monkeypatch.setattr(s.app, "clear_notifications", lambda: cleared.append(1))
        await s.press("c", "b")
        await s.tells("no finding was in the baseline or suppressed")
        assert len(cleared) == clears


async def test_b_after_i_says_where_the_ignored_finding_is(opened):
    async with opened() as s:
        await s.press("i")
        await s.until(lambda: (s.root / BASELINE_FILE).exists())
        await s.press("b")
        await s.tells("what you put aside stays in the list")


async def test_a_baseline_that_the_review_began_goes_with_its_last_finding(opened):
    async with opened() as s:
        file = s.root / BASELINE_FILE
        await s.press("i")
        await s.until(lambda: s.screen.current.mark == "ignored")
        await s.press("j", "i")
        await s.until(lambda: len(Baseline.read(file)) == 2)
        await s.press("i")
        await s.until(lambda: len(Baseline.read(file)) == 1)
        await s.press("k", "i")
        await s.until(lambda: not file.exists())


async def test_a_baseline_that_was_there_stays_when_it_is_empty(opened):
    async with opened() as s:
        file = s.root / BASELINE_FILE
        Baseline().write(file)
        await s.press("i")
        await s.until(lambda: s.screen.current.mark == "ignored")
        await s.press("i")
        await s.until(lambda: s.screen.current.mark == "")
        assert len(Baseline.read(file)) == 0


async def test_an_export_that_fails_names_its_file_and_the_prompt_says_what_to_type(opened):
    async with opened() as s:
        await s.press("e")
        await s.until(lambda: isinstance(s.app.screen, Picker) and s.app.screen.query("Input"))
        assert s.app.screen.query_one("Input").placeholder == "a format, or a file's name"
        await s.press(*"none/out.json", "enter")
        await s.tells(f"not exported to {s.root}/none/out.json: No such file or directory")


async def test_a_second_run_that_fails_leaves_no_file_running(opened, tmp_path):
    review = ScriptedReview(make_scope(tmp_path / "work"))
    async with opened(review, prepare=lambda on_load: job_of(review)) as s:
        review.hold, review.crash = 2, OSError("the model is gone")
        await s.press("r")
        await s.until(lambda: s.screen.session.state.num_files("running"))
        review.go_on.set()
        await s.until(lambda: s.screen.session.error is not None)
        assert {file.status for file in s.screen.session.state.files.values()} == {"stopped"}


def test_what_was_done_before_a_failure_stays_done(tmp_path):
    review, state = ScriptedReview(make_scope(tmp_path), FINDINGS), ReviewState()
    state.begin(review.scope)
    events = review.events()
    state.absorb(next(events) for _ in range(6))  # the first file and the beginning of the second
    state.break_off()
    assert [file.status for file in state.files.values()] == ["findings", "stopped", "stopped"]


@pytest.mark.parametrize("width", [24, 30, 39, 60, 84, 120])
@pytest.mark.parametrize("order", ["severity", "confidence, filtered"])
def test_the_heading_says_the_order_whole_and_drops_columns_that_have_no_room(width, order):
    text = heading(width, order).plain
    assert f"by {order}" in text
    assert len(text) <= width - 1
    assert ("TITLE" in text) == (width >= 60)
