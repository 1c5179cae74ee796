"""A fingerprint stays where the code moves, and differs where the code does."""

from hypothesis import given
from hypothesis import strategies as st

from dsv3chat.review.fingerprint import fingerprint

LINES = ("def f():", "    x = g( 1 )", "    y = 2", "    x = g( 1 )")


def test_it_survives_moved_and_reindented_code():
    moved = ("import os", "", "if True:", "\tdef f():", "\t\tx  =  g( 1 )")
    assert fingerprint("a.py", "bug", LINES, 2) == fingerprint("a.py", "bug", moved, 5)


def test_equal_lines_of_a_file_have_fingerprints_of_their_own():
    assert fingerprint("a.py", "bug", LINES, 2) != fingerprint("a.py", "bug", LINES, 4)


def test_path_rule_and_code_tell_apart():
    marks = {
        fingerprint("a.py", "bug", LINES, 2),
        fingerprint("b.py", "bug", LINES, 2),
        fingerprint("a.py", "security", LINES, 2),
        fingerprint("a.py", "bug", LINES, 3),
    }
    assert len(marks) == 4


@given(st.lists(st.text(max_size=5), min_size=1, max_size=6), st.data())
def test_lines_below_never_change_it(lines, data):
    line = data.draw(st.integers(1, len(lines)))
    assert fingerprint("a", "bug", lines, line) == fingerprint("a", "bug", lines[:line], line)


def test_a_name_that_is_no_utf8_has_one():
    assert len(fingerprint("\udcff.py", "bug", ("x",), 1)) == 32
