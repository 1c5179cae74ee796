"""JSON, JSON lines, GitLab, rdjson and GitHub's annotations: valid, escaped, and never clean-looking without a review."""

import json
from pathlib import Path

import jsonschema
import pytest

from dsv3chat.review.formats import format_of_file
from dsv3chat.review.formats.github import write_github
from dsv3chat.review.formats.gitlab import write_gitlab
from dsv3chat.review.formats.json_report import write_json_report
from dsv3chat.review.formats.jsonl import event_line, write_jsonl
from dsv3chat.review.formats.rdjson import write_rdjson
from dsv3chat.review.values import (
    ChunkDone,
    FileDone,
    FileStarted,
    FindingFound,
    ReviewFinished,
    ReviewStarted,
    Severity,
    Skipped,
)
from tests.dsv3chat.review.formats.reports import HOSTILE, ODD_PATHS, document, finding, incomplete, report

SCHEMAS = Path(__file__).parents[1] / "schemas"
REPORTS = [
    document(),
    document(finding(), finding(line=3, severity=Severity.LOW, suggestion="")),
    document(*(finding(path) for path in ODD_PATHS)),
    document(finding(message=HOSTILE, title=HOSTILE, suggestion=HOSTILE, line_text=HOSTILE)),
    document(finding(title="", message="")),
    incomplete(finding()),
]


@pytest.mark.parametrize("found", REPORTS)
@pytest.mark.parametrize(
    ("write", "schema"), [(write_gitlab, "gitlab-code-quality.json"), (write_rdjson, "rdjson.json")]
)
def test_gitlab_and_rdjson_fit_their_schemas(write, schema, found):
    text = write(found)
    jsonschema.validate(json.loads(text), json.loads((SCHEMAS / schema).read_text("utf-8")))
    assert text.isascii()


def test_gitlab_has_a_fingerprint_for_each_finding_that_stays_when_another_comes():
    twice = json.loads(write_gitlab(document(finding(line=3), finding(line=9))))
    once = json.loads(write_gitlab(document(finding(line=3))))
    marks = [entry["fingerprint"] for entry in twice]
    assert len(set(marks)) == 2
    assert once[0]["fingerprint"] == marks[0]


@pytest.mark.parametrize("write", [write_gitlab, write_rdjson, write_github])
def test_known_and_suppressed_findings_are_left_out(write):
    text = write(
        document(finding("a.py", state="baseline"), finding("b.py", state="suppressed"), finding("c.py"))
    )
    assert "c.py" in text
    assert "a.py" not in text
    assert "b.py" not in text


def test_severities_are_in_each_formats_own_words():
    found = document(*(finding(line=level, severity=level) for level in Severity))
    assert [e["severity"] for e in json.loads(write_gitlab(found))] == [
        "minor",
        "major",
        "critical",
        "blocker",
    ]
    diagnostics = json.loads(write_rdjson(found))["diagnostics"]
    assert [d["severity"] for d in diagnostics] == ["INFO", "WARNING", "ERROR", "ERROR"]
    commands = [line.split()[0] for line in write_github(found).splitlines()[:4]]
    assert commands == ["::notice", "::warning", "::error", "::error"]


def test_an_rdjson_suggestion_replaces_the_findings_lines():
    found = document(finding(line=4, end_line=6, suggestion="a = 1\nb = 2\n"), finding(line=9, suggestion=""))
    first, second = json.loads(write_rdjson(found))["diagnostics"]
    lines = {"start": {"line": 4}, "end": {"line": 6}}
    assert first["suggestions"] == [{"range": lines, "text": "a = 1\nb = 2"}]
    assert "suggestions" not in second


def test_an_annotation_is_one_command_on_one_line_whatever_is_in_it():
    found = document(*(finding(path, message=HOSTILE, title="a,b::c") for path in ODD_PATHS))
    lines = write_github(found).splitlines()
    assert len(lines) == len(ODD_PATHS) + 1
    for line, path in zip(lines, sorted(ODD_PATHS), strict=False):
        head, _, message = line.removeprefix("::error ").partition("::")
        properties = dict(pair.split("=", 1) for pair in head.split(","))
        decoded = properties["file"]
        for code, character in (("%0A", "\n"), ("%0D", "\r"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
            decoded = decoded.replace(code, character)
        assert decoded == path
        assert properties["line"] == "12"
        assert "%250A" in message


def test_annotations_tell_of_files_that_were_not_reviewed():
    lines = write_github(incomplete()).splitlines()
    assert lines[0].startswith("::warning file=src/b.py,title=not reviewed::")
    assert lines[-1].startswith("::warning title=dsv3chat review::INCOMPLETE")


def test_json_has_everything_and_no_control_character():
    found = incomplete(
        finding(message=HOSTILE),
        finding(line=2, state="suppressed"),
        dropped={"below confidence": 4},
        unused_suppressions=(("a.py", 3, "bug"),),
        warnings=("a warning",),
        notes=("the cache is not used",),
        raw_answers=(("src/b.py", 1, "I think\x1b[2J"),),
    )
    text = write_json_report(found)
    fields = json.loads(text)
    assert text.isascii()
    assert "\x1b" not in text
    assert [entry["state"] for entry in fields["findings"]] == ["suppressed", "new"]
    assert fields["findings"][1]["message"] == HOSTILE
    assert fields["findings"][1]["severity"] == "high"
    assert fields["findings"][1]["confidence"] == 0.934
    assert (fields["complete"], fields["exit_code"], fields["fail_on"]) == (False, 3, "high")
    assert fields["dropped"] == {"below confidence": 4}
    assert fields["failed"] == [{"path": "src/b.py", "reason": "the answer was cut at 1024 tokens"}]
    assert fields["skipped"] == [{"path": "data.bin", "reason": "binary"}]
    assert fields["unused_suppressions"] == [{"path": "a.py", "line": 3, "rules": "bug"}]
    assert fields["warnings"] == ["a warning", "the cache is not used"]
    assert fields["raw_answers"] == [{"path": "src/b.py", "line": 1, "text": "I think\x1b[2J"}]
    assert fields["usage"]["tokens_per_s"] == (900 - 300 + 60) / 12.0


def test_a_speed_that_was_not_measured_is_null():
    fields = json.loads(write_json_report(document(prompt_tokens=0, reused_tokens=0, completion_tokens=0)))
    assert fields["usage"]["tokens_per_s"] is None
    assert json.loads(write_json_report(document(seconds=0.0)))["usage"]["tokens_per_s"] is None


def test_json_lines_are_findings_and_an_end():
    lines = [
        json.loads(line) for line in write_jsonl(document(finding("b.py"), finding("a.py"))).splitlines()
    ]
    assert [line["event"] for line in lines] == ["finding", "finding", "end"]
    assert [line["path"] for line in lines[:2]] == ["a.py", "b.py"]
    assert lines[2]["findings"] == 2


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (ReviewStarted("src", 2, 3, 900, (Skipped("x", "binary"),)), "start"),
        (FindingFound(finding(message=HOSTILE)), "finding"),
        (FileDone("a.py", "failed", 0, "why"), "file"),
        (ChunkDone("a.py", 1, 3, None), "progress"),
        (ChunkDone("a.py", 1, 3, 2.34), "progress"),
        (FileStarted("a.py", 1), ""),
        (ReviewFinished(report()), ""),
    ],
)
def test_an_event_is_a_line_or_nothing(event, name):
    line = event_line(event)
    assert line.count("\n") == (1 if name else 0)
    assert not name or json.loads(line)["event"] == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("review.sarif", "sarif"),
        ("out/review.sarif.json", "sarif"),
        ("gl-code-quality-report.json", "gitlab"),
        ("REVIEW.JSON", "json"),
        ("a.jsonl", "jsonl"),
        ("notes.md", "markdown"),
        ("a.rdjson", "rdjson"),
        ("a.txt", "text"),
    ],
)
def test_a_files_name_means_a_format(name, expected):
    assert format_of_file(name).name == expected


@pytest.mark.parametrize("name", ["review", "review.xml", "sarif"])
def test_an_unknown_name_means_none(name):
    assert format_of_file(name) is None
