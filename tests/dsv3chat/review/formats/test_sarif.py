"""SARIF: valid against the schema, and against what GitHub demands beyond it."""

import json
import os
import re
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

import jsonschema
import pytest

from dsv3chat.review.formats import Document
from dsv3chat.review.formats.sarif import relative_uri, write_sarif
from dsv3chat.review.general_protocol import GENERAL
from dsv3chat.review.scope.paths import NOT_UTF8
from dsv3chat.review.values import Severity, Skipped
from tests.dsv3chat.review.formats.reports import HOSTILE, ODD_PATHS, document, finding, incomplete, report

SCHEMA = json.loads((Path(__file__).parents[1] / "schemas" / "sarif-2.1.0.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft7Validator(SCHEMA, format_checker=jsonschema.FormatChecker())


def run_of(found):
    text = write_sarif(found)
    log = json.loads(text)
    assert [error.message for error in VALIDATOR.iter_errors(log)] == []
    assert text.isascii()
    (run,) = log["runs"]
    return run


@pytest.mark.parametrize(
    "found",
    [
        document(),
        document(finding(), finding(line=3, severity=Severity.LOW, suggestion="")),
        document(*(finding(path) for path in ODD_PATHS)),
        document(finding(message=HOSTILE, title=HOSTILE, suggestion=HOSTILE, line_text=HOSTILE)),
        document(finding(title="", message="", line_text="", suggestion="", fingerprint="")),
        document(finding(rule="not-in-the-list")),
        incomplete(finding()),
        incomplete(interrupted=True, findings=()),
        document(warnings=("standard input is not UTF-8",)),
        Document(report(finding(rule="bug")), GENERAL.rules, 1),
    ],
)
def test_every_report_is_valid(found):
    run_of(found)


def test_a_result_has_a_place_with_all_four_fields_and_no_line_0():
    run = run_of(
        document(
            finding(), finding(line=1, line_text=""), finding(line=7, end_line=9, line_text="  a(\n  b\n  )")
        )
    )
    for result in run["results"]:
        region = result["locations"][0]["physicalLocation"]["region"]
        assert min(region[key] for key in ("startLine", "startColumn", "endLine", "endColumn")) >= 1
        assert (region["startLine"], region["startColumn"]) <= (region["endLine"], region["endColumn"])


def test_the_region_is_the_code_of_the_line_in_code_points():
    run = run_of(document(finding(line=12, line_text="\t\tna\u00efve = '\U0001f600'  ")))
    assert run["columnKind"] == "unicodeCodePoints"
    region = run["results"][0]["locations"][0]["physicalLocation"]["region"]
    assert (region["startColumn"], region["endColumn"]) == (3, 3 + len("naïve = '😀'"))


def test_the_end_of_lines_that_are_not_known_is_not_made_up():
    run = run_of(document(finding(line=7, end_line=9, line_text="  a(")))
    region = run["results"][0]["locations"][0]["physicalLocation"]["region"]
    assert (region["endLine"], region["endColumn"]) == (7, 5)


def test_rule_ids_are_unique_and_the_list_does_not_depend_on_the_findings():
    empty, full = run_of(document()), run_of(document(finding(), finding(line=20)))
    ids = [rule["id"] for rule in full["tool"]["driver"]["rules"]]
    assert len(ids) == len(set(ids)) == 31
    assert empty["tool"] == full["tool"]


def test_each_result_names_the_rule_that_stands_at_its_index():
    run = run_of(document(finding(rule="weak-hash"), finding(rule="new-kind", line=1)))
    rules = run["tool"]["driver"]["rules"]
    assert [rules[result["ruleIndex"]]["id"] for result in run["results"]] == ["new-kind", "weak-hash"]


@pytest.mark.parametrize("path", [*ODD_PATHS, os.fsdecode(b"latin-\xe9.py")])
def test_a_path_is_a_relative_uri_that_decodes_to_the_path(path):
    uri = relative_uri(path)
    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
    assert uri.isascii()
    assert unquote_to_bytes(uri) == os.fsencode(path)
    assert re.fullmatch(r"([\w.~/-]|%[0-9A-F]{2})+", uri)


def test_the_root_is_a_folder_uri():
    run = run_of(document(finding()))
    root = run["originalUriBaseIds"]["%SRCROOT%"]["uri"]
    assert root.endswith("/")
    assert unquote(root) == "file:///home/me/my project/"
    location = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location == {"uri": "src/app.py", "uriBaseId": "%SRCROOT%"}


def test_fingerprints_have_a_key_of_their_own_and_do_not_depend_on_the_message():
    marks = [
        run_of(document(finding(message=message, title=message, fingerprint=fingerprint)))["results"][0][
            "partialFingerprints"
        ]
        for message in ("one", "another")
        for fingerprint in ("", "cd" * 32)
    ]
    assert all(set(mark) == {"dsv3chatReview/v1"} for mark in marks)
    assert marks[0] == marks[2] != marks[1] == marks[3]


def test_levels_and_security_severity_follow_severity_and_rule():
    found = [finding(line=level, severity=level) for level in Severity]
    run = run_of(document(*found))
    assert [result["level"] for result in run["results"]] == ["note", "warning", "error", "error"]
    rules = {rule["id"]: rule["properties"] for rule in run["tool"]["driver"]["rules"]}
    assert float(rules["sql-injection"]["security-severity"]) > 9
    assert 7 <= float(rules["hardcoded-secret"]["security-severity"]) < 9
    assert 4 <= float(rules["weak-hash"]["security-severity"]) < 7
    assert "security" in rules["sql-injection"]["tags"]
    assert "security-severity" not in rules["off-by-one"]


def test_baseline_and_suppressed_findings_are_suppressed_results():
    run = run_of(
        document(finding(), finding(line=13, state="baseline"), finding(line=14, state="suppressed"))
    )
    kinds = [[entry["kind"] for entry in result.get("suppressions", [])] for result in run["results"]]
    assert kinds == [[], ["external"], ["inSource"]]


def test_an_incomplete_review_is_no_successful_execution_and_says_what_is_missing():
    invocation = run_of(incomplete(finding()))["invocations"][0]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 3)
    errors = [
        note["message"]["text"]
        for note in invocation["toolExecutionNotifications"]
        if note["level"] == "error"
    ]
    assert any("incomplete" in text for text in errors)
    assert any("cut at 1024 tokens" in text for text in errors)
    assert run_of(document())["invocations"][0]["executionSuccessful"] is True


def test_a_message_has_no_placeholder_and_no_link_of_the_format():
    text = run_of(document(finding(message="{0} and {name} [x](1)", title="")))["results"][0]["message"][
        "text"
    ]
    assert text == "{{0}} and {name} [x\\](1)"


def test_a_suggestion_is_a_fix_of_the_whole_line():
    (fix,) = run_of(document(finding(line=12)))["results"][0]["fixes"]
    (replacement,) = fix["artifactChanges"][0]["replacements"]
    assert replacement["insertedContent"]["text"] == "def f(x, acc=None):"
    assert replacement["deletedRegion"] == {"startLine": 12, "startColumn": 1, "endLine": 12, "endColumn": 22}


def test_a_suggestion_for_lines_is_a_fix_of_all_of_them():
    found = finding(line=12, end_line=13, line_text="def f(x,\n      acc=[]):")
    (result,) = run_of(document(found))["results"]
    (replacement,) = result["fixes"][0]["artifactChanges"][0]["replacements"]
    assert replacement["deletedRegion"] == {"startLine": 12, "startColumn": 1, "endLine": 13, "endColumn": 15}
    region = result["locations"][0]["physicalLocation"]["region"]
    assert (region["startLine"], region["endLine"]) == (12, 13)


def test_the_note_on_a_name_that_is_not_utf_8_has_the_uri_of_the_file():
    run = run_of(document(skipped=(Skipped(r"lib/lat\xfcn.py", NOT_UTF8), Skipped(r"a\xfcb.py", "binary"))))
    notes = run["invocations"][0]["toolExecutionNotifications"]
    uris = [note["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for note in notes]
    assert uris == ["lib/lat%FCn.py", "a%5Cxfcb.py"]
    assert notes[0]["message"]["text"] == r"skipped: lib/lat\xfcn.py: its name is not UTF-8"


def test_results_stand_by_path_and_line():
    run = run_of(document(finding("b.py", 1), finding("a.py", 20), finding("a.py", 3)))
    places = [result["locations"][0]["physicalLocation"] for result in run["results"]]
    assert [(p["artifactLocation"]["uri"], p["region"]["startLine"]) for p in places] == [
        ("a.py", 3),
        ("a.py", 20),
        ("b.py", 1),
    ]
