"""Folders and files: in a repository and without one, what is listed, what is left out, what is never opened."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from dsv3chat.review.scope import (
    BadPathError,
    DiffRequest,
    GitFailedError,
    NothingToReviewError,
    ScopeError,
    open_scope,
)
from dsv3chat.review.scope.git import Git

CODE = "import os\n\nprint(os)\n"


def scope_of(cwd, *paths, **options):
    return open_scope([Path(p) for p in paths], cwd=cwd, **options)


def names(scope):
    return [file.path for file in scope.files]


def skipped(scope):
    return {s.path: s.reason for s in scope.skipped}


@pytest.fixture(params=["repository", "folder"])
def tree(request, repo, tmp_path):
    """A writer of files in a folder that git keeps, and in one that it does not."""
    if request.param == "repository":
        return repo
    shutil.rmtree(repo.root / ".git")
    return repo


def test_ignore_files_nest_and_the_inner_one_wins(tree):
    for name in (
        "a.py",
        "a.log",
        "build/b.py",
        "sub/keep.log",
        "sub/c.tmp",
        "sub/deep/c.tmp",
        "sub/build/x.py",
        "top.py",
    ):
        tree.write(name, CODE)
    tree.write(".gitignore", "*.log\n/build/\n# a comment\n\n/top.py\n")
    tree.write("sub/.gitignore", "!keep.log\n*.tmp\n")
    assert names(scope_of(tree.root)) == [
        ".gitignore",
        "a.py",
        "sub/.gitignore",
        "sub/build/x.py",
        "sub/keep.log",
    ]
    every = scope_of(tree.root, gitignore=False)
    assert {"a.log", "build/b.py", "sub/c.tmp", "top.py"} <= set(names(every))


def test_own_ignore_file_counts_on_top_of_both_and_says_so(tree):
    for name in ("a.py", "vendor/x.py", "vendor/deep/y.py", "gen/z.py", "gen/keep.py"):
        tree.write(name, CODE)
    tree.write(".dsv3ignore", "vendor/\n.dsv3ignore\n")
    tree.write("gen/.dsv3ignore", "*\n!keep.py\n")
    scope = scope_of(tree.root, gitignore=False)
    assert names(scope) == ["a.py", "gen/keep.py"]
    assert skipped(scope)["vendor/"] == "ignored by .dsv3ignore"
    assert "vendor/x.py" not in skipped(scope)
    assert skipped(scope)["gen/z.py"] == "ignored by .dsv3ignore"


def test_exclude_takes_the_patterns_of_gitignore(tree):
    for name in ("a.py", "tests/x.py", "src/tests/y.py", "src/gen_1.py"):
        tree.write(name, CODE)
    scope = scope_of(tree.root, exclude=["/tests/", "src/gen_*.py"])
    assert names(scope) == ["a.py", "src/tests/y.py"]
    assert skipped(scope) == {"tests/x.py": "excluded by /tests/", "src/gen_1.py": "excluded by src/gen_*.py"}
    with pytest.raises(ScopeError, match="--exclude !"):
        scope_of(tree.root, exclude=["!"])


def test_a_file_that_is_named_is_reviewed_although_ignore_files_name_it(tree):
    tree.write(".gitignore", "secret/\n")
    tree.write(".dsv3ignore", "*.py\n")
    tree.write("secret/x.py", CODE)
    tree.write("made_pb2.py", CODE)
    scope = scope_of(tree.root, "secret/x.py", "made_pb2.py")
    assert names(scope) == ["made_pb2.py", "secret/x.py"]


def test_an_ignored_folder_that_is_named_is_reviewed(tree):
    tree.write(".gitignore", ".venv/\n*.log\n")
    tree.write(".venv/lib/pkg/x.py", CODE)
    tree.write(".venv/lib/pkg/.gitignore", "own.py\n")
    tree.write(".venv/lib/pkg/own.py", CODE)
    assert ".venv/lib/pkg/x.py" not in names(scope_of(tree.root))
    assert names(scope_of(tree.root, ".venv/lib/pkg")) == [".venv/lib/pkg/.gitignore", ".venv/lib/pkg/x.py"]


def test_links_are_listed_and_never_followed(tree, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.py").write_text(CODE)
    tree.write("pkg/x.py", CODE)
    os.symlink("..", tree.root / "pkg" / "loop")
    os.symlink("self", tree.root / "self")
    os.symlink(outside, tree.root / "out")
    os.symlink(outside / "secret.py", tree.root / "secret.py")
    os.symlink("nowhere", tree.root / "dangling.py")
    scope = scope_of(tree.root)
    assert names(scope) == ["pkg/x.py"]
    assert skipped(scope) == {
        "dangling.py": "a symbolic link to nothing",
        "out": "a symbolic link",
        "pkg/loop": "a symbolic link",
        "secret.py": "a symbolic link",
        "self": "a symbolic link that leads back to itself",
    }


def test_a_link_that_is_named_is_reviewed_under_its_real_name(tree):
    tree.write("pkg/x.py", CODE)
    os.symlink("pkg", tree.root / "link")
    assert names(scope_of(tree.root, "link")) == ["pkg/x.py"]
    assert names(scope_of(tree.root, "link/x.py", "pkg")) == ["pkg/x.py"]


def test_pipes_and_sockets_are_listed_and_never_opened(tmp_path):
    (tmp_path / "x.py").write_text(CODE)
    os.mkfifo(tmp_path / "pipe.py")
    listener = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(tmp_path)  # the path of a socket may have 107 bytes
    try:
        listener.bind("socket.py")
    finally:
        os.chdir(here)
    try:
        scope = scope_of(tmp_path)
        named = scope_of(tmp_path, "pipe.py")
    finally:
        listener.close()
    assert names(scope) == ["x.py"]
    assert skipped(scope) == {"pipe.py": "a named pipe", "socket.py": "a socket"}
    assert skipped(named) == {"pipe.py": "a named pipe"}


def test_what_cannot_be_read_is_listed(tree, monkeypatch):
    tree.write("x.py", CODE)
    tree.write("closed.py", CODE)
    tree.write("gone.py", CODE)
    real = os.open

    def refuse(path, *arguments, **options):
        if str(path).endswith("closed.py"):
            raise PermissionError(13, "Permission denied")
        if str(path).endswith("gone.py"):
            raise FileNotFoundError(2, "No such file or directory")
        return real(path, *arguments, **options)

    monkeypatch.setattr("dsv3chat.review.scope.reading.os.open", refuse)
    scope = scope_of(tree.root)
    assert names(scope) == ["x.py"]
    assert skipped(scope) == {"closed.py": "unreadable: Permission denied", "gone.py": "gone from the disk"}


def test_a_folder_that_cannot_be_opened_is_listed(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "x.py").write_text(CODE)
    real = os.scandir

    def refuse(path):
        if str(path).endswith("sub/"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("dsv3chat.review.scope.listing.os.scandir", lambda path: refuse(f"{path}/"))
    assert skipped(scope_of(tmp_path)) == {"sub/": "unreadable: Permission denied"}


def test_a_tracked_file_that_is_gone_a_submodule_and_a_repository_inside_are_listed(repo, make_repo):
    repo.write("x.py", CODE)
    repo.write("gone.py", CODE)
    inner = make_repo(repo.root / "sub")
    inner.write("y.py", CODE)
    inner.commit()
    repo.commit()
    (repo.root / "gone.py").unlink()
    other = make_repo(repo.root / "other")
    other.write("z.py", CODE)
    other.commit()
    scope = scope_of(repo.root)
    assert names(scope) == ["x.py"]
    assert skipped(scope) == {
        "gone.py": "gone from the disk",
        "sub": "a submodule",
        "other/": "another repository",
    }
    assert names(scope_of(repo.root, "sub")) == ["y.py"]
    assert scope_of(repo.root, "sub").root == inner.root


def test_names_are_what_the_disk_says(tree):
    awkward = sorted(
        [
            "grün.py",
            "with space.py",
            "tab\there.py",
            'quo"te.py',
            "new\nline.py",
            " lead.py",
            "[x].py",
            "*.py",
        ]
    )
    for name in awkward:
        tree.write(name, CODE)
    assert names(scope_of(tree.root)) == awkward
    assert names(scope_of(tree.root, "[x].py", "*.py")) == ["*.py", "[x].py"]


def test_a_name_that_is_no_utf_8_is_listed_in_escapes(tree):
    tree.write("x.py", CODE)
    Path(os.fsdecode(os.fsencode(tree.root) + b"/\xff.py")).write_text(CODE)
    assert skipped(scope_of(tree.root)) == {"\\xff.py": "its name is not UTF-8"}


def test_the_root_is_the_repository_else_the_folder_that_holds_everything(repo, tmp_path):
    repo.write("sub/x.py", CODE)
    assert scope_of(repo.root / "sub").root == repo.root
    assert names(scope_of(repo.root / "sub")) == ["sub/x.py"]
    assert names(scope_of(tmp_path, "repo/sub")) == ["sub/x.py"]
    plain = tmp_path / "plain"
    (plain / "a").mkdir(parents=True)
    (plain / "a" / "y.py").write_text(CODE)
    assert names(scope_of(plain, "a")) == ["a/y.py"]
    assert names(scope_of(repo.root, str(plain / "a"))) == ["y.py"]
    both = scope_of(tmp_path, "repo", "plain")
    assert (both.root, names(both)) == (tmp_path, ["plain/a/y.py", "repo/sub/x.py"])


def test_what_tools_install_is_passed_over_unless_it_is_named(tmp_path):
    for name in ("x.py", "node_modules/m.js", "env/lib/p.py", "__pycache__/x.py", ".git-is-no-repo/y.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(CODE)
    (tmp_path / "env" / "pyvenv.cfg").write_text("home = /usr\n")
    scope = scope_of(tmp_path)
    assert names(scope) == [".git-is-no-repo/y.py", "x.py"]
    assert set(skipped(scope)) == {"env/", "node_modules/"}
    assert names(scope_of(tmp_path, "node_modules")) == ["node_modules/m.js"]


def test_the_description_names_what_was_asked(repo):
    repo.write("a/x.py", CODE)
    assert scope_of(repo.root, "a").description == "a"
    assert scope_of(repo.root, "a", "a/x.py").description == "a, a/x.py"
    assert scope_of(repo.root).description == "repo"


def test_a_folder_without_files_and_a_path_that_is_not_there_have_their_own_words(tree):
    (tree.root / "empty").mkdir()
    with pytest.raises(NothingToReviewError, match="empty holds no file"):
        scope_of(tree.root, "empty")
    with pytest.raises(BadPathError, match=r"gone\.py does not exist"):
        scope_of(tree.root, "gone.py")
    tree.write("x.py", CODE)
    with pytest.raises(BadPathError, match=r"x\.py/y cannot be read: Not a directory"):
        scope_of(tree.root, "x.py/y")
    with pytest.raises(BadPathError):
        scope_of(tree.root, "x\0.py")
    os.symlink("self", tree.root / "self")
    with pytest.raises(BadPathError):
        scope_of(tree.root, "self")


def test_only_skipped_files_are_a_scope_with_reasons(tree):
    tree.write("empty.py", "")
    scope = scope_of(tree.root)
    assert (scope.files, skipped(scope)) == ((), {"empty.py": "empty"})


def test_without_git_a_repository_is_walked_and_the_description_says_so(repo, monkeypatch, tmp_path):
    repo.write(".gitignore", "*.log\n")
    repo.write("x.py", CODE)
    repo.write("x.log", CODE)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    scope = scope_of(repo.root)
    assert names(scope) == [".gitignore", "x.py"]
    assert "without git" in scope.description


def test_a_folder_that_git_could_not_open_is_listed(repo, monkeypatch):
    repo.write("x.py", CODE)
    real = Git._call

    def with_warning(self, arguments, stdin=b""):
        done = real(self, arguments, stdin)
        if arguments[0] == "ls-files":
            done.stderr = b"warning: could not open directory 'closed/': Permission denied\n"
        return done

    monkeypatch.setattr(Git, "_call", with_warning)
    assert skipped(scope_of(repo.root)) == {"closed/": "unreadable: Permission denied"}


def test_the_number_of_git_calls_does_not_grow_with_the_files(repo, monkeypatch):
    for number in range(200):
        repo.write(f"pkg{number % 10}/m{number}.py", CODE)
    calls = []
    real = Git._call

    def count(self, arguments, stdin=b""):
        calls.append(arguments[0])
        return real(self, arguments, stdin)

    monkeypatch.setattr(Git, "_call", count)
    assert len(scope_of(repo.root).files) == 200
    assert calls.count("ls-files") == 1
    assert len(calls) <= 4


@pytest.fixture
def closed(monkeypatch):
    """Files whose names begin with "closed" cannot be opened."""
    real = os.open

    def refuse(path, *arguments, **options):
        if os.path.basename(path).startswith("closed"):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr("dsv3chat.review.scope.reading.os.open", refuse)


def test_a_named_file_that_cannot_be_read_is_an_error(tree, closed):
    tree.write("x.py", CODE)
    tree.write("closed.py", CODE)
    with pytest.raises(BadPathError, match=r"^closed.py cannot be read: Permission denied$"):
        open_scope([Path("x.py"), Path("closed.py")], cwd=tree.root)


def test_a_changed_file_that_cannot_be_read_has_failed(repo, closed):
    repo.write("x.py", CODE)
    repo.commit()
    repo.write("closed.py", CODE)
    scope = open_scope([], diff=DiffRequest.uncommitted(), cwd=repo.root)
    assert [(place.path, place.reason) for place in scope.failed] == [
        ("closed.py", "unreadable: Permission denied")
    ]


@pytest.mark.parametrize("paths", [[], [Path("sub")]])
def test_a_named_folder_that_cannot_be_opened_is_an_error_in_words(tmp_path, monkeypatch, paths):
    (tmp_path / "sub").mkdir()

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("dsv3chat.review.scope.paths.os.scandir", refuse)
    with pytest.raises(BadPathError, match=r"(sub|\w) cannot be read: Permission denied$"):
        open_scope(paths, cwd=tmp_path)


def test_git_that_cannot_be_started_in_a_folder_is_said_without_python_words(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied", tmp_path)

    monkeypatch.setattr("dsv3chat.review.scope.git.subprocess.run", refuse)
    with pytest.raises(GitFailedError, match=f"in {tmp_path}: Permission denied$"):
        Git(tmp_path)
