"""Applying a suggestion: only onto the lines that were reviewed, every other byte untouched, and back again."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv3chat.review.apply import ApplyError, apply_suggestion, undo
from dsv3chat.review.values import Finding, Severity

SOURCE = ["def f(x, acc=[]):", "    acc.append(x)", "    return acc", "", "print(f(1))"]


def finding(line=1, end_line=None, suggestion="def f(x, acc=None):", path="a.py") -> Finding:
    text = SOURCE[line - 1]
    end = end_line or line
    return Finding(path, line, end, Severity.HIGH, "r", "t", "m", suggestion, 0.9, text)


def put(folder, data: bytes, name="a.py"):
    path = folder / name
    path.write_bytes(data)
    return path


def joined(end="\n") -> str:
    return end.join(SOURCE) + end


def test_one_line_becomes_several_and_nothing_else_changes(tmp_path):
    path = put(tmp_path, joined().encode())
    wanted = "def f(x, acc=None):\n    acc = [] if acc is None else acc"
    edit = apply_suggestion(tmp_path, finding(suggestion=wanted), SOURCE[:1])
    assert path.read_text() == wanted + "\n" + "\n".join(SOURCE[1:]) + "\n"
    undo(tmp_path, edit)
    assert path.read_text() == joined()


def test_lines_that_changed_since_are_left_alone(tmp_path):
    path = put(tmp_path, joined().replace("acc=[]", "acc=()").encode())
    with pytest.raises(ApplyError, match=r"a\.py:1 is no longer what was reviewed"):
        apply_suggestion(tmp_path, finding(), SOURCE[:1])
    assert "acc=()" in path.read_text()


def test_every_line_of_a_range_must_match(tmp_path):
    path = put(tmp_path, joined().replace("return acc", "return 1").encode())
    with pytest.raises(ApplyError):
        apply_suggestion(tmp_path, finding(2, 3, "    return [*acc, x]"), SOURCE[1:3])
    assert "return 1" in path.read_text()


def test_a_change_after_the_suggestion_is_not_undone(tmp_path):
    path = put(tmp_path, joined().encode())
    edit = apply_suggestion(tmp_path, finding(), SOURCE[:1])
    path.write_text(path.read_text().replace("acc=None", "acc=0"))
    with pytest.raises(ApplyError, match="changed since"):
        undo(tmp_path, edit)
    assert "acc=0" in path.read_text()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_encoding_mark_and_line_ends_stay(tmp_path, codec, end):
    special = {"latin-1": "# é", "cp1252": "# “é”"}.get(codec, "# é→")
    text = joined(end) + special  # no line end at the end of the file
    path = put(tmp_path, text.encode(codec))
    edit = apply_suggestion(tmp_path, finding(suggestion="a\nb"), SOURCE[:1])
    assert path.read_bytes() == text.replace(SOURCE[0], f"a{end}b", 1).encode(codec)
    undo(tmp_path, edit)
    assert path.read_bytes() == text.encode(codec)


def test_the_last_line_without_a_line_end_stays_without_one(tmp_path):
    path = put(tmp_path, "\r\n".join(SOURCE).encode())
    apply_suggestion(tmp_path, finding(5, suggestion="print(f(1))\nprint(f(2))\n"), SOURCE[4:])
    assert path.read_bytes().endswith(b"\r\nprint(f(1))\r\nprint(f(2))")


def test_what_the_encoding_cannot_hold_changes_nothing(tmp_path):
    data = (joined() + "# é\n").encode("latin-1")
    path = put(tmp_path, data)
    with pytest.raises(ApplyError, match="latin-1"):
        apply_suggestion(tmp_path, finding(suggestion="x = '→'"), SOURCE[:1])
    assert path.read_bytes() == data


def test_the_mode_stays_and_no_temporary_file_does(tmp_path):
    path = put(tmp_path, joined().encode())
    path.chmod(0o751)
    apply_suggestion(tmp_path, finding(), SOURCE[:1])
    assert path.stat().st_mode & 0o7777 == 0o751
    assert os.listdir(tmp_path) == ["a.py"]


def test_a_link_inside_is_followed_and_one_that_leads_outside_is_refused(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    target = put(root, joined().encode(), "real.py")
    (root / "a.py").symlink_to("real.py")
    apply_suggestion(root, finding(), SOURCE[:1])
    assert (root / "a.py").is_symlink()
    assert "acc=None" in target.read_text()
    outside = put(tmp_path, joined().encode(), "outside.py")
    (root / "b.py").symlink_to(outside)
    for name in ("b.py", "../outside.py", str(outside)):
        with pytest.raises(ApplyError, match="outside"):
            apply_suggestion(root, finding(path=name), SOURCE[:1])
    assert outside.read_text() == joined()


def test_a_file_that_is_gone_binary_or_without_suggestion_is_said(tmp_path):
    with pytest.raises(ApplyError, match="no such file"):
        apply_suggestion(tmp_path, finding(), SOURCE[:1])
    put(tmp_path, b"\0" + joined().encode())
    with pytest.raises(ApplyError, match="binary"):
        apply_suggestion(tmp_path, finding(), SOURCE[:1])
    with pytest.raises(ApplyError, match="no suggestion"):
        apply_suggestion(tmp_path, replace(finding(), suggestion=""), SOURCE[:1])


def test_a_suggestion_that_is_what_stands_there_is_no_change(tmp_path):
    put(tmp_path, joined().encode())
    with pytest.raises(ApplyError, match="already"):
        apply_suggestion(tmp_path, finding(suggestion=SOURCE[0]), SOURCE[:1])


@settings(max_examples=25, deadline=None)
@given(st.permutations([0, 1, 2]), st.permutations([0, 1, 2]), st.lists(st.integers(1, 3), min_size=3))
def test_several_edits_of_one_file_undo_in_any_order(tmp_path_factory, order, back, sizes):
    folder = tmp_path_factory.mktemp("edits")
    path = put(folder, joined().encode())
    lines = [1, 3, 5]
    edits: list = []
    made = {}
    for index in order:
        new = "\n".join(f"{index} {n}" for n in range(sizes[index]))
        line = lines[index]
        made[index] = apply_suggestion(folder, finding(line, suggestion=new), [SOURCE[line - 1]], edits)
        edits.append(made[index])
    assert len(path.read_text().splitlines()) == 2 + sum(sizes[:3])
    for index in back:
        edits.remove(made[index])
        undo(folder, made[index], edits)
    assert path.read_text() == joined()
