"""The scope of a diff from standard input, with the files of the tree where they are those of the diff. Knows no git diff."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from dsv3chat.review.scope.changed import matches
from dsv3chat.review.scope.collection import Collection, Rules, on_disk, take_changed
from dsv3chat.review.scope.errors import DiffNotUnderstoodError, NothingToReviewError
from dsv3chat.review.scope.listing import repository
from dsv3chat.review.scope.patch import FileDiff, parse
from dsv3chat.review.scope.paths import inside, leads_inside, shown, with_paths
from dsv3chat.review.scope.reading import SkippedError, read_bytes
from dsv3chat.review.scope.request import DiffRequest
from dsv3chat.review.values import Scope


def of_text(paths: Sequence[Path], diff: DiffRequest, cwd: Path, rules: Rules) -> Scope:
    """What the diff's text changes in the paths, relative to the repository around `cwd` or to `cwd`. Raises ScopeError."""
    if not diff.text.strip():
        raise NothingToReviewError("nothing to review: standard input holds no diff")
    files = parse(diff.text)
    if all(file.is_damaged for file in files):
        reason = f"{shown(files[0].path)}: {files[0].reason}" if files else "no changed file was found in it"
        raise DiffNotUnderstoodError(
            f"the text on standard input is not understood as a diff: {reason}; "
            "expected is a unified diff, as `git diff` writes it"
        )
    git, _ = repository(cwd)
    root = git.root if git is not None else cwd
    found = Collection(root, (inside(path, cwd, root) for path in paths), rules, is_diff=True)
    below = "" if cwd == root else f"{cwd.relative_to(root).as_posix()}/"
    known = []
    for file in files:
        path, read = _in_tree(file, root, below, rules.max_file_bytes)
        known.append(path)
        if found.is_wanted(path):
            take_changed(found, file, path, read)
    found.check_named(known)
    return found.scope(with_paths(diff.description, paths))


def _in_tree(
    file: FileDiff, root: Path, below: str, max_bytes: int
) -> tuple[str, Callable[[], bytes | None]]:
    """(the name under which the tree holds the file, or its likeliest one; how to read it)."""
    names = [f"{folder}{path}" for folder in dict.fromkeys(("", below)) for path in file.paths]
    present = [name for name in names if leads_inside(root, name) and os.path.isfile(root / name)]
    for name in present:
        try:
            data = read_bytes(root / name, max_bytes)
        except SkippedError:
            continue
        if matches(file.hunks, data):
            return name, partial(on_disk, root, name, max_bytes)
    path = present[0] if present else names[0]

    def read() -> bytes | None:
        if not leads_inside(root, path):
            raise SkippedError("its path leads out of the folder")
        return on_disk(root, path, max_bytes)

    return path, read
