"""Counts, states and the report as the person leaves it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dsv3chat.review.values import FileStarted, FindingFound, ReviewFinished, Severity
from dsv3chat.screens.review_listing import ORDERS, Query, listed
from dsv3chat.screens.review_state import Item, ReviewState
from tests.dsv3chat.screens.scripted_review import FINDINGS, ScriptedReview, finding, make_scope


def ended(tmp_path, findings=FINDINGS) -> ReviewState:
    state = ReviewState()
    review = ScriptedReview(make_scope(tmp_path), findings)
    state.begin(review.scope)
    state.absorb(review.events())
    return state


def test_the_report_decides_what_is_listed_after_the_end(tmp_path):
    state = ReviewState()
    scope = make_scope(tmp_path)
    state.begin(scope)
    state.absorb([FileStarted("src/kv.py", 1), *(FindingFound(f) for f in FINDINGS)])
    state.set_mark(state.items[1], "applied")
    late = finding(line=5, title="late")
    report = replace(ended(tmp_path).report, findings=(FINDINGS[0], late))
    state.absorb([ReviewFinished(report)])
    assert [i.finding.title for i in state.items] == [FINDINGS[0].title, FINDINGS[1].title, "late"]
    assert state.files["src/pack.py"].counts.total() == 0
    assert state.counts == {Severity.HIGH: 2, Severity.MEDIUM: 1}


def test_marks_become_states_of_the_report_and_leave_the_rest(tmp_path):
    state = ended(tmp_path)
    state.set_mark(state.items[0], "ignored")
    state.set_mark(state.items[1], "false")
    state.set_mark(state.items[2], "applied")
    states = {f.title: f.state for f in state.current_report().findings}
    assert states == {
        FINDINGS[0].title: "baseline",
        FINDINGS[1].title: "suppressed",
        FINDINGS[2].title: "new",
    }
    assert state.report.findings == tuple(replace(f, state="new") for f in state.report.findings)


def test_before_the_end_the_report_is_partial_and_names_what_was_not_reviewed(tmp_path):
    state = ReviewState()
    state.begin(make_scope(tmp_path))
    state.absorb([FileStarted("src/kv.py", 1), FindingFound(FINDINGS[0])])
    report = state.current_report()
    assert not report.complete
    assert [f.path for f in report.failed] == ["src/kv.py", "src/pack.py", "tests/test_kv.py"]
    assert ReviewState().current_report() is None


_ITEMS = st.lists(
    st.builds(
        lambda path, line, severity, state: replace(finding(path, line, severity), state=state),
        st.sampled_from(["src/kv.py", "src/pack.py"]),
        st.integers(1, 3),
        st.sampled_from(list(Severity)),
        st.sampled_from(["new", "baseline", "suppressed"]),
    ),
    max_size=12,
)


@given(_ITEMS, st.lists(st.tuples(st.integers(0, 11), st.sampled_from(["", "applied", "ignored", "false"]))))
def test_totals_are_the_sums_whatever_is_marked(tmp_path_factory, findings, marks):
    state = ended(tmp_path_factory.getbasetemp(), findings)
    for index, mark in marks:
        if index < len(state.items):
            state.set_mark(state.items[index], mark)
    new = [item for item in state.items if item.is_new]
    assert state.counts.total() == len(new)
    assert state.num_hidden == len(state.items) - len(new)
    assert sum(file.counts.total() for file in state.files.values()) == len(new)
    assert sum(len(state.items_of(path)) for path in state.files) == len(state.items)


def titles(query: str, order="severity") -> list[str]:
    items = [Item(f, n) for n, f in enumerate(FINDINGS)]
    return [i.finding.title for i in listed(items, Query.parse(query), order, False)]


def test_words_of_a_filter_all_have_to_be_there():
    assert titles("") == [FINDINGS[2].title, FINDINGS[0].title, FINDINGS[1].title]
    assert titles("HIGH") == [FINDINGS[2].title, FINDINGS[0].title]
    assert titles("sev:critical") == titles("rule:code") == titles("path:pack") == [FINDINGS[2].title]
    assert titles("sev:") == titles("")
    assert titles("slot moves") == [FINDINGS[0].title, FINDINGS[1].title]
    assert titles("slot moves pinned") == [FINDINGS[1].title]
    assert titles("rule:pack") == []


@given(st.lists(st.sampled_from(FINDINGS), max_size=8), st.sampled_from(ORDERS))
def test_every_order_lists_the_same_findings(findings, order):
    items = [Item(f, n) for n, f in enumerate(findings)]
    assert sorted(map(id, listed(items, Query(), order, False))) == sorted(map(id, items))
