"""The review as a person meets it: it fills while it works, and every finding can be dealt with from the keyboard."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from textual.events import MouseMove

from dsv3chat.review.baseline import BASELINE_FILE, Baseline
from dsv3chat.review.marks import marks_path
from dsv3chat.review.values import Severity, Skipped
from dsv3chat.screens.review import ReviewScreen
from dsv3chat.screens.review_actions import ReviewActions
from dsv3chat.screens.review_keys import KEYS
from dsv3chat.settings import Settings
from engine import LoadProgress
from tests.dsv3chat.screens.scripted_review import (
    FINDINGS,
    KV,
    PACK,
    ScriptedReview,
    finding,
    job_of,
    make_scope,
)

SIZES = [(120, 36), (80, 24)]


def hold(tmp_path, after: int, **more) -> ScriptedReview:
    return ScriptedReview(make_scope(tmp_path / "work"), hold=after, **more)


@pytest.mark.parametrize("size", SIZES)
async def test_it_shows_findings_code_words_and_the_exit_code(opened, size):
    async with opened(size=size) as s:
        await s.shows(
            "git diff main...HEAD",
            "▸",
            "CRIT",
            "pack.py:2",
            "0.81",
            "Any text runs as code.",
            "-     return eval(x)",
            "+     return float(x)",
            "exit code 1",
        )
        await s.press("j")
        await s.shows("src/kv.py", "◀ HIGH 0.93", "hunk 1/2")
        await s.shows("3 + ┃         self.slot")  # the line's number, its change and the finding's bar


async def test_files_have_their_state_in_words_and_signs(opened, tmp_path):
    skipped = [Skipped("data.bin", "binary"), Skipped("src/gen_pb2.py", "generated")]
    scope = make_scope(tmp_path / "work", skipped=skipped)
    review = ScriptedReview(scope, failed=[Skipped("tests/test_kv.py", "no JSON in the answer")])
    async with opened(review) as s:
        await s.shows("– data.bin", "skip: bin", "● kv.py", "H1 M1", "✗ test_kv.py", "failed")
        await s.shows("incomplete: 1 file failed", "exit code 3")
        await s.press("shift+tab", "end")  # from the findings back to the files
        await s.shows("no JSON in the answer")


@pytest.mark.parametrize("size", SIZES)
async def test_findings_come_while_it_runs_and_the_worst_stands_first_until_the_person_moves(
    opened, tmp_path, size
):
    async with opened(hold(tmp_path, 3), size) as s:
        await s.until(lambda: "Ring slot advanced" in s.text and "eval of input" not in s.text)
        await s.shows("exit code will be 1")
        await s.shows("0/3 files", "ETA 06:20")
        await s.shows("● reviewing kv.py")
        s.review.go_on.set()
        await s.ended()
        assert s.screen.current.finding.title == "eval of input"


async def test_the_cursor_stays_on_its_finding_while_worse_ones_come_above_it(opened, tmp_path):
    async with opened(hold(tmp_path, 4)) as s:
        await s.shows("evict() frees")
        await s.press("j")
        s.review.go_on.set()
        await s.ended()
        assert s.screen.current.finding.title == "evict() frees a pinned page"
        assert s.screen.findings.cursor == 2


async def test_nothing_is_drawn_by_a_timer_after_the_end(opened):
    async with opened() as s:
        assert not s.screen.polls
        assert s.screen._timer._active.is_set() is False


async def test_apply_changes_the_file_and_undo_puts_it_back(opened):
    async with opened() as s:
        await s.press("a")
        await s.shows("applied")
        assert (s.root / "src/pack.py").read_text() == PACK.replace("return eval(x)", "return float(x)")
        await s.press("u")
        await s.until(lambda: s.screen.current.state == "new")
        assert (s.root / "src/pack.py").read_text() == PACK


async def test_apply_leaves_lines_that_changed_alone_and_says_so(opened):
    async with opened() as s:
        (s.root / "src/pack.py").write_text(PACK.replace("eval", "exec"))
        await s.press("a")
        await s.tells("no longer what was reviewed")
        assert "exec" in (s.root / "src/pack.py").read_text()
        assert s.screen.current.state == "new"


async def test_two_suggestions_of_one_file_apply_although_the_first_moves_the_second(opened, tmp_path):
    first = finding(line=3, suggestion="        a = 1\n        b = 2\n        c = 3", title="one")
    second = finding(line=10, suggestion="            release(p)", title="two", confidence=0.5)
    review = ScriptedReview(make_scope(tmp_path / "work"), [first, second])
    async with opened(review) as s:
        await s.press("a", "j", "a")
        await s.until(lambda: [i.mark for i in s.screen.findings.items] == ["applied", "applied"])
        lines = (s.root / "src/kv.py").read_text().splitlines()
        assert lines[2:5] == ["        a = 1", "        b = 2", "        c = 3"]
        assert lines[11] == "            release(p)"
        await s.press("k", "u", "j", "u")
        await s.until(lambda: not any(i.mark for i in s.screen.findings.items))
        assert (s.root / "src/kv.py").read_text() == KV


async def test_ignore_writes_the_baseline_and_again_takes_it_out(opened):
    async with opened() as s:
        mark = s.screen.current.finding.fingerprint
        await s.press("i")
        await s.shows("ignored")
        assert mark in Baseline.read(s.root / BASELINE_FILE)
        assert s.app.reviews.finish().findings[-1].state == "baseline"
        await s.press("i")
        await s.until(lambda: s.screen.current.is_new)
        assert not (s.root / BASELINE_FILE).exists()


async def test_ignore_goes_to_the_file_that_the_command_names_and_a_broken_one_is_not_touched(
    opened, tmp_path
):
    named = tmp_path / "known.json"
    named.write_text("{")
    async with opened(baseline=named) as s:
        await s.press("i")
        await s.tells("is not one")
        assert named.read_text() == "{"
        assert s.screen.current.is_new
        named.unlink()
        await s.press("i")
        await s.until(lambda: not s.screen.current.is_new)
        assert len(Baseline.read(named)) == 1


async def test_ignoring_every_serious_finding_changes_the_exit_code(opened):
    async with opened() as s:
        await s.shows("exit code 1")
        await s.press("i", "j", "i")
        await s.shows("exit code 0")


async def test_a_false_positive_is_kept_and_can_be_taken_back(opened):
    async with opened() as s:
        mark = s.screen.current.finding.fingerprint
        await s.press("f")
        await s.shows("(f takes it back)")
        assert s.app.reviews.finish().findings[-1].state == "suppressed"
        await s.press("f")
        await s.until(lambda: s.screen.current.is_new)
        kept = [json.loads(line) for line in marks_path().read_text().splitlines()]
        assert [(k["verdict"], k["fingerprint"]) for k in kept] == [("false", mark), ("withdrawn", mark)]


@pytest.mark.parametrize("size", SIZES)
async def test_the_filter_narrows_while_it_is_typed_and_esc_takes_it_away(opened, size):
    async with opened(size=size) as s:
        await s.press("/", *"sev:high")
        severities = lambda: [i.finding.severity for i in s.screen.findings.items]  # noqa: E731
        await s.until(lambda: severities() == [Severity.CRITICAL, Severity.HIGH])
        await s.press(*" ring", "enter")
        await s.until(
            lambda: [i.finding.title for i in s.screen.findings.items] == ["Ring slot advanced before write"]
        )
        await s.shows("filtered")
        await s.press("escape")
        await s.until(lambda: len(s.screen.findings.items) == 3)
        await s.press("/", *"nowhere")
        await s.shows("no finding has what is filtered for")


async def test_sort_goes_through_its_orders(opened):
    async with opened() as s:
        titles = lambda: [i.finding.line for i in s.screen.findings.items]  # noqa: E731
        assert titles() == [2, 3, 10]
        await s.press("s")
        await s.until(lambda: titles() == [3, 10, 2])  # place
        await s.press("s")
        await s.until(lambda: titles() == [3, 2, 10])  # confidence
        await s.press("s")
        await s.until(lambda: titles() == [3, 10, 2])  # time
        await s.shows("by time")


async def test_known_and_suppressed_findings_are_counted_and_shown_by_b(opened, tmp_path):
    findings = [FINDINGS[0], replace(FINDINGS[1], state="baseline"), replace(FINDINGS[2], state="suppressed")]
    async with opened(ScriptedReview(make_scope(tmp_path / "work"), findings)) as s:
        assert len(s.screen.findings.items) == 1
        await s.shows("baseline 1", "suppressed 1")
        await s.press("b")
        await s.until(lambda: len(s.screen.findings.items) == 3)
        await s.shows("evict() frees")


async def test_export_writes_the_report_and_never_over_a_file(opened):
    async with opened() as s:
        await s.press("e")
        await s.shows("Export", "sarif")
        await s.press(*"sarif", "enter")
        await s.tells("review.sarif")
        report = json.loads((s.root / "review.sarif").read_text())
        assert len(report["runs"][0]["results"]) == 3
        await s.press("e")
        await s.shows("Export", "sarif")
        await s.press(*"sarif", "enter")
        await s.until(lambda: (s.root / "review-2.sarif").exists())
        await s.press("e")
        await s.shows("Export", "sarif")
        await s.press(*"review.sarif")
        await s.shows("not overwritten")
        await s.press("enter")
        await s.tells("exists; give another name")


async def test_an_export_while_it_runs_has_what_there_is_so_far(opened, tmp_path):
    async with opened(hold(tmp_path, 4)) as s:
        await s.shows("evict() frees")
        await s.press("e")
        await s.shows("Export", "sarif")
        await s.press(*"out.json", "enter")
        await s.tells("so far")
        assert "evict" in (s.root / "out.json").read_text()
        assert "eval of input" not in (s.root / "out.json").read_text()


async def test_copy_takes_the_suggestion_or_the_finding(opened):
    async with opened() as s:
        await s.press("c")
        await s.until(lambda: s.app.clipboard == "    return float(x)")
        await s.press("j", "j", "c")
        await s.until(lambda: "src/kv.py:10 medium off-by-one" in s.app.clipboard)


@pytest.mark.parametrize("size", SIZES)
async def test_esc_stops_and_keeps_what_was_found_then_leaves(opened, tmp_path, size):
    async with opened(hold(tmp_path, 4), size) as s:
        await s.shows("evict() frees")
        await s.press("escape")
        await s.ended()
        assert s.app.is_running
        await s.shows("stopped", "evict() frees")
        await s.press("escape")
        await s.until(lambda: not s.app.is_running)
    report = s.app.reviews.finish()
    assert report.interrupted
    assert not report.complete
    assert len(report.findings) == 2


async def test_a_report_is_returned_when_the_program_is_ended_in_the_middle(opened, tmp_path):
    async with opened(hold(tmp_path, 4)) as s:
        await s.shows("evict() frees")
        s.app.end(143)
        await s.until(lambda: not s.app.is_running)
    report = s.app.reviews.finish()
    assert len(report.findings) == 2
    assert report.interrupted
    assert s.app.return_code == 143


async def test_a_review_that_never_ends_still_gives_what_it_told(opened, tmp_path, monkeypatch):
    monkeypatch.setattr("dsv3chat.screens.review_session._END_S", 0.1)
    review = hold(tmp_path, 4)
    monkeypatch.setattr(review, "stop", lambda: None)
    async with opened(review) as s:
        await s.shows("evict() frees")
        report = s.app.reviews.finish()
        assert [f.title for f in report.findings] == [FINDINGS[0].title, FINDINGS[1].title]
        assert not report.complete
        assert {f.path for f in report.failed} == {"src/kv.py", "src/pack.py", "tests/test_kv.py"}
        review.go_on.set()


async def test_a_second_run_replaces_what_the_first_one_found(opened):
    async with opened() as s:
        s.review.findings = FINDINGS[:1]
        await s.press("r")
        await s.ended()
        assert len(s.screen.findings.items) == 1


@pytest.mark.parametrize("size", SIZES)
async def test_panes_hunks_and_files_are_reached_from_the_keyboard(opened, size):
    async with opened(size=size) as s:
        for pane in ("code", "detail", "files", "findings"):
            await s.press("tab")
            await s.until(lambda pane=pane: s.app.focused is not None and s.app.focused.id == pane)
        await s.press("n")
        await s.until(lambda: s.screen.current.finding.path == "src/kv.py")
        await s.shows("hunk 1/2")
        await s.press("]")
        await s.shows("hunk 2/2")
        await s.press("]")
        await s.tells("none further down")
        await s.press("p")
        await s.until(lambda: s.screen.current.finding.path == "src/pack.py")


async def test_resizing_moves_the_files_and_keeps_the_finding(opened):
    async with opened() as s:
        await s.press("j")
        await s.pilot.resize_terminal(80, 24)
        await s.until(lambda: "FILES" not in s.text)
        assert s.screen.current.finding.title.startswith("Ring")
        await s.shows("◀ HIGH")
        await s.pilot.resize_terminal(120, 36)
        await s.shows("FILES")
        await s.pilot.resize_terminal(20, 8)
        await s.pilot.pause()
        await s.pilot.resize_terminal(120, 36)
        await s.shows("Ring slot")


async def test_help_shows_the_keys_as_they_are_bound(opened):
    async with opened(settings=Settings(keymap={"review.apply": "z"})) as s:
        await s.press("f1")
        await s.shows("In the review")
        await s.shows("put the suggestion into the file")
        await s.press("escape")
        await s.until(lambda: s.app.screen is s.screen)
        await s.press("z")
        await s.until(lambda: "float" in (s.root / "src/pack.py").read_text())


async def test_the_loading_of_the_model_is_shown(opened, tmp_path):
    def prepare(on_load):
        on_load(LoadProgress("reading weights", 50, 100, "layer [3"))
        return job_of(review)

    review = hold(tmp_path, 1)
    review.hold = 0
    original = review.events

    def held():
        review.go_on.wait(60)
        yield from original()

    review.events = held
    async with opened(review, prepare=prepare, wait=False) as s:
        await s.shows("50%", "loading: reading weights · layer [3")
        await s.shows("kv.py", "queued")
        review.go_on.set()
        await s.ended()
        await s.shows("3/3 files")


async def test_an_error_of_the_review_ends_the_program_and_is_handed_on(opened, tmp_path):
    def prepare(on_load):
        raise OSError("no weights [here")

    async with opened(prepare=prepare, wait=False) as s:
        await s.until(lambda: not s.app.is_running)
    assert str(s.app.reviews.error) == "no weights [here"
    assert s.app.reviews.finish() is None


async def test_an_editor_is_opened_at_the_line(opened, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "dsv3chat.screens.editor._run", lambda app, arguments, otherwise: calls.append(arguments)
    )
    monkeypatch.setenv("EDITOR", "vim -n")
    async with opened() as s:
        await s.press("j", "o")
        await s.until(lambda: calls == [["+3", str(s.root / "src/kv.py")]])
        monkeypatch.setenv("VISUAL", "/usr/bin/code --wait")
        await s.press("o")
        await s.until(lambda: calls[1:] == [["--goto", f"{s.root / 'src/kv.py'}:3"]])


async def test_thousands_of_findings_and_files_are_listed_and_the_last_is_a_key_away(opened, tmp_path):
    scope = make_scope(tmp_path / "elsewhere")
    files = [replace(scope.files[0], path=f"pkg{n % 50}/m{n}.py") for n in range(5000)]
    scope = replace(scope, files=tuple(sorted(files, key=lambda f: f.path)))
    many = [
        finding(f"pkg{n % 50}/m{n}.py", 3, title=f"number {n}", confidence=n / 10_000) for n in range(5000)
    ]
    many += [finding(f"pkg{n % 50}/m{n}.py", 10, title=f"second {n}", confidence=0.4) for n in range(5000)]
    async with opened(ScriptedReview(scope, many)) as s:
        assert len(s.screen.findings.items) == 10_000
        await s.press("end")
        await s.until(lambda: s.screen.findings.cursor == 9999)
        await s.shows("number 0 ")
        await s.until(lambda: s.screen.files.current.path == "pkg0/m0.py")


async def test_esc_after_the_end_asks_once_before_it_leaves_the_program(opened):
    async with opened() as s:
        await s.press("escape")
        await s.tells("esc again to leave")
        assert s.app.is_running
        await s.press("escape")
        await s.until(lambda: not s.app.is_running)
    assert s.app.reviews.finish().complete


async def test_every_key_is_in_the_palette(opened):
    async with opened() as s:
        await s.press("ctrl+p")
        await s.shows("Apply")
        await s.press(*"apply", "enter")
        await s.until(lambda: "float" in (s.root / "src/pack.py").read_text())


async def test_notes_of_the_report_are_told_and_unused_ignores_counted(opened, tmp_path):
    review = ScriptedReview(make_scope(tmp_path / "work"))
    report = review._report
    review._report = lambda: replace(
        report(), notes=("the cache is not used: [disk",), unused_suppressions=(("src/kv.py", 1, "x"),)
    )
    async with opened(review) as s:
        await s.tells("the cache is not used: [disk")
        await s.shows("unused ignores 1")


async def test_the_cursor_of_the_files_passes_folders_in_both_directions(opened):
    async with opened() as s:
        await s.press("shift+tab")
        await s.until(lambda: s.app.focused is s.screen.files)
        kv, pack, test = "src/kv.py", "src/pack.py", "tests/test_kv.py"
        keys = ("home", "j", "j", "j", "k", "k", "k", "end")
        for key, path in zip(keys, (kv, pack, test, test, pack, kv, kv, test), strict=True):
            await s.press(key)
            await s.until(lambda path=path: s.screen.files.current.path == path)
        await s.shows("clean")


async def test_enter_on_a_file_goes_to_its_findings(opened):
    async with opened(size=(80, 24)) as s:
        await s.press("shift+tab")
        await s.until(lambda: s.app.focused is s.screen.files)
        await s.press("home", "enter")
        await s.until(lambda: s.app.focused is s.screen.findings)
        assert s.screen.current.finding.path == "src/kv.py"
        await s.shows("WHERE")


async def test_a_second_run_that_fails_keeps_the_program_and_the_first_report(opened, tmp_path):
    runs = []

    def prepare(on_load):
        runs.append(1)
        if len(runs) == 2:
            raise OSError("the model is gone [")
        return job_of(review)

    review = ScriptedReview(make_scope(tmp_path / "work"))
    async with opened(review, prepare=prepare) as s:
        await s.press("i", "r")
        await s.ended()
        await s.shows("✗ the model is gone [")
        assert s.app.is_running
    report = s.app.reviews.finish()
    assert [f.state for f in report.findings].count("baseline") == 1


async def test_code_is_selected_with_the_mouse_and_copied_without_its_margin(opened):
    async with opened() as s:
        await s.pilot.mouse_down("#code", offset=(10, 0))
        await s.pilot._post_mouse_events([MouseMove], "#code", offset=(40, 1), button=1)
        await s.pilot.mouse_up("#code", offset=(40, 1))
        await s.press("ctrl+c")
        await s.until(lambda: s.app.clipboard == PACK.removesuffix("\n"))
        assert s.app.is_running


async def test_a_click_puts_the_cursor_on_a_finding_and_a_file(opened):
    async with opened() as s:
        await s.pilot.click("#findings", offset=(20, 2))
        await s.until(lambda: s.screen.current.finding.line == 10)
        await s.pilot.click("#files", offset=(5, 2))
        await s.until(lambda: s.screen.current.finding.path == "src/pack.py")


def test_every_key_does_something_that_there_is():
    for binding in KEYS:
        name, _, argument = binding.action.partition("(")
        assert hasattr(ReviewScreen, f"action_{name}"), binding.action
        if name == "finding":
            verb = argument.strip("')")
            assert hasattr(ReviewActions, {"false_positive": "mark_false", "editor": "edit"}.get(verb, verb))
