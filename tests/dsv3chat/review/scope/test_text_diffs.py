"""A diff from standard input, in every form that git and others write: understood, or refused in words, never clean."""

from __future__ import annotations

import difflib

import pytest

from dsv3chat.review.scope import DiffNotUnderstoodError, DiffRequest, NothingToReviewError, open_scope
from dsv3chat.review.scope.patch import parse

NAMES = [
    "grün.py",
    "with space.py",
    "tab\there.py",
    'quo"te.py',
    "new\nline.py",
    "a b/a b.py",
    "b/x.py",
    "trail ",
]
BODY = "".join(f"x{i} = {i}\n" for i in range(1, 31))
CHANGED = BODY.replace("x15 = 15\n", "x15 = 0\nnew = 1\n")


def scope_of(text, cwd, **options):
    return open_scope([], diff=DiffRequest.from_text(text), cwd=cwd, **options)


def skipped(scope):
    return {s.path: s.reason for s in scope.skipped}


def failed(scope):
    return {f.path: f.reason for f in scope.failed}


@pytest.fixture
def changed_repo(repo):
    for name in NAMES:
        repo.write(name, BODY)
    repo.commit()
    for name in NAMES:
        repo.write(name, CHANGED)
    return repo


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--no-prefix"],
        ["-c", "diff.mnemonicPrefix=true"],
        ["--src-prefix=old/", "--dst-prefix=new/"],
        ["--color=always"],
        ["--color=always", "--color-moved=zebra"],
        ["-U0"],
        ["-U100"],
        ["-c", "core.quotePath=false"],
        ["-c", "diff.suppressBlankEmpty=true"],
        ["--stat", "--patch"],
    ],
    ids=" ".join,
)
def test_every_name_is_found_in_the_tree_whatever_form_the_diff_has(changed_repo, options):
    config = options[:2] if options[:1] == ["-c"] else []
    diff = changed_repo.git_bytes(*config, "diff", *options[len(config) :])
    scope = scope_of(diff, changed_repo.root)
    assert [file.path for file in scope.files] == sorted(NAMES)
    assert all(file.changed == {15, 16} and not file.partial for file in scope.files)
    assert scope.skipped == ()


@pytest.mark.parametrize("options", [[], ["--no-prefix"], ["-c", "diff.mnemonicPrefix=true"]], ids=" ".join)
def test_new_deleted_renamed_binary_and_mode_changes_keep_their_names(repo, options):
    for name in ("gone äß.py", "old name.py", "mode change.py"):
        repo.write(name, BODY + f"# {name}\n")
    repo.write("bin ary", b"\0")
    repo.commit()
    (repo.root / "gone äß.py").unlink()
    repo.git("mv", "old name.py", "new name.py")
    repo.write("new name.py", CHANGED + "# old name.py\n")
    repo.write("brand new.py", "import os\n")
    repo.write("empty one.py", "")
    repo.write("bin ary", b"\0\1")
    (repo.root / "mode change.py").chmod(0o755)
    repo.git("add", "-A")
    config = options if options[:1] == ["-c"] else []
    scope = scope_of(
        repo.git_bytes(*config, "diff", "--cached", "-M", *(options if not config else [])), repo.root
    )
    assert {file.path: set(file.changed) for file in scope.files} == {
        "brand new.py": {1},
        "new name.py": {15, 16},
    }
    assert skipped(scope) == {
        "bin ary": "binary, or marked so for git",
        "empty one.py": "empty",
        "gone äß.py": "deleted",
        "mode change.py": "only its mode changed",
    }


def test_windows_line_ends_of_headers_and_lines_are_no_part_of_names_and_lines(changed_repo):
    diff = changed_repo.git_bytes("diff").replace(b"\n", b"\r\n")
    scope = scope_of(diff, changed_repo.root)
    assert [file.path for file in scope.files] == sorted(NAMES)
    assert all(file.changed == {15, 16} and not file.partial for file in scope.files)


def test_a_plain_diff_without_git_is_understood(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "x.py").write_text(CHANGED)
    lines = difflib.unified_diff(
        BODY.splitlines(True),
        CHANGED.splitlines(True),
        "project-1/src/x.py",
        "project-2/src/x.py",
        "2020-01-01",
        "2020",
    )
    (file,) = scope_of("".join(lines), tmp_path).files
    assert (file.path, file.changed, file.partial) == ("src/x.py", {15, 16}, False)


@pytest.mark.parametrize("old", ["x.py.orig", "x.py", "/dev/null"])
def test_a_plain_diff_of_one_file_is_named_after_its_new_side(tmp_path, old):
    (tmp_path / "x.py").write_text(CHANGED)
    before = "" if old == "/dev/null" else BODY
    lines = difflib.unified_diff(before.splitlines(True), CHANGED.splitlines(True), old, "x.py")
    (file,) = scope_of("".join(lines), tmp_path).files
    assert (file.path, file.partial) == ("x.py", False)


def test_a_new_file_in_a_folder_named_b_is_told_from_the_prefix_by_the_tree(tmp_path):
    text = "--- /dev/null\n+++ b/x.py\n@@ -0,0 +1 @@\n+import os\n"
    assert scope_of(text, tmp_path).files[0].path == "x.py"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.py").write_text("import os\n")
    assert scope_of(text, tmp_path).files[0].path == "b/x.py"


def test_names_relative_to_a_folder_inside_are_found(repo):
    repo.write("sub/x.py", BODY)
    repo.commit()
    repo.write("sub/x.py", CHANGED)
    diff = repo.git_bytes("diff", "--relative=sub")
    (file,) = scope_of(diff, repo.root / "sub").files
    assert (file.path, file.partial) == ("sub/x.py", False)


def test_mail_and_log_around_the_diff_are_passed_over(repo):
    repo.write("x.py", BODY)
    repo.commit()
    repo.write("x.py", CHANGED)
    repo.commit("A subject\n\n--- a list\n+++ in the message\n-- \n@@ what @@")
    for arguments in (("format-patch", "--stdout", "-1"), ("show",), ("log", "-p", "-1")):
        scope = scope_of(repo.git_bytes(*arguments), repo.root)
        assert [(f.path, f.changed) for f in scope.files] == [("x.py", {15, 16})]


def test_removed_and_added_lines_that_look_like_headers_are_lines(repo):
    repo.write("q.sql", "-- a\n-- b\nselect 1;\n")
    repo.commit()
    repo.write("q.sql", "++ c\n@@ -1 +1 @@\nselect 1;\n")
    (file,) = scope_of(repo.git_bytes("diff"), repo.root).files
    assert file.changed == {1, 2}
    assert file.hunks[0].removed == ("-- a", "-- b")


@pytest.mark.parametrize("form", ["--cc", "--combined", "-c"])
def test_a_merge_diff_lists_each_file_with_the_reason(repo, form):
    names = ["ü x.py", "other.py"]
    for name in names:
        repo.write(name, BODY)
    repo.commit()
    repo.git("checkout", "-q", "-b", "side")
    for name in names:
        repo.write(name, BODY.replace("x2 = 2", "x2 = 'side'"))
    repo.commit()
    repo.git("checkout", "-q", "main")
    for name in names:
        repo.write(name, BODY.replace("x2 = 2", "x2 = 'main'"))
    repo.commit()
    repo.git("merge", "-q", "side", ok=False)
    for name in names:
        repo.write(name, BODY.replace("x2 = 2", "x2 = 'both'"))
    repo.commit()
    option = form if form != "--combined" else "-c"
    text = repo.git_bytes("show", option, "HEAD")
    if form == "--combined":
        text = text.replace(b"diff --cc", b"diff --combined")
    scope = scope_of(text, repo.root)
    assert scope.files == ()
    assert set(skipped(scope)) == set(names)
    assert all("merge diff" in reason for reason in skipped(scope).values())


def test_without_the_file_the_hunks_alone_keep_their_line_numbers(tmp_path, repo):
    repo.write("x.py", BODY)
    repo.commit()
    repo.write("x.py", CHANGED)
    diff = repo.git_bytes("diff")
    (tmp_path / "elsewhere").mkdir()
    for contents in (None, "quite another file\n" * 40):
        if contents:
            (tmp_path / "elsewhere" / "x.py").write_text(contents)
        (file,) = scope_of(diff, tmp_path / "elsewhere").files
        assert file.partial
        assert file.changed == {15, 16}
        assert file.lines[11:19] == tuple(CHANGED.splitlines()[11:19])
        assert file.lines[:11] == ("",) * 11
        assert len(file.lines) == 19


def test_a_file_that_a_log_names_twice_is_read_once_and_the_rest_is_listed(repo):
    repo.write("x.py", BODY)
    repo.commit()
    repo.write("x.py", CHANGED)
    repo.commit()
    repo.write("x.py", CHANGED.replace("x3 = 3", "x3 = 0"))
    repo.commit()
    scope = scope_of(repo.git_bytes("log", "-p", "-2"), repo.root)
    assert [(f.path, f.changed) for f in scope.files] == [("x.py", {3, 15, 16})]
    repo.write("x.py", CHANGED.replace("x3 = 3", "x3 = 0").replace("x15 = 0", "x15 = 'later'"))
    scope = scope_of(repo.git_bytes("log", "-p", "-2"), repo.root)
    assert [(f.path, f.changed) for f in scope.files] == [("x.py", {3})]
    assert "more than once" in skipped(scope)["x.py"]


@pytest.mark.parametrize("text", ["", "\n", " \n\t\n"])
def test_nothing_on_standard_input_has_its_own_words(tmp_path, text):
    with pytest.raises(NothingToReviewError, match="nothing to review"):
        scope_of(text, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "hello\n",
        "fatal: bad revision 'x'\n",
        "@@ -1 +1 @@\n-a\n+b\n",
        "--- a/x.py\n",
        " x.py | 3 ++-\n 1 file changed\n",
        "diff --git\n",
        "\x1b[31mred\x1b[m\n",
        "diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n@@ -1,9 +1,9 @@\n-a\n+b\n",
        "diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n@@ nonsense @@\n-a\n+b\n",
        "diff --git a/x.py b/x.py\nindex 1111111..2222222 100644\n--- a/x.py\n+++ b/x.py\n",
        "diff --git a/x.py b/x.py\nnew file mode 100644\nindex 0000000..2222222\n",
        "\0\1\2",
    ],
)
def test_text_that_yields_no_file_is_not_understood(tmp_path, text):
    with pytest.raises(DiffNotUnderstoodError, match="not understood"):
        scope_of(text, tmp_path)


def test_a_damaged_file_is_listed_and_does_not_hide_the_others(tmp_path):
    text = (
        "diff --git a/bad.py b/bad.py\n--- a/bad.py\n+++ b/bad.py\n@@ -1,3 +1,9 @@\n-a\n+b\n"
        "diff --git a/good.py b/good.py\n--- a/good.py\n+++ b/good.py\n@@ -1 +1 @@\n-a\n+import os\n"
    )
    scope = scope_of(text, tmp_path)
    assert [file.path for file in scope.files] == ["good.py"]
    assert skipped(scope) == {}
    assert "damaged" in failed(scope)["bad.py"]


def test_a_diff_that_is_cut_anywhere_after_its_first_file_is_never_complete(repo):
    for name in ("a.py", "b.py"):
        repo.write(name, BODY)
    repo.commit()
    for name in ("a.py", "b.py"):
        repo.write(name, CHANGED)
    diff = repo.git_bytes("diff")
    second = diff.index(b"diff --git a/b.py")
    ends = [end for end, byte in enumerate(diff) if byte == ord("\n") and end > second]
    after_the_index, whole = diff.index(b"\n", diff.index(b"index ", second)), ends[-1]
    for end in (end for end in ends if after_the_index <= end < whole):
        scope = scope_of(diff[: end + 1], repo.root)
        assert [file.path for file in scope.files] == ["a.py"], diff[:end]
        assert list(failed(scope)) == ["b.py"], diff[:end]
    assert [file.path for file in scope_of(diff, repo.root).files] == ["a.py", "b.py"]


def test_a_damaged_file_that_is_left_out_on_request_has_not_failed(tmp_path):
    text = (
        "diff --git a/bad.py b/bad.py\n--- a/bad.py\n+++ b/bad.py\n@@ -1,3 +1,9 @@\n-a\n+b\n"
        "diff --git a/good.py b/good.py\n--- a/good.py\n+++ b/good.py\n@@ -1 +1 @@\n-a\n+b\n"
    )
    assert failed(scope_of(text, tmp_path, exclude=["bad.py"])) == {}


def test_a_file_that_became_empty_is_not_damaged(repo):
    repo.write("a.py", "x = 1\n")
    repo.commit()
    repo.write("a.py", "")
    repo.write("new.py", "")
    repo.git("add", "-A")
    scope = scope_of(repo.git_bytes("diff", "--cached"), repo.root)
    assert failed(scope) == {}
    assert sorted(skipped(scope)) == ["a.py", "new.py"]


@pytest.mark.parametrize("name", ["a.bin", "z.bin"])
def test_colours_hide_no_file_where_git_leaves_the_line_of_a_binary_file_plain(repo, name):
    repo.write("m.py", BODY)
    repo.write(name, b"\0")
    repo.commit()
    repo.write("m.py", CHANGED)
    repo.write(name, b"\0\1")
    scope = scope_of(repo.git_bytes("diff", "--color=always"), repo.root)
    assert [file.path for file in scope.files] == ["m.py"]
    assert skipped(scope) == {name: "binary, or marked so for git"}


def test_escape_sequences_in_the_code_of_a_plain_diff_stay(tmp_path):
    text = "--- a/x.py\n+++ b/x.py\n@@ -1 +1,2 @@\n-a\n+b = '\x1b[1m'\n+c\n"
    assert scope_of(text, tmp_path).files[0].lines[0] == "b = '\x1b[1m'"


@pytest.mark.parametrize("name", ["../outside.py", "/etc/hostname", "sub/../../outside.py", "link/x.py"])
def test_a_name_that_leads_out_of_the_folder_is_not_opened(tmp_path, name):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "x.py").write_text("secret = 1\n")
    (tmp_path / "outside.py").write_text("secret = 1\n")
    (root / "link").symlink_to(outside)
    text = f"diff --git a/{name} b/{name}\n--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-a\n+secret = 1\n"
    scope = scope_of(text, root)
    assert scope.files == ()
    assert skipped(scope) == {name: "its path leads out of the folder"}


def test_a_line_number_beyond_reason_costs_no_memory(tmp_path):
    text = "--- a/x.py\n+++ b/x.py\n@@ -1 +2000000000 @@\n-a\n+b\n"
    assert "not at hand" in skipped(scope_of(text, tmp_path))["x.py"]


def test_a_name_that_is_no_utf_8_is_listed_in_escapes(tmp_path):
    text = b'diff --git "a/\\377.py" "b/\\377.py"\n--- "a/\\377.py"\n+++ "b/\\377.py"\n@@ -1 +1 @@\n-a\n+b\n'
    assert skipped(scope_of(text, tmp_path)) == {"\\xff.py": "its name is not UTF-8"}


def test_bytes_that_came_through_python_text_are_the_same_bytes():
    data = b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-\xe4\n+\xf6\n"
    assert DiffRequest.from_text(data.decode("utf-8", "surrogateescape")).text == data


def test_the_missing_line_feed_at_the_end_is_no_line():
    text = b"--- a/x\n+++ b/x\n@@ -1 +1,2 @@\n-a\n\\ No newline at end of file\n+b\n+c\n\\ No newline at end of file\n"
    (file,) = parse(text)
    assert file.hunks[0].lines == (b"b", b"c")
    assert file.hunks[0].changed == {1, 2}


@pytest.mark.parametrize("lost", [1, 2, 3])
@pytest.mark.parametrize("which", ["context", "change"])
def test_a_plain_hunk_that_lost_lines_does_not_swallow_the_next_file(tmp_path, lost, which):
    parts = []
    for name in ("bad.py", "good.py"):
        (tmp_path / name).write_text(CHANGED)
        parts.append(
            "".join(difflib.unified_diff(BODY.splitlines(True), CHANGED.splitlines(True), name, name))
        )
    lines = parts[0].splitlines(True)
    del lines[len(lines) - lost if which == "context" else 4 : len(lines) if which == "context" else 4 + lost]
    scope = scope_of("".join(lines) + parts[1], tmp_path)
    assert "damaged" in failed(scope)["bad.py"]
    assert [(file.path, sorted(file.changed)) for file in scope.files] == [("good.py", [15, 16])]


def test_a_plain_hunk_without_context_that_lost_lines_does_not_swallow_the_next_file(tmp_path):
    for name in ("bad.py", "good.py"):
        (tmp_path / name).write_text(CHANGED)
    bad = "--- bad.py\n+++ bad.py\n@@ -1,3 +1,3 @@\n-a\n+b\n"
    good = difflib.unified_diff(BODY.splitlines(True), CHANGED.splitlines(True), "good.py", "good.py", n=0)
    scope = scope_of(bad + "".join(good), tmp_path)
    assert "damaged" in failed(scope)["bad.py"]
    assert [file.path for file in scope.files] == ["good.py"]


def test_removed_and_added_lines_that_look_like_names_are_read_as_lines(tmp_path):
    before = "x = 1\n-- a\ny = 2\n" + BODY
    after = "x = 1\n++ b\ny = 2\n" + BODY.replace("x15 = 15", "x15 = 0")
    (tmp_path / "a.sql").write_text(after)
    for context in (0, 3):
        text = difflib.unified_diff(
            before.splitlines(True), after.splitlines(True), "a.sql", "a.sql", n=context
        )
        (file,) = scope_of("".join(text), tmp_path).files
        assert sorted(file.changed) == [2, 18]
