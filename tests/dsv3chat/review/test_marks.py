"""Verdicts are kept line by line, privately, as ASCII that no control character leaves."""

from __future__ import annotations

import json

from dsv3chat.review.marks import add_mark
from dsv3chat.review.values import Finding, Severity


def finding(fingerprint: str) -> Finding:
    return Finding("a\x1b.py", 1, 1, Severity.LOW, "r", "t", "m [", "", 0.5, "x\n\x9b", fingerprint)


def test_each_verdict_is_a_line_of_its_own_and_earlier_ones_stay(tmp_path):
    path = tmp_path / "state" / "marks.jsonl"
    for name, verdict in (("aa", "false"), ("bb", "applied"), ("aa", "withdrawn")):
        add_mark(finding(name), verdict, tmp_path, "nano", "nano", path)
    records = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
    assert [(r["fingerprint"], r["verdict"]) for r in records] == [
        ("aa", "false"),
        ("bb", "applied"),
        ("aa", "withdrawn"),
    ]
    assert {r["root"] for r in records} == {str(tmp_path)}
    assert records[0]["line_text"] == "x\n\x9b"
    assert records[0]["severity"] == "low"


def test_nobody_else_may_read_them(tmp_path):
    path = tmp_path / "state" / "marks.jsonl"
    add_mark(finding("aa"), "false", tmp_path, "nano", "nano", path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
