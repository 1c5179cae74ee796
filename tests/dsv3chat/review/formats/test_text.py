"""The text format: lines that grep understands, and a last line that tells what kind of review it was."""

import pytest

from dsv3chat.review.formats.text import write_text
from dsv3chat.review.values import Severity, Skipped
from tests.dsv3chat.review.formats.reports import HOSTILE, ODD_PATHS, document, finding, incomplete


def test_a_finding_is_place_severity_rule_statement_and_confidence():
    assert write_text(document(finding())).splitlines() == [
        "src/app.py:12: high mutable-default: Default list is shared: The default list is shared between calls. (0.93)",
        "    12|     def f(x, acc=[]):",
        "   fix| def f(x, acc=None):",
        "1 finding (1 high) in 1 file; 1 file skipped",
    ]


def test_a_title_that_the_message_repeats_is_said_once():
    text = write_text(document(finding(title="The default list", message="The default list is shared.")))
    assert ": high mutable-default: The default list is shared. (0.93)" in text


@pytest.mark.parametrize("path", ODD_PATHS)
def test_a_finding_begins_one_line_whatever_is_in_it(path):
    text = write_text(
        document(finding(path, message=HOSTILE, title=HOSTILE, suggestion="", line_text=HOSTILE))
    )
    assert len(text.splitlines()) == 3
    assert ":12: high" in text.splitlines()[0]


def test_no_line_begins_like_a_command_of_a_ci_system():
    text = write_text(
        document(finding("::error.py", message="\n::error::x", suggestion="::warning::x", line_text="::x"))
    )
    assert not any(line.lstrip().startswith(("::", "##[")) for line in text.splitlines())


def test_order_is_by_path_and_line_and_the_conclusion_counts_the_worst_first():
    found = document(
        finding("b.py", 1, severity=Severity.LOW),
        finding("a.py", 20, severity=Severity.CRITICAL),
        finding("a.py", 3, severity=Severity.LOW),
        finding("a.py", 4, state="baseline"),
        finding("a.py", 5, state="suppressed"),
    )
    lines = write_text(found).splitlines()
    places = [line.split(": ")[0] for line in lines if ".py:" in line]
    assert places == ["a.py:3", "a.py:20", "b.py:1"]
    assert lines[-1] == (
        "3 findings (1 critical, 2 low) in 2 files; 1 in the baseline; 1 suppressed; 1 file skipped"
    )


def test_only_reviewed_files_are_clean():
    assert write_text(document(skipped=())) == "no findings in 1 file\n"
    nothing = document(reviewed=(), skipped=(Skipped("a.bin", "binary"),))
    assert write_text(nothing) == "nothing was reviewed; 1 file skipped\n"


def test_an_incomplete_review_says_so_and_names_the_files():
    lines = write_text(incomplete()).splitlines()
    assert lines[0] == "src/b.py: not reviewed: the answer was cut at 1024 tokens"
    assert lines[-1].startswith("INCOMPLETE: 1 file not reviewed to the end; no findings in 1 file")
    assert "INCOMPLETE: interrupted" in write_text(document(complete=False, interrupted=True))


def test_unused_suppressions_and_the_cache_are_told():
    text = write_text(document(unused_suppressions=(("a.py", 3, "bug"), ("a.py", 4, "")), cached_chunks=2))
    assert text.startswith("a.py:3: unused suppression: bug\na.py:4: unused suppression\n")
    assert text.endswith("; 2 chunks from the review cache\n")
