"""The labelled set is what it says: code that parses, findings on its own lines, every rule, twins alike but for the defect."""

from __future__ import annotations

import ast
import json
from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from dsv3chat.review.nano_protocol import NANO
from tests.dsv3chat.review.labelled.make import all_cases, read_cases, rules_jsonl

FOLDER = Path(__file__).parent / "labelled"


def rows(name):
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", ["rules.jsonl", "ordinary.jsonl"])
def test_every_chunk_parses_and_its_findings_stand_on_its_own_lines(name):
    known = {rule.name for rule in NANO.rules}
    for row in rows(name):
        ast.parse(row["code"])
        end = row["start"] + row["code"].count("\n")
        for finding in row["findings"]:
            assert row["start"] <= finding["line"] <= end
            assert finding["rule"] in known
            assert row["code"].split("\n")[finding["line"] - row["start"]].strip()


def test_the_file_is_what_its_cases_make():
    assert (FOLDER / "rules.jsonl").read_text(encoding="utf-8") == rules_jsonl()


def test_every_rule_has_cases_of_every_length():
    lengths = {}
    for case in all_cases():
        lengths.setdefault(case.rule, Counter())[
            len(case.defect.splitlines()) <= 5, len(case.defect.splitlines()) > 14
        ] += 1
    assert set(lengths) == {rule.name for rule in NANO.rules}
    assert all(count.total() >= 4 for count in lengths.values())
    assert all(
        count[True, False] and count[False, False] and count[False, True] for count in lengths.values()
    )


def test_a_twin_differs_in_what_makes_it_right_and_in_nothing_else():
    for case in all_cases():
        defect, clean = case.defect.splitlines(), case.clean.splitlines()
        changes = [code for code in SequenceMatcher(a=defect, b=clean).get_opcodes() if code[0] != "equal"]
        assert len(changes) in (1, 2), case.path
        assert sum(high - low for _, low, high, _, _ in changes) <= 6, case.path


def test_no_code_stands_twice():
    codes = Counter(row["code"] for name in ("rules.jsonl", "ordinary.jsonl") for row in rows(name))
    assert codes.most_common(1)[0][1] == 1


def test_the_ordinary_chunks_are_forty_of_25_to_60_lines():
    lengths = [row["code"].count("\n") + 1 for row in rows("ordinary.jsonl")]
    assert len(lengths) == 40
    assert min(lengths) >= 25
    assert max(lengths) <= 60


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("=== a.py off-by-one\n x", "expected === PATH:START RULE"),
        ("=== a.py:1 off-by-one\n x\n+y", "0 lines with a finding"),
        ("=== a.py:1 off-by-one\nx", "has no mark"),
    ],
)
def test_a_case_with_a_slip_is_refused(text, wrong):
    with pytest.raises(ValueError, match=wrong):
        list(read_cases(text))
