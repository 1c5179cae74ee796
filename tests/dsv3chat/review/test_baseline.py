"""The file of known findings: stable, strict, and never emptied by a review that did not look."""

import json
from pathlib import Path

import pytest

from dsv3chat.review.baseline import OVER_LIMIT, Baseline, BaselineError
from dsv3chat.review.values import Finding, Report, Severity, Skipped


def found(path="a.py", mark="f1", state="new", rule="bug"):
    return Finding(path, 1, 1, Severity.LOW, rule, "t", "m", "", 1.0, "x", mark, state)


def report(*findings, reviewed=("a.py",), failed=(), dropped=None):
    failures = tuple(Skipped(path, "failed") for path in failed)
    return Report("s", Path("/r"), "m", "p", "nano", tuple(findings), reviewed, (), failures, dropped or {})


def known(*findings):
    return Baseline().adding(findings)


def test_what_is_written_is_read_back(tmp_path):
    file = tmp_path / "base.json"
    baseline = known(found(mark="1"), found("ä\n.py", "2"))
    baseline.write(file)
    assert Baseline.read(file) == baseline
    assert [entry.name for entry in tmp_path.iterdir()] == ["base.json"]


def test_equal_baselines_are_equal_files_sorted_by_path():
    one = known(found("b.py", "1"), found("a.py", "2"))
    other = known(found("a.py", "2"), found("b.py", "1"))
    assert one.text() == other.text()
    assert [entry["path"] for entry in json.loads(one.text())["findings"]] == ["a.py", "b.py"]


def test_an_update_adds_what_is_found_and_prunes_what_is_gone():
    before = known(found(mark="gone"), found(mark="stays"))
    after = before.updated(
        report(found(mark="stays", state="baseline"), found(mark="fresh")), whole_files=True
    )
    assert set(after.entries) == {"stays", "fresh"}


def test_an_update_keeps_entries_of_files_that_were_not_reviewed_or_failed():
    before = known(found("b.py", "other"), found("c.py", "failed"), found("a.py", "gone"))
    after = before.updated(report(failed=("c.py",)), whole_files=True)
    assert set(after.entries) == {"other", "failed"}


def test_an_update_from_a_diff_or_a_cut_list_prunes_nothing():
    before = known(found(mark="elsewhere in the file"))
    assert before.updated(report(), whole_files=False) == before
    assert before.updated(report(dropped={OVER_LIMIT: 2}), whole_files=True) == before


def test_suppressed_findings_do_not_enter():
    assert len(Baseline().updated(report(found(state="suppressed")), whole_files=True)) == 0


def test_entries_of_files_that_are_gone_are_pruned(tmp_path):
    (tmp_path / "a.py").write_text("")
    assert set(known(found("a.py", "1"), found("b.py", "2")).pruned(tmp_path).entries) == {"1"}


def test_entries_can_be_taken_out_again():
    assert set(known(found(mark="1"), found(mark="2")).removing(["1", "none"]).entries) == {"2"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"\xff", "not UTF-8"),
        (b"{\n", "is not one: it is no JSON .line 2, column 1: expecting property name"),
        (b"[" * 100_000, "is not one: it is no JSON"),
        (b"[]", 'is not one: expected is an object with "version" and a list "findings"'),
        (b'{"version": 1}', 'is not one: expected is an object with "version" and a list "findings"'),
        (b'{"findings": []}', "it has version null, this program reads 1"),
        (b'{"version": 2, "findings": []}', "it has version 2, this program reads 1"),
        (
            b'{"version": 1, "findings": [{"path": "a"}]}',
            "finding 1 lacks one of fingerprint, path, rule, each a text",
        ),
        (b'{"version": 1, "findings": [7]}', "finding 1 lacks"),
    ],
)
def test_a_file_that_is_no_baseline_is_refused_with_what_to_do(tmp_path, content, words):
    file = tmp_path / "base.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BaselineError, match=f"{words}.*--update-baseline"):
        Baseline.read(file)


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(BaselineError, match="cannot be written: No such file"):
        Baseline().write(tmp_path / "none" / "base.json")
