"""The scope of a diff that git makes: of the work tree, the index or commits. Knows no patch's form."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from dsv3chat.review.scope.changed import new_file
from dsv3chat.review.scope.collection import Collection, Rules, on_disk, read_listed, take_changed
from dsv3chat.review.scope.errors import BadRevisionError
from dsv3chat.review.scope.git import Git
from dsv3chat.review.scope.patch import FileDiff, parse
from dsv3chat.review.scope.paths import inside, nearest_folder, with_paths
from dsv3chat.review.scope.reading import SkippedError, too_large
from dsv3chat.review.scope.request import DiffRequest
from dsv3chat.review.values import Scope, SourceFile


def of_git(paths: Sequence[Path], diff: DiffRequest, cwd: Path, rules: Rules) -> Scope:
    """What a diff of the repository around the paths changes in them. Raises ScopeError."""
    git = Git(nearest_folder(paths[0], cwd) if paths else cwd)
    found = Collection(git.root, (inside(path, cwd, git.root) for path in paths), rules, is_diff=True)
    sides, in_work_tree = _sides(git, diff)
    every = parse(git.diff(*sides))  # the paths are picked here: given to git, they would tear renames apart
    files = [file for file in every if found.is_wanted(file.path)]
    contents: dict[str, bytes | int] = {}
    if not in_work_tree:
        contents = git.blobs([file.blob for file in files if not file.reason], rules.max_file_bytes)

    def new_side(file: FileDiff) -> bytes | None:
        if in_work_tree:
            return on_disk(git.root, file.path, rules.max_file_bytes)
        data = contents.get(file.blob)
        if isinstance(data, int):
            raise SkippedError(too_large(data, rules.max_file_bytes))
        return data

    for file in files:
        take_changed(found, file, file.path, partial(new_side, file))
    if in_work_tree:
        _take_untracked(git, diff, found)
    found.check_named(file.path for file in every)
    return found.scope(with_paths(diff.description, paths))


def _sides(git: Git, diff: DiffRequest) -> tuple[list[str], bool]:
    """(what `git diff` is asked to compare, whether the new side is the work tree)."""
    if diff.kind == "staged":
        return ["--cached"], False
    if diff.kind == "uncommitted":
        return [git.commit_id("HEAD") if git.has_commits() else git.empty_tree()], True
    if diff.kind == "commit":
        commit = git.commit_id(diff.revision)
        parent = git.first_parent(commit)
        if parent is not None and not git.has_object(parent):
            raise BadRevisionError(
                f"the parent of {diff.revision} is not in this shallow clone; fetch more of its history"
            )
        return [parent or git.empty_tree(), commit], False
    if not diff.revision:
        return [], True
    for dots in ("...", ".."):
        if dots in diff.revision:
            old, new = (git.commit_id(name or "HEAD") for name in diff.revision.split(dots, 1))
            if dots == "...":
                base = git.merge_base(old, new)
                if base is None:
                    raise BadRevisionError(
                        f"{diff.revision}: the two have no common commit in this repository"
                    )
                old = base
            return [old, new], False
    return [git.commit_id(diff.revision)], True


def _take_untracked(git: Git, diff: DiffRequest, found: Collection) -> None:
    for name in filter(found.is_wanted, git.untracked()):
        if name.endswith("/"):
            found.skip(name, "another repository")
        elif diff.kind == "uncommitted":
            found.take(name, partial(_read_new, found, name))
        else:
            found.skip(name, "not known to git yet; --uncommitted takes it in")


def _read_new(found: Collection, name: str) -> SourceFile:
    return new_file(read_listed(found, name))
