"""From paths and a request to a scope: what is read, and what is listed with the reason. Knows no model and no format."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dsv3chat.review.scope.changed import changed_file, joined, matches, new_file
from dsv3chat.review.scope.errors import (
    BadPathError,
    BadRevisionError,
    DiffNotUnderstoodError,
    NothingToReviewError,
)
from dsv3chat.review.scope.git import Git
from dsv3chat.review.scope.ignore import OWN_IGNORE, Excluded, IgnoreFiles
from dsv3chat.review.scope.listing import Listing, list_folder, repository
from dsv3chat.review.scope.patch import FileDiff, parse
from dsv3chat.review.scope.reading import (
    SkippedError,
    long_lines,
    read_bytes,
    source_file,
    too_large,
)
from dsv3chat.review.scope.request import DiffRequest
from dsv3chat.review.values import Scope, Skipped, SourceFile

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
    opening = _Opening(exclude, max_file_bytes)
    if diff is None:
        return _of_folders(paths, cwd, opening, gitignore)
    if diff.kind == "text":
        return _of_text(paths, diff, cwd, opening)
    return _of_git(paths, diff, cwd, opening)


@dataclass(slots=True)
class _Opening:
    """What has been read and skipped so far."""

    exclude: Sequence[str]
    max_file_bytes: int
    root: Path = Path()
    files: dict[str, SourceFile] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    named: frozenset[str] = frozenset()  # paths from the root that the person wrote
    _own: IgnoreFiles | None = None
    _excluded: Excluded | None = None

    def start(self, root: Path, named: Iterable[str]) -> None:
        self.root, self.named = root, frozenset(named)
        self._own, self._excluded = IgnoreFiles(root, OWN_IGNORE), Excluded(self.exclude)

    def take(self, path: str, read: Callable[[], SourceFile]) -> None:
        """Read a file into the scope, or list it with the reason."""
        try:
            self._check(path)
            file = read()
        except _LeftOutError as left_out:
            self.skipped.setdefault(left_out.path, str(left_out))
        except SkippedError as skipped:
            self.skip(path, str(skipped))
        else:
            earlier = self.files.get(path)
            merged = joined(earlier, file) if earlier is not None else file
            if merged is None:
                self.skipped[path] = "the diff names it more than once; only what comes first is read"
                return
            self.files[path] = merged
            if beyond := long_lines(file):
                self.skipped[path] = beyond

    def skip(self, path: str, reason: str) -> None:
        self.skipped[_shown(path)] = reason

    def scope(self, description: str, *, is_diff: bool) -> Scope:
        return Scope(
            self.root,
            description,
            tuple(self.files[path] for path in sorted(self.files)),
            tuple(Skipped(path, self.skipped[path]) for path in sorted(self.skipped)),
            is_diff,
        )

    def _check(self, path: str) -> None:
        if _shown(path) != path:
            raise SkippedError("its name is not UTF-8")
        assert self._own is not None
        assert self._excluded is not None
        if (pattern := self._excluded.match(path)) is not None:
            raise _LeftOutError(path, f"excluded by {pattern}")
        if path not in self.named and (ignored := self._own.match(path)) is not None:
            raise _LeftOutError(ignored, f"ignored by {OWN_IGNORE}")


class _LeftOutError(Exception):
    """A path, or the folder around it, is left out on request."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path


def _of_folders(paths: Sequence[Path], cwd: Path, opening: _Opening, gitignore: bool) -> Scope:
    targets = [_existing(path, cwd) for path in paths] or [cwd]
    listing, repositories = Listing(), []
    for target in dict.fromkeys(targets):
        folder = target if target.is_dir() else target.parent
        git = repository(folder)
        repositories.append(git.root if git is not None else None)
        if target.is_dir():
            list_folder(target, git, listing, gitignore=gitignore)
        else:
            listing.files.add(str(target))
    root = _root(targets, repositories, cwd)
    opening.start(root, (_below(root, str(target)) for target in targets if not target.is_dir()))
    for path in listing.files:
        name = _below(root, path)
        opening.take(name, partial(_read_listed, opening, name))
    for path, reason in listing.skipped.items():
        opening.skip(_below(root, path), reason)
    description = _several([str(path) for path in paths if str(path) != "."] or [cwd.name or str(cwd)])
    if not opening.files and not opening.skipped:
        raise NothingToReviewError(
            f"nothing to review: {description} holds no file (what .gitignore names is left out)"
        )
    return opening.scope(description, is_diff=False)


def _read_listed(opening: _Opening, name: str) -> SourceFile:
    data = read_bytes(opening.root / name, opening.max_file_bytes)
    return source_file(name, data, generated_too=name in opening.named)


def _read_new(opening: _Opening, name: str) -> SourceFile:
    return new_file(_read_listed(opening, name))


def _of_git(paths: Sequence[Path], diff: DiffRequest, cwd: Path, opening: _Opening) -> Scope:
    git = Git(_nearest_folder(paths[0], cwd) if paths else cwd)
    wanted = [_inside(path, cwd, git.root) for path in paths]
    opening.start(git.root, wanted)
    sides, in_work_tree = _sides(git, diff)
    files = parse(git.diff(*sides, paths=[path for path in wanted if path]))
    contents: dict[str, bytes | int] = {}
    if not in_work_tree:
        blobs = [file.blob for file in files if not file.reason]
        contents = git.blobs(blobs, opening.max_file_bytes) if blobs else {}

    def new_side(file: FileDiff) -> bytes | None:
        if in_work_tree:
            return _on_disk(git.root, file.path, opening.max_file_bytes)
        data = contents.get(file.blob)
        if isinstance(data, int):
            raise SkippedError(too_large(data, opening.max_file_bytes))
        return data

    for file in files:
        _take_changed(opening, file, file.path, partial(new_side, file))
    if in_work_tree:
        _take_untracked(git, diff, [path for path in wanted if path], opening)
    for path, name in zip(paths, wanted, strict=True):
        _check_found(path, name, opening)
    return opening.scope(_with_paths(diff.description, paths), is_diff=True)


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


def _take_untracked(git: Git, diff: DiffRequest, wanted: list[str], opening: _Opening) -> None:
    for name in git.untracked(wanted):
        if name.endswith("/"):
            opening.skip(name, "another repository")
        elif diff.kind == "uncommitted":
            opening.take(name, partial(_read_new, opening, name))
        else:
            opening.skip(name, "not known to git yet; --uncommitted takes it in")


def _of_text(paths: Sequence[Path], diff: DiffRequest, cwd: Path, opening: _Opening) -> Scope:
    if not diff.text.strip():
        raise NothingToReviewError("nothing to review: standard input holds no diff")
    files = parse(diff.text)
    if not any(not file.reason.startswith("its diff is damaged") for file in files):
        reason = f"{_shown(files[0].path)}: {files[0].reason}" if files else "no changed file was found in it"
        raise DiffNotUnderstoodError(
            f"the text on standard input is not understood as a diff: {reason}; "
            "expected is a unified diff, as `git diff` writes it"
        )
    git = repository(cwd)
    root = git.root if git is not None else cwd
    wanted = [_inside(path, cwd, root) for path in paths]
    opening.start(root, wanted)
    below = "" if cwd == root else f"{cwd.relative_to(root).as_posix()}/"
    seen = []
    for file in files:
        path, data = _in_tree(file, root, below, opening.max_file_bytes)
        seen.append(path)
        if not wanted or any(name in ("", path) or path.startswith(f"{name}/") for name in wanted):
            _take_changed(opening, file, path, data)
    for given, name in zip(paths, wanted, strict=True):
        if not any(path == name or path.startswith(f"{name}/") for path in seen):
            _check_found(given, name, opening)
    return opening.scope(_with_paths(diff.description, paths), is_diff=True)


def _in_tree(
    file: FileDiff, root: Path, below: str, max_bytes: int
) -> tuple[str, Callable[[], bytes | None]]:
    """(the name under which the tree holds the file, or its likeliest one; how to read it)."""
    names = [f"{folder}{path}" for folder in dict.fromkeys(("", below)) for path in file.paths]
    present = [name for name in names if _leads_inside(root, name) and (root / name).is_file()]
    for name in present:
        try:
            data = read_bytes(root / name, max_bytes)
        except SkippedError:
            continue
        if matches(file.hunks, data):
            return name, partial(_on_disk, root, name, max_bytes)
    path = present[0] if present else names[0]

    def read() -> bytes | None:
        if not _leads_inside(root, path):
            raise SkippedError("its path leads out of the folder")
        return _on_disk(root, path, max_bytes)

    return path, read


def _take_changed(opening: _Opening, file: FileDiff, path: str, read: Callable[[], bytes | None]) -> None:
    def source() -> SourceFile:
        if file.reason:
            raise SkippedError(file.reason)
        return changed_file(file, path, read(), generated_too=path in opening.named)

    opening.take(path, source)


def _on_disk(root: Path, path: str, max_bytes: int) -> bytes | None:
    """The file in the work tree, None where it is not there any more."""
    if not _leads_inside(root, path) or not os.path.lexists(root / path):
        return None
    return read_bytes(root / path, max_bytes)


def _leads_inside(root: Path, path: str) -> bool:
    """Whether a path out of a diff stays below the root, links on the way included."""
    if "\0" in path or os.path.isabs(path) or ".." in path.split("/"):
        return False
    folder = os.path.realpath(os.path.join(root, path.rpartition("/")[0]))
    return folder == str(root) or folder.startswith(f"{str(root).rstrip('/')}/")


def _existing(path: Path, cwd: Path) -> Path:
    """A path that the person wrote, absolute, its links followed."""
    try:
        return Path(os.path.realpath(cwd / path, strict=True))
    except FileNotFoundError as error:
        raise BadPathError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        raise BadPathError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _inside(path: Path, cwd: Path, root: Path) -> str:
    """A path that the person wrote, from the root; it may be gone, since a diff can speak of what was deleted."""
    try:
        absolute = os.path.abspath(cwd / path)
        real = (
            os.path.realpath(absolute)
            if os.path.isdir(absolute)
            else os.path.join(os.path.realpath(os.path.dirname(absolute)), os.path.basename(absolute))
        )
    except ValueError as error:
        raise BadPathError(f"{path} is no path: {error}") from error
    if real != str(root) and not real.startswith(f"{str(root).rstrip('/')}/"):
        raise BadPathError(f"{path} lies outside {root}, of which the diff is")
    return _below(root, real) if real != str(root) else ""


def _check_found(path: Path, name: str, opening: _Opening) -> None:
    """A path that is neither on the disk nor in the diff is a mistake."""
    known = (*opening.files, *opening.skipped)
    if not os.path.lexists(opening.root / name) and not any(
        found == name or found.startswith(f"{name}/") for found in known
    ):
        raise BadPathError(f"{path} does not exist, and the diff does not name it")


def _nearest_folder(path: Path, cwd: Path) -> Path:
    """The innermost folder on the way to a path that may be gone."""
    folder = Path(os.path.abspath(cwd / path))
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _root(targets: Sequence[Path], repositories: Sequence[Path | None], cwd: Path) -> Path:
    if repositories[0] is not None and len(set(repositories)) == 1:
        return repositories[0]
    if all(target.is_relative_to(cwd) for target in targets):
        return cwd
    return Path(os.path.commonpath([target if target.is_dir() else target.parent for target in targets]))


def _below(root: Path, path: str) -> str:
    return (
        path[len(str(root).rstrip("/")) + 1 :] if os.sep == "/" else Path(path).relative_to(root).as_posix()
    )


def _shown(path: str) -> str:
    """The path, or one with \\xNN for the bytes of a name that is not UTF-8, which no output format could hold."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _several(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _with_paths(description: str, paths: Sequence[Path]) -> str:
    return f"{description} in {_several([str(path) for path in paths])}" if paths else description
