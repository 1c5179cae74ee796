"""The hunks of a diff as chunks: widened to the function, joined where they meet, with what changed in them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv3chat.review.chunks import ChunkLimits, split
from dsv3chat.review.values import Hunk, SourceFile

LIMITS = ChunkLimits(110, 100_000)


def tokens(text):
    return -(-len(text.encode()) // 2)


def source(text, *hunks, language="python", partial=False):
    """A file with hunks given as (start, end, changed, removed)."""
    made = tuple(
        Hunk(start, end, frozenset(changed), tuple(removed)) for start, end, changed, removed in hunks
    )
    lines = tuple(text.split("\n"))
    every = frozenset().union(*(hunk.changed for hunk in made))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return SourceFile("src/x.py", language, lines, digest, every, made, partial)


def around(*changed):
    """The hunk that git makes of changed lines: three lines of context."""
    return (min(changed) - 3, max(changed) + 3, changed, ())


PYTHON = "\n".join(
    [
        "import os",  # 1
        "",
        "A = 1",
        "B = 2",
        "C = 3",
        "D = 4",
        "",
        "",
        "# about f",  # 9
        "@decorated",
        "def f(x):",
        *(f"    a{i} = {i}" for i in range(12, 42)),
        "    return x",  # 42
        "",
        "",
        "class K:",  # 45
        "    z = 1",
        "",
        "    def m(self):",  # 48
        "        if self.z:",
        "            return 1",
        "        return 2",
        "",
        "    def n(self):",  # 53
        "        return [",
        "            1,",
        "            2,",
        "        ]",  # 57
        "",
        "",
        "E = 5",  # 60
        "F = 6",
    ]
)


def spans(chunks):
    return [(chunk.start, chunk.end) for chunk in chunks]


@pytest.mark.parametrize(
    ("changed", "span"),
    [
        ((40,), (10, 42)),  # up to the decorator of the function, to the end of its last statement
        ((12,), (10, 15)),
        ((51,), (48, 51)),  # the method, not its class; the next method's beginning is left out
        ((46,), (45, 46)),  # the class
        ((55,), (53, 57)),  # a statement is not cut
        ((60,), (60, 61)),  # outside of functions: what ends above says little
        ((6,), (1, 6)),  # five lines before
        ((1,), (1, 4)),
    ],
)
def test_a_hunk_is_widened_to_its_function_or_five_lines_and_to_whole_statements(changed, span):
    (chunk,) = split(source(PYTHON, around(*changed)), LIMITS, tokens)
    assert (chunk.start, chunk.end) == span
    assert chunk.changed == frozenset(changed)
    assert chunk.lines == tuple(PYTHON.split("\n")[span[0] - 1 : span[1]])


def test_hunks_of_one_function_are_one_chunk_and_those_of_others_are_their_own():
    file = source(PYTHON, around(14), around(30), around(51))
    chunks = split(file, LIMITS, tokens)
    assert spans(chunks) == [(10, 33), (48, 51)]
    assert [chunk.changed for chunk in chunks] == [{14, 30}, {51}]


def test_a_function_that_does_not_fit_leaves_the_lines_around_the_change():
    (chunk,) = split(source(PYTHON, around(40)), ChunkLimits(12, 10_000), tokens)
    assert chunk.start >= 35
    assert 40 in chunk.changed
    assert len(chunk.lines) <= 12


def test_a_hunk_that_only_deletes_keeps_its_surroundings_and_the_deleted_text():
    (chunk,) = split(source(PYTHON, (37, 42, (), ("    if not x:", "        return None"))), LIMITS, tokens)
    assert (chunk.start, chunk.end) == (10, 42)
    assert chunk.changed == frozenset()
    assert chunk.removed == ("    if not x:", "        return None")


def test_a_deletion_beside_a_change_joins_it():
    file = source(PYTHON, around(14), (25, 30, (), ("    gone = 1",)))
    (chunk,) = split(file, LIMITS, tokens)
    assert chunk.changed == {14}
    assert chunk.removed == ("    gone = 1",)


def test_replaced_lines_are_changed_and_not_deleted():
    file = source(PYTHON, (37, 43, (40,), ("    a40 = 0",)))
    assert split(file, LIMITS, tokens)[0].removed == ()


def test_a_new_file_is_split_like_a_whole_one_and_all_of_it_is_changed():
    num_lines = PYTHON.count("\n") + 1
    file = source(PYTHON, (1, num_lines, range(1, num_lines + 1), ()))
    chunks = split(file, ChunkLimits(30, 10_000), tokens)
    whole = split(source(PYTHON), ChunkLimits(30, 10_000), tokens)
    assert spans(chunks) == spans(whole)
    assert all(chunk.changed == frozenset(range(chunk.start, chunk.end + 1)) for chunk in chunks)


def test_a_large_hunk_gives_only_the_parts_that_hold_a_change():
    text = "\n".join(f"x{i} = {i}" for i in range(1, 301))
    file = source(text, (1, 300, (5, 290), ()))
    chunks = split(file, ChunkLimits(50, 10_000), tokens)
    assert [chunk.changed for chunk in chunks] == [{5}, {290}]


def test_strategy_file_sends_all_of_it_with_the_changes_marked():
    chunks = split(source(PYTHON, around(40)), ChunkLimits(30, 10_000), tokens, "file")
    assert [n for c in chunks for n in range(c.start, c.end + 1) if c.line(n)] == [
        n for n, line in enumerate(PYTHON.split("\n"), 1) if line
    ]
    assert frozenset().union(*(chunk.changed for chunk in chunks)) == {40}
    whole = split(source(PYTHON), ChunkLimits(30, 10_000), tokens, "hunk")
    assert spans(whole) == spans(chunks)


def test_without_the_file_nothing_but_the_hunk_is_shown():
    lines = [""] * 40
    lines[20:25] = ["    a = 1", "    b = 2", "    c = 3", "    d = 4", "    e = 5"]
    lines[34:37] = ["def g():", "    return 1", "    return 2"]
    hunks = [(21, 25, (23,), ()), (35, 37, (37,), ())]
    for strategy in ("auto", "hunk", "file"):
        chunks = split(source("\n".join(lines), *hunks, partial=True), LIMITS, tokens, strategy)
        assert spans(chunks) == [(21, 25), (35, 37)]
        assert [chunk.changed for chunk in chunks] == [{23}, {37}]


def test_another_language_is_widened_by_indentation():
    text = "\n".join(
        [
            "#include <x.h>",
            "",
            "int f(int a)",
            "{",
            *(f"    x{i}();" for i in range(5, 30)),
            "}",
            "",
            "int g(void)",
            "{",
            "}",
        ]
    )
    (chunk,) = split(source(text, around(25), language="c"), LIMITS, tokens)
    assert chunk.start == 3
    assert chunk.end == 28


@given(
    num_lines=st.integers(1, 120),
    changes=st.sets(st.integers(1, 120), max_size=12),
    language=st.sampled_from(["python", "c"]),
    max_lines=st.integers(1, 40),
)
@settings(deadline=None)
def test_every_changed_line_is_in_exactly_one_chunk_and_every_chunk_fits(
    num_lines, changes, language, max_lines
):
    lines = [
        ("def f():", "    x = (1,", "        2)", "    if x:", "        y()")[i % 5] for i in range(num_lines)
    ]
    hunks = [(max(1, n - 3), min(num_lines, n + 3), (n,), ()) for n in sorted(changes) if n <= num_lines]
    if not hunks:
        return
    file = source("\n".join(lines), *hunks, language=language)
    limits = ChunkLimits(max_lines, 400)
    chunks = split(file, limits, tokens)
    changed = [number for chunk in chunks for number in sorted(chunk.changed)]
    assert changed == sorted(n for n in changes if n <= num_lines)
    assert all(len(chunk.lines) <= max_lines for chunk in chunks)
    shown = [number for chunk in chunks for number in range(chunk.start, chunk.end + 1)]
    assert len(shown) == len(set(shown))
