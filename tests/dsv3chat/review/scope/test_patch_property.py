"""Whatever two texts a diff is between, its hunks are those lines of the new one that differ."""

from __future__ import annotations

import difflib

from hypothesis import given, settings
from hypothesis import strategies as st

from dsv3chat.review.scope.names import unquote
from dsv3chat.review.scope.patch import parse

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


@settings(deadline=None)
@given(st.binary(max_size=20))
def test_a_quoted_name_stands_for_its_bytes(name):
    quoted = b'"%s"' % b"".join(b"\\%03o" % byte for byte in name)
    assert unquote(quoted) == name
