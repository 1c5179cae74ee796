"""The diffs that git makes: the same scope whatever git's configuration, every changed file in it or listed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dsv3chat.review.scope import (
    BadPathError,
    BadRevisionError,
    DiffRequest,
    GitMissingError,
    NotARepositoryError,
    open_scope,
)

NAMES = [
    "grün.py",
    "日本.py",
    "with space.py",
    "tab\there.py",
    'quo"te.py',
    "back\\slash.py",
    "new\nline.py",
    " lead.py",
    "trail.py ",
    "a b/a b.py",
    "a/b/c.py",
    "b/x.py",
    "-dash.py",
    ":(glob)x.py",
    "*.py",
]
BODY = "".join(f"x{i} = {i}\n" for i in range(1, 31))
CHANGED = BODY.replace("x15 = 15\n", "x15 = 0\nnew = 1\n")


def scope_of(repo, request, paths=(), **options):
    return open_scope([Path(p) for p in paths], diff=request, cwd=repo.root, **options)


def skipped(scope):
    return {s.path: s.reason for s in scope.skipped}


@pytest.mark.parametrize("side", ["work tree", "staged", "commit", "range"])
def test_every_name_is_reviewed_as_it_is(repo, side):
    for name in NAMES:
        repo.write(name, BODY)
    repo.commit()
    for name in NAMES:
        repo.write(name, CHANGED)
    request = DiffRequest.uncommitted()
    if side == "staged":
        repo.git("add", "-A")
        request = DiffRequest.staged()
    elif side != "work tree":
        repo.commit()
        request = DiffRequest.commit("HEAD") if side == "commit" else DiffRequest.between("HEAD~1..HEAD")
    scope = scope_of(repo, request)
    assert [file.path for file in scope.files] == sorted(NAMES)
    assert scope.skipped == ()
    assert all(file.changed == {15, 16} for file in scope.files)
    assert all(file.lines == tuple(CHANGED.splitlines()) and not file.partial for file in scope.files)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("diff.noprefix", "true"),
        ("diff.mnemonicPrefix", "true"),
        ("color.ui", "always"),
        ("color.diff", "always"),
        ("diff.external", "false"),
        ("diff.context", "0"),
        ("diff.interHunkContext", "50"),
        ("diff.renames", "false"),
        ("diff.algorithm", "minimal"),
        ("diff.suppressBlankEmpty", "true"),
        ("diff.relative", "true"),
        ("diff.orderFile", "no-such-file"),
        ("diff.submodule", "log"),
        ("diff.colorMoved", "zebra"),
        ("diff.wordRegex", "."),
        ("diff.wsErrorHighlight", "all"),
        ("core.quotePath", "false"),
        ("core.pager", "false"),
        ("core.fsmonitor", "touch fsmonitor-ran; false"),
        ("diff.ignoreSubmodules", "all"),
    ],
)
def test_no_configuration_changes_the_scope(repo, key, value):
    for name in ("ü x.py", "old.py"):
        repo.write(name, BODY)
    repo.commit()
    repo.write("ü x.py", CHANGED.replace("x20 = 20\n", "\n"))
    repo.git("mv", "old.py", "new.py")
    repo.write("new.py", CHANGED)
    repo.commit()
    request = DiffRequest.between("HEAD~1")
    plain = scope_of(repo, request)
    repo.git("config", key, value)
    assert scope_of(repo, request) == plain
    assert [file.path for file in plain.files] == ["new.py", "ü x.py"]
    assert plain.files[0].changed == {15, 16}
    assert not (repo.root / "fsmonitor-ran").exists()


def test_external_and_textconv_drivers_do_not_run(repo):
    repo.write("x.py", BODY)
    repo.write(".gitattributes", "*.py diff=evil\n")
    repo.commit()
    repo.write("x.py", CHANGED)
    repo.git("config", "diff.evil.command", "touch ran; true")
    repo.git("config", "diff.evil.textconv", "touch ran; true")
    scope = scope_of(repo, DiffRequest.uncommitted())
    assert [file.path for file in scope.files] == ["x.py"]
    assert not (repo.root / "ran").exists()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GIT_EXTERNAL_DIFF", "false"),
        ("GIT_DIFF_OPTS", "-u0"),
        ("GIT_DIR", "/nowhere"),
        ("GIT_WORK_TREE", "/nowhere"),
        ("GIT_INDEX_FILE", "/nowhere/index"),
        ("GIT_GLOB_PATHSPECS", "1"),
        ("LC_ALL", "de_DE.UTF-8"),
    ],
)
def test_no_variable_changes_the_scope(repo, monkeypatch, variable, value):
    repo.write("x.py", BODY)
    repo.commit()
    repo.write("x.py", CHANGED)
    monkeypatch.setenv(variable, value)
    (file,) = scope_of(repo, DiffRequest.uncommitted()).files
    assert file.changed == {15, 16}
    assert (file.hunks[0].start, file.hunks[0].end) == (12, 19)


def test_a_hook_that_has_an_index_of_its_own_reviews_that_index(repo, monkeypatch):
    repo.write("x.py", BODY)
    repo.commit()
    repo.write("x.py", CHANGED)
    index = repo.root / ".git" / "next-index.lock"
    index.write_bytes((repo.root / ".git" / "index").read_bytes())
    monkeypatch.setenv("GIT_INDEX_FILE", str(index))
    repo.git("add", "x.py")
    assert [file.path for file in scope_of(repo, DiffRequest.staged()).files] == ["x.py"]
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert scope_of(repo, DiffRequest.staged()).files == ()


def test_what_has_no_new_lines_is_listed_with_its_reason(repo, make_repo):
    for name in ("deleted.py", "moved.py", "mode.py"):
        repo.write(name, BODY + f"# {name}\n")
    repo.write("binary.dat", b"\0\1\2")
    repo.write("file-then-link", "text\n")
    inner = make_repo(repo.root / "sub")
    inner.write("inner.py", BODY)
    inner.commit()
    repo.commit()
    (repo.root / "deleted.py").unlink()
    repo.git("mv", "moved.py", "moved away.py")
    (repo.root / "mode.py").chmod(0o755)
    repo.write("binary.dat", b"\0\1\2\3")
    repo.write("empty.py", "")
    (repo.root / "file-then-link").unlink()
    os.symlink("mode.py", repo.root / "file-then-link")
    inner.write("inner.py", CHANGED)
    inner.commit()
    repo.commit()
    scope = scope_of(repo, DiffRequest.commit("HEAD"))
    assert scope.files == ()
    assert skipped(scope) == {
        "deleted.py": "deleted",
        "moved away.py": "renamed without a change",
        "mode.py": "only its mode changed",
        "binary.dat": "binary, or marked so for git",
        "empty.py": "empty",
        "file-then-link": "a symbolic link",
        "sub": "a submodule",
    }


def test_a_link_that_becomes_a_file_is_reviewed(repo):
    repo.write("x.py", BODY)
    os.symlink("x.py", repo.root / "y.py")
    repo.commit()
    (repo.root / "y.py").unlink()
    repo.write("y.py", "import os\n")
    scope = scope_of(repo, DiffRequest.uncommitted())
    assert [file.path for file in scope.files] == ["y.py"]
    assert scope.skipped == ()


def test_a_renamed_file_is_reviewed_under_its_new_name_also_when_only_that_is_named(repo):
    repo.write("old name.py", BODY)
    repo.commit()
    repo.git("mv", "old name.py", "neü.py")
    repo.write("neü.py", CHANGED)
    repo.commit()
    for paths in ((), ("neü.py",)):
        (file,) = scope_of(repo, DiffRequest.commit("HEAD"), paths).files
        assert (file.path, file.changed) == ("neü.py", {15, 16})


def test_the_staged_side_is_the_index_and_not_the_work_tree(repo):
    repo.write("x.py", BODY)
    repo.commit()
    repo.write("x.py", CHANGED)
    repo.git("add", "x.py")
    repo.write("x.py", "something else entirely\n")
    (file,) = scope_of(repo, DiffRequest.staged()).files
    assert file.lines == tuple(CHANGED.splitlines())


def test_a_commit_shows_its_own_contents_whatever_came_later(repo):
    repo.write("x.py", BODY)
    repo.commit()
    repo.write("x.py", CHANGED)
    sha = repo.commit()
    repo.git("rm", "-q", "x.py")
    repo.commit()
    for request in (
        DiffRequest.commit(sha),
        DiffRequest.commit(sha[:8]),
        DiffRequest.between(f"{sha}~1..{sha}"),
    ):
        (file,) = scope_of(repo, request).files
        assert file.lines == tuple(CHANGED.splitlines())


def test_the_first_commit_and_a_repository_without_commits_are_all_new(repo):
    repo.write("x.py", BODY)
    repo.git("add", "x.py")
    for request in (DiffRequest.staged(), DiffRequest.uncommitted()):
        (file,) = scope_of(repo, request).files
        assert file.changed == frozenset(range(1, 31))
    repo.commit()
    (file,) = scope_of(repo, DiffRequest.commit("HEAD")).files
    assert file.changed == frozenset(range(1, 31))


def test_three_dots_show_one_side_since_the_common_commit(repo):
    repo.write("x.py", BODY)
    repo.commit()
    repo.git("checkout", "-q", "-b", "side")
    repo.write("side.py", BODY)
    repo.commit()
    repo.git("checkout", "-q", "main")
    repo.write("main.py", "import os\n")
    repo.commit()
    paths = {dots: scope_of(repo, DiffRequest.between(f"main{dots}side")) for dots in ("...", "..")}
    assert [f.path for f in paths["..."].files] == ["side.py"]
    assert skipped(paths["..."]) == {}
    assert skipped(paths[".."]) == {"main.py": "deleted"}
    assert [f.path for f in scope_of(repo, DiffRequest.between("side...")).files] == ["main.py"]


def test_a_merge_commit_is_compared_with_its_first_parent(repo):
    repo.write("x.py", BODY)
    repo.commit()
    repo.git("checkout", "-q", "-b", "side")
    repo.write("side.py", BODY)
    repo.commit()
    repo.git("checkout", "-q", "main")
    repo.write("main.py", "import os\n")
    repo.commit()
    repo.git("merge", "-q", "--no-edit", "side")
    assert [f.path for f in scope_of(repo, DiffRequest.commit("HEAD")).files] == ["side.py"]


def test_an_unsolved_conflict_is_listed(repo):
    repo.write("x.py", BODY)
    repo.commit()
    repo.git("checkout", "-q", "-b", "side")
    repo.write("x.py", CHANGED)
    repo.commit()
    repo.git("checkout", "-q", "main")
    repo.write("x.py", CHANGED.replace("x15 = 0", "x15 = 99"))
    repo.commit()
    repo.git("merge", "-q", "side", ok=False)
    assert "merge diff" in skipped(scope_of(repo, DiffRequest.between()))["x.py"]
    assert "unmerged" in skipped(scope_of(repo, DiffRequest.staged()))["x.py"]
    assert [f.path for f in scope_of(repo, DiffRequest.uncommitted()).files] == ["x.py"]


def test_new_files_belong_to_uncommitted_and_are_listed_by_the_others(repo):
    repo.write("x.py", BODY)
    repo.commit()
    repo.write("new file.py", "import os\n\nprint(os)\n")
    repo.write(".gitignore", "*.log\n")
    repo.write("x.log", "noise\n")
    scope = scope_of(repo, DiffRequest.uncommitted())
    file = next(f for f in scope.files if f.path == "new file.py")
    assert file.changed == {1, 2, 3}
    assert (file.hunks[0].start, file.hunks[0].end) == (1, 3)
    assert "x.log" not in {f.path for f in scope.files}
    plain = scope_of(repo, DiffRequest.between())
    assert plain.files == ()
    assert "--uncommitted" in skipped(plain)["new file.py"]


def test_windows_line_ends_do_not_move_lines(repo):
    repo.write("x.py", BODY.replace("\n", "\r\n"))
    repo.commit()
    repo.write("x.py", CHANGED.replace("\n", "\r\n"))
    (file,) = scope_of(repo, DiffRequest.uncommitted()).files
    assert file.changed == {15, 16}
    assert file.lines[14:16] == ("x15 = 0", "new = 1")
    assert not file.partial


def test_a_lone_carriage_return_ends_a_line_in_file_and_hunk_alike(repo):
    repo.write("x.py", "a = 1\rb = 2\nc = 3\nd = 4\n")
    repo.commit()
    repo.write("x.py", "a = 1\rb = 2\nc = 3\nd = 0\re = 5\n")
    (file,) = scope_of(repo, DiffRequest.uncommitted()).files
    assert file.lines == ("a = 1", "b = 2", "c = 3", "d = 0", "e = 5")
    assert file.changed == {4, 5}


def test_latin_1_and_form_feeds_keep_their_lines(repo):
    body = b"# Gr\xfc\xdfe\n\x0c\nx = '\xe2\x80\xa8'\ny = 1\n"
    repo.write("x.py", body)
    repo.commit()
    repo.write("x.py", body.replace(b"y = 1", b"y = '\xe4'"))
    (file,) = scope_of(repo, DiffRequest.uncommitted()).files
    assert file.changed == {4}
    assert file.lines[0] == "# Grüße"
    assert file.lines[3] == "y = 'ä'"


def test_a_hunk_that_only_deletes_keeps_its_text(repo):
    repo.write("x.py", BODY)
    repo.commit()
    repo.write("x.py", BODY.replace("x15 = 15\n", ""))
    (file,) = scope_of(repo, DiffRequest.uncommitted()).files
    assert file.changed == frozenset()
    (hunk,) = file.hunks
    assert (hunk.start, hunk.end, hunk.changed, hunk.removed) == (12, 17, frozenset(), ("x15 = 15",))


def test_a_large_blob_is_not_read_and_says_its_size(repo):
    repo.write("x.py", BODY)
    repo.commit()
    repo.write("x.py", BODY * 100)
    repo.git("add", "-A")
    for request in (DiffRequest.staged(), DiffRequest.uncommitted()):
        assert "too large" in skipped(scope_of(repo, request, max_file_bytes=1000))["x.py"]


def test_exclude_and_own_ignore_file_leave_changed_files_out_and_say_so(repo):
    for name in ("a.py", "vendor/v.py", "tests/t.py"):
        repo.write(name, BODY)
    repo.write(".dsv3ignore", "vendor/\n")
    repo.commit()
    for name in ("a.py", "vendor/v.py", "tests/t.py"):
        repo.write(name, CHANGED)
    scope = scope_of(repo, DiffRequest.uncommitted(), exclude=["tests/"])
    assert [file.path for file in scope.files] == ["a.py"]
    assert skipped(scope) == {"vendor/": "ignored by .dsv3ignore", "tests/t.py": "excluded by tests/"}


def test_paths_narrow_a_diff_from_any_folder(repo):
    for name in ("a.py", "sub/b.py", "sub/deep/c.py", "subway.py"):
        repo.write(name, BODY)
    repo.commit()
    for name in ("a.py", "sub/b.py", "sub/deep/c.py", "subway.py"):
        repo.write(name, CHANGED)
    (repo.root / "sub" / "deep" / "c.py").unlink()
    scope = scope_of(repo, DiffRequest.uncommitted(), ["sub"])
    assert [file.path for file in scope.files] == ["sub/b.py"]
    assert skipped(scope) == {"sub/deep/c.py": "deleted"}
    inner = open_scope([Path(".")], diff=DiffRequest.uncommitted(), cwd=repo.root / "sub")
    assert inner.files == scope.files
    assert inner.root == repo.root
    gone = open_scope([Path("deep/c.py")], diff=DiffRequest.uncommitted(), cwd=repo.root / "sub")
    assert skipped(gone) == {"sub/deep/c.py": "deleted"}
    assert len(open_scope([], diff=DiffRequest.uncommitted(), cwd=repo.root / "sub").files) == 3


def test_a_diff_without_changes_is_a_scope_without_files(repo):
    repo.write("x.py", BODY)
    repo.commit()
    scope = scope_of(repo, DiffRequest.between("HEAD"))
    assert (scope.files, scope.skipped, scope.is_diff) == ((), (), True)


BAD = [
    "nope",
    "-x",
    "--output=evil",
    "HEAD..nope",
    "nope...HEAD",
    "^HEAD",
    "HEAD^!",
    "HEAD:x.py",
    "HEAD^{tree}",
    "a b",
    "\0",
]


@pytest.mark.parametrize("revision", BAD)
def test_a_bad_revision_is_named_in_one_line_and_reaches_git_as_no_option(repo, revision):
    repo.write("x.py", BODY)
    repo.commit()
    before = sorted(repo.root.iterdir())
    for request in (DiffRequest.between(revision), DiffRequest.commit(revision)):
        with pytest.raises(BadRevisionError) as caught:
            scope_of(repo, request)
        assert "\n" not in str(caught.value)
    assert sorted(repo.root.iterdir()) == before


def test_a_bad_revision_has_gits_own_words_and_a_range_is_no_commit(repo):
    repo.write("x.py", BODY)
    repo.commit()
    repo.commit()
    with pytest.raises(BadRevisionError, match="bad revision 'nope'"):
        scope_of(repo, DiffRequest.between("nope"))
    with pytest.raises(BadRevisionError, match="does not name one commit"):
        scope_of(repo, DiffRequest.commit("HEAD~1..HEAD"))


def test_branches_tags_and_words_of_git_name_commits(repo):
    repo.write("x.py", BODY)
    repo.commit()
    repo.git("tag", "-a", "-m", "a tag", "v1")
    repo.git("branch", "x.py")
    repo.write("x.py", CHANGED)
    repo.commit()
    for revision in ("v1", "HEAD~1", "HEAD^", "main~1", "x.py", "@~1", "v1..main", "v1...", "HEAD~1.."):
        assert [f.changed for f in scope_of(repo, DiffRequest.between(revision)).files] == [{15, 16}]


def test_unrelated_histories_have_no_common_commit(repo):
    repo.write("x.py", BODY)
    repo.commit()
    repo.git("checkout", "-q", "--orphan", "other")
    repo.commit("another beginning")
    with pytest.raises(BadRevisionError, match="no common commit"):
        scope_of(repo, DiffRequest.between("main...other"))


def test_the_edge_of_a_shallow_clone_is_not_taken_for_the_first_commit(repo, make_repo, tmp_path):
    repo.write("x.py", BODY)
    repo.commit()
    repo.write("x.py", CHANGED)
    repo.commit()
    make_repo(tmp_path / "other").git(
        "clone", "-q", "--depth=1", f"file://{repo.root}", str(tmp_path / "clone")
    )
    with pytest.raises(BadRevisionError, match="shallow"):
        open_scope([], diff=DiffRequest.commit("HEAD"), cwd=tmp_path / "clone")


def test_a_folder_without_repository_is_said(tmp_path):
    with pytest.raises(NotARepositoryError, match="not a git repository"):
        open_scope([], diff=DiffRequest.staged(), cwd=tmp_path)


def test_a_repository_of_somebody_else_is_said_in_gits_words(repo, monkeypatch):
    repo.write("x.py", BODY)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setattr("dsv3chat.review.scope.git._KEPT", ("GIT_",))
    with pytest.raises(NotARepositoryError, match="dubious ownership"):
        scope_of(repo, DiffRequest.staged())
    scope = open_scope([], cwd=repo.root)
    assert [file.path for file in scope.files] == ["x.py"]
    assert "dubious ownership" in scope.description


def test_missing_git_is_said(repo, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(GitMissingError, match="not installed"):
        scope_of(repo, DiffRequest.staged())


def test_a_path_outside_the_repository_or_that_nobody_knows_is_refused(repo, tmp_path):
    repo.write("x.py", BODY)
    repo.commit()
    repo.write("x.py", CHANGED)
    with pytest.raises(BadPathError, match="does not exist"):
        scope_of(repo, DiffRequest.uncommitted(), ["y.py"])
    with pytest.raises(BadPathError, match="outside"):
        scope_of(repo, DiffRequest.uncommitted(), ["x.py", str(tmp_path)])


def test_a_file_that_changes_while_it_is_read_is_reviewed_by_its_hunks(repo, monkeypatch):
    repo.write("x.py", BODY)
    repo.commit()
    path = repo.write("x.py", CHANGED)
    from dsv3chat.review.scope.git import Git

    diff = Git.diff

    def diff_then_write(self, *what):
        text = diff(self, *what)
        path.write_text("gone\n")
        return text

    monkeypatch.setattr(Git, "diff", diff_then_write)
    (file,) = scope_of(repo, DiffRequest.uncommitted()).files
    assert file.partial
    assert file.lines[14:16] == ("x15 = 0", "new = 1")
    assert file.lines[:11] == ("",) * 11


def test_no_hook_runs(repo):
    repo.write("x.py", BODY)
    repo.commit()
    repo.write("x.py", CHANGED)
    hook = repo.write(".git/hooks/post-index-change", "#!/bin/sh\ntouch hook-ran\n")
    hook.chmod(hook.stat().st_mode | stat.S_IXUSR)
    os.utime(repo.root / "x.py", (1, 1))
    scope_of(repo, DiffRequest.uncommitted())
    assert not (repo.root / "hook-ran").exists()
