"""Whatever two texts a diff is between, its hunks are those lines of the new one that differ."""

from __future__ import annotations

import difflib

from hypothesis import given, settings
from hypothesis import strategies as st

from dsv3chat.review.chunks import ChunkLimits, split
from dsv3chat.review.scope.changed import changed_file
from dsv3chat.review.scope.names import unquote
from dsv3chat.review.scope.patch import FileDiff, PatchHunk, parse
from dsv3chat.review.scope.reading import SkippedError

TEXTS = st.lists(
    st.sampled_from(["", "a", "b", "-- x", "++ y", "--- a/z", "+++ b/z", "@@ -1 +1 @@", "diff --git a/q b/q"])
)


@settings(deadline=None)
@given(old=TEXTS, new=TEXTS, context=st.integers(0, 4))
def test_a_parsed_hunk_is_the_new_side_and_the_removed_lines(old, new, context):
    lines = difflib.unified_diff(old, new, "a/f", "b/f", lineterm="", n=context)
    text = "\n".join(lines).encode() + b"\n"
    files = parse(text)
    if old == new:
        assert files == []
        return
    (file,) = files
    assert file.path == "f"
    added, removed = 0, 0
    for hunk in file.hunks:
        start = max(hunk.start, 1)
        assert list(hunk.lines) == [line.encode() for line in new[start - 1 : start - 1 + len(hunk.lines)]]
        assert all(start <= number < start + len(hunk.lines) for number in hunk.changed)
        added, removed = added + len(hunk.changed), removed + len(hunk.removed)
    assert len(new) - added == len(old) - removed


CONTENTS = b"a\nb\rb\nc\n\nd\n"
LINES = st.sampled_from(
    [
        b"diff --git a/x.py b/x.py",
        b"diff --git x.py y z x.py y z",
        b'diff --git "a/\\303\\244" "b/\\303\\244"',
        b"diff --cc x.py",
        b"diff --git",
        b"--- a/x.py",
        b"+++ b/x.py",
        b"--- /dev/null",
        b"+++ /dev/null",
        b"rename to y.py",
        b"new file mode 100644",
        b"deleted file mode 100644",
        b"index 12..34 160000",
        b"Binary files a/x and b/x differ",
        b"@@ -1,2 +1,2 @@",
        b"@@ -1 +0,0 @@",
        b"@@ -0,0 +0,2 @@",
        b"@@ -1,1 +4,0 @@",
        b"@@ -1,1 +40,0 @@",
        b"@@ -1 +2,9999999999999999999999 @@",
        b"@@ -1 +" + b"9" * 5000 + b" @@",
        b"@@ -1 +999999999999 @@",
        b"@@@ -1 -1 +1 @@@",
        b"* Unmerged path x.py",
        b" a",
        b"+b\rb",
        b"-b",
        b"+\xff\0",
        b"",
        b"\\ No newline at end of file",
    ]
)


BODIES = st.lists(
    st.sampled_from([b" a", b" b\rb", b" ", b"", b"+c", b"+b\rb", b"+\xff", b"-d", b"-e\rf"]), max_size=6
)


@st.composite
def whole_hunks(draw):
    """A hunk whose counts are right and whose place may be anywhere."""
    body = draw(BODIES)
    old = sum(line[:1] != b"+" for line in body)
    new = sum(line[:1] != b"-" for line in body)
    start = draw(st.sampled_from([0, 1, 2, 3, 5, 6, 7, 50]))
    return b"\n".join([b"@@ -1,%d +%d,%d @@" % (old, start, new), *body])


TEXTS_OF_DIFFS = st.one_of(
    st.lists(LINES, max_size=14),
    st.lists(whole_hunks(), min_size=1, max_size=4).map(lambda hunks: [b"--- a/x.py", b"+++ b/x.py", *hunks]),
)


@settings(deadline=None, max_examples=400)
@given(TEXTS_OF_DIFFS)
def test_no_text_breaks_the_reader_and_every_hunk_lies_in_its_file(lines):
    for diff in parse(b"\n".join(lines) + b"\n"):
        assert diff.paths
        for data in (None, CONTENTS):
            try:
                if diff.reason:
                    continue
                file = changed_file(diff, "x.py", data)
            except SkippedError:
                continue
            assert file.hunks
            for hunk in file.hunks:
                assert 1 <= hunk.start <= hunk.end <= len(file.lines)
                assert all(hunk.start <= number <= hunk.end for number in hunk.changed)
            split(file, ChunkLimits(3, 50), len)


@settings(deadline=None)
@given(first=st.integers(1, 5), length=st.integers(1, 6), changed=st.integers(0, 5))
def test_a_hunk_that_stands_in_its_file_covers_the_same_text_in_lines_of_an_editor(first, length, changed):
    theirs = CONTENTS.split(b"\n")[:-1][first - 1 : first - 1 + length]
    number = min(changed, len(theirs) - 1)
    hunk = PatchHunk(first, tuple(theirs), frozenset({first + number}), ())
    file = changed_file(FileDiff(("x.py",), hunks=(hunk,)), "x.py", CONTENTS)
    (ours,) = file.hunks
    assert not file.partial
    assert list(file.lines[ours.start - 1 : ours.end]) == b"\n".join(theirs).decode().replace(
        "\r", "\n"
    ).split("\n")
    assert "\r".join(file.lines[n - 1] for n in sorted(ours.changed)) == theirs[number].decode()


def test_a_header_of_a_megabyte_costs_no_time():
    long = b"a " * 500_000
    for line in (
        b"diff --git " + long,
        b"Binary files " + b" and " * 200_000,
        b"--- " + long + b"\n+++ " + long,
    ):
        parse(line + b"\n@@ -1 +1 @@\n-a\n+b\n")


@settings(deadline=None)
@given(st.binary(max_size=20))
def test_a_quoted_name_stands_for_its_bytes(name):
    quoted = b'"%s"' % b"".join(b"\\%03o" % byte for byte in name)
    assert unquote(quoted) == name
