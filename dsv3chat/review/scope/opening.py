"""From paths and a request to a scope: what is read, and what is listed with the reason. Knows no model and no format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dsv3chat.review.scope.collection import Rules
from dsv3chat.review.scope.folders import of_folders
from dsv3chat.review.scope.from_git import of_git
from dsv3chat.review.scope.from_text import of_text
from dsv3chat.review.scope.request import DiffRequest
from dsv3chat.review.values import Scope

MAX_FILE_BYTES = 1_000_000


def open_scope(
    paths: Sequence[Path],
    *,
    diff: DiffRequest | None = None,
    exclude: Sequence[str] = (),
    gitignore: bool = True,
    max_file_bytes: int = MAX_FILE_BYTES,
    cwd: Path | None = None,
) -> Scope:
    """Everything that a review of `paths` covers, or of what a diff changes in them; no path means all.

    Without a diff, no path means the folder `cwd`. The root, from which paths are given, is the repository's; where
    there is none it is `cwd` if that holds everything, else the folder around the paths. A file that the person names is
    reviewed although an ignore file or its header would leave it out; `exclude` always counts.
    A git diff that changes nothing is a scope without files. Raises ScopeError.
    """
    cwd = Path(os.path.realpath(cwd or Path.cwd()))
    rules = Rules(tuple(exclude), max_file_bytes, gitignore)
    if diff is None:
        return of_folders(paths, cwd, rules)
    if diff.kind == "text":
        return of_text(paths, diff, cwd, rules)
    return of_git(paths, diff, cwd, rules)
