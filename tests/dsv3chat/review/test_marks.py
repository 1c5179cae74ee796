"""Verdicts are kept line by line, privately, and the last one counts."""

from __future__ import annotations

import json

from dsv3chat.review.marks import add_mark, false_fingerprints
from dsv3chat.review.values import Finding, Severity


def finding(fingerprint: str) -> Finding:
    return Finding("a\x1b.py", 1, 1, Severity.LOW, "r", "t", "m [", "", 0.5, "x\n", fingerprint)


def test_the_last_verdict_of_a_root_counts(tmp_path):
    path = tmp_path / "state" / "marks.jsonl"
    for name, verdict, root in (
        ("aa", "false", tmp_path),
        ("bb", "false", tmp_path),
        ("bb", "withdrawn", tmp_path),
        ("cc", "false", tmp_path / "elsewhere"),
        ("dd", "applied", tmp_path),
    ):
        add_mark(finding(name), verdict, root, "nano", "nano", path)
    assert false_fingerprints(tmp_path, path) == {"aa"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_each_line_is_one_ascii_record_and_a_broken_one_is_passed_over(tmp_path):
    path = tmp_path / "marks.jsonl"
    add_mark(finding("aa"), "false", tmp_path, "nano", "nano", path)
    assert json.loads(path.read_text(encoding="ascii"))["message"] == "m ["
    with path.open("ab") as file:
        file.write(b"\xff{\n[]\n")
    add_mark(finding("bb"), "false", tmp_path, "nano", "nano", path)
    assert false_fingerprints(tmp_path, path) == {"aa", "bb"}
    assert false_fingerprints(tmp_path, tmp_path / "missing") == frozenset()
