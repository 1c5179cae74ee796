"""The files of a scope as they are gathered: read, or listed with the reason. Knows no git and no diff's form."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsv3chat.review.scope.changed import changed_file, joined
from dsv3chat.review.scope.errors import BadPathError
from dsv3chat.review.scope.ignore import OWN_IGNORE, Excluded, IgnoreFiles
from dsv3chat.review.scope.patch import FileDiff
from dsv3chat.review.scope.paths import NOT_UTF8, leads_inside, shown
from dsv3chat.review.scope.reading import (
    SkippedError,
    UnreadableError,
    long_lines,
    read_bytes,
    source_file,
)
from dsv3chat.review.values import Scope, Skipped, SourceFile


@dataclass(frozen=True, slots=True)
class Rules:
    """What the person asked of every file, wherever it comes from."""

    exclude: Sequence[str] = ()  # gitignore patterns, from the root
    max_file_bytes: int = 1_000_000
    gitignore: bool = True


class Collection:
    """What has been read and skipped so far. `named`: paths from the root that the person wrote."""

    def __init__(self, root: Path, named: Iterable[str], rules: Rules, *, is_diff: bool) -> None:
        self.root = root
        self.named = frozenset(named)
        self.rules = rules
        self.is_diff = is_diff
        self.files: dict[str, SourceFile] = {}
        self.skipped: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self._own = IgnoreFiles(root, OWN_IGNORE)
        self._excluded = Excluded(rules.exclude)

    def is_wanted(self, path: str) -> bool:
        """Whether a changed file is one that the person named, or lies in a folder that they named; no name means all."""
        return not self.named or any(name in ("", path) or path.startswith(f"{name}/") for name in self.named)

    def check_named(self, known: Iterable[str]) -> None:
        """Raises BadPathError for a named path that is neither on the disk nor among the `known` ones of the diff."""
        known = (*known,)
        for name in sorted(self.named):
            on_disk = os.path.lexists(self.root / name)
            if not on_disk and not any(path == name or path.startswith(f"{name}/") for path in known):
                raise BadPathError(f"{name} does not exist, and the diff does not name it")

    def take(self, path: str, read: Callable[[], SourceFile]) -> None:
        """Read a file into the scope, or list it with the reason.

        What cannot be read is skipped where it merely lies in a folder, has failed where a diff says that it changed, and
        raises BadPathError where the person named it.
        """
        try:
            self._check(path)
            file = read()
        except _LeftOutError as left_out:
            self.skipped.setdefault(left_out.path, str(left_out))
        except _DamagedError as damaged:
            self.failed[path] = str(damaged)
        except UnreadableError as unreadable:
            if path in self.named:
                raise BadPathError(f"{path} cannot be read: {unreadable.why}") from unreadable
            if self.is_diff:
                self.failed[path] = str(unreadable)
            else:
                self.skip(path, str(unreadable))
        except SkippedError as skipped:
            self.skip(path, str(skipped))
        else:
            earlier = self.files.get(path)
            merged = joined(earlier, file) if earlier is not None else file
            if merged is None:
                self.skipped[path] = "the diff names it more than once; only what comes first is read"
                return
            self.files[path] = merged
            self.skipped.pop(path, None)  # a link that became a file is deleted and new in one diff
            if beyond := long_lines(file):
                self.skipped[path] = beyond

    def skip(self, path: str, reason: str) -> None:
        self.skipped[shown(path)] = reason

    def scope(self, description: str) -> Scope:
        return Scope(
            self.root,
            description,
            tuple(self.files[path] for path in sorted(self.files)),
            tuple(Skipped(path, self.skipped[path]) for path in sorted(self.skipped)),
            self.is_diff,
            tuple(Skipped(path, self.failed[path]) for path in sorted(self.failed)),
        )

    def _check(self, path: str) -> None:
        if shown(path) != path:
            raise SkippedError(NOT_UTF8)
        if (pattern := self._excluded.match(path)) is not None:
            raise _LeftOutError(path, f"excluded by {pattern}")
        if path not in self.named and (ignored := self._own.match(path)) is not None:
            raise _LeftOutError(ignored, f"ignored by {OWN_IGNORE}")


class _LeftOutError(Exception):
    """A path, or the folder around it, is left out on request."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path


class _DamagedError(Exception):
    """There is something to review, and it cannot be made out."""


def read_listed(found: Collection, name: str) -> SourceFile:
    """A file on the disk, whole. Raises SkippedError."""
    data = read_bytes(found.root / name, found.rules.max_file_bytes)
    return source_file(name, data, generated_too=name in found.named)


def take_changed(found: Collection, file: FileDiff, path: str, read: Callable[[], bytes | None]) -> None:
    """Take a changed file in, or list it; `read` gives its new side's bytes, None where only the hunks are known."""

    def source() -> SourceFile:
        if file.is_damaged:
            raise _DamagedError(file.reason)
        if file.reason:
            raise SkippedError(file.reason)
        return changed_file(file, path, read(), generated_too=path in found.named)

    found.take(path, source)


def on_disk(root: Path, path: str, max_bytes: int) -> bytes | None:
    """The file in the work tree, None where it is not there any more."""
    if not leads_inside(root, path) or not os.path.lexists(root / path):
        return None
    return read_bytes(root / path, max_bytes)
