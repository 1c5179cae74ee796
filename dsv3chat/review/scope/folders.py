"""The scope of folders and files on the disk, whole. Knows no diff."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from dsv3chat.review.scope.collection import Collection, Rules, read_listed
from dsv3chat.review.scope.errors import NothingToReviewError
from dsv3chat.review.scope.listing import Listing, list_folder, repository
from dsv3chat.review.scope.paths import below, existing, several
from dsv3chat.review.values import Scope


def of_folders(paths: Sequence[Path], cwd: Path, rules: Rules) -> Scope:
    """What lies in the paths; no path means `cwd`. Raises ScopeError."""
    targets = [existing(path, cwd) for path in paths or [cwd]]
    listing, repositories, notes = Listing(), [], dict[str, None]()
    for target in dict.fromkeys(targets):
        folder = target if target.is_dir() else target.parent
        git, note = repository(folder)
        notes |= {note: None} if note else {}
        repositories.append(git.root if git is not None else None)
        if target.is_dir():
            list_folder(target, git, listing, gitignore=rules.gitignore)
        else:
            listing.files.add(str(target))
    root = _root(targets, repositories, cwd)
    named = (below(root, str(target)) for target in targets if not target.is_dir())
    found = Collection(root, named, rules, is_diff=False)
    for path in listing.files:
        name = below(root, path)
        found.take(name, partial(read_listed, found, name))
    for path, reason in listing.skipped.items():
        found.skip(below(root, path), reason)
    description = several([str(path) for path in paths if str(path) != "."] or [cwd.name or str(cwd)])
    if not found.files and not found.skipped:
        raise NothingToReviewError(
            f"nothing to review: {description} holds no file (what .gitignore names is left out)"
        )
    return found.scope("; ".join((description, *notes)))


def _root(targets: Sequence[Path], repositories: Sequence[Path | None], cwd: Path) -> Path:
    if repositories[0] is not None and len(set(repositories)) == 1:
        return repositories[0]
    if all(target.is_relative_to(cwd) for target in targets):
        return cwd
    return Path(os.path.commonpath([target if target.is_dir() else target.parent for target in targets]))
