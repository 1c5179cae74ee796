"""Files that ignore files and --exclude leave out, by gitignore's rules. Knows no git and reads no source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pathspec import GitIgnoreSpec

from dsv3chat.review.scope.errors import ScopeError

GITIGNORE = ".gitignore"
OWN_IGNORE = ".dsv3ignore"
_MAX_BYTES = 1_000_000


class IgnoreFiles:
    """The ignore files of one name in the root and the folders below it; an inner one is asked before an outer one."""

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self._name = name
        self._specs: dict[str, GitIgnoreSpec | None] = {}
        self._folders: dict[str, str | None] = {}  # folder: itself, or the folder around it that is left out

    def match(self, path: str, *, is_folder: bool = False) -> str | None:
        """What leaves `path` (from the root, with /) out: the path itself or the outermost ignored folder, as "x/"."""
        folder = path.rpartition("/")[0]
        around = self._folder(folder)
        if around is not None:
            return around
        return path if self._verdict(path + "/" if is_folder else path) else None

    def _folder(self, folder: str) -> str | None:
        if not folder:
            return None
        if folder not in self._folders:
            around = self._folder(folder.rpartition("/")[0])
            self._folders[folder] = around or (f"{folder}/" if self._verdict(f"{folder}/") else None)
        return self._folders[folder]

    def _verdict(self, path: str) -> bool:
        """The word of the innermost file that has one."""
        folder = path.rstrip("/").rpartition("/")[0]
        while True:
            spec = self._spec(folder)
            if spec is not None:
                result = spec.check_file(path[len(folder) + 1 :] if folder else path)
                if result.include is not None:
                    return result.include
            if not folder:
                return False
            folder = folder.rpartition("/")[0]

    def _spec(self, folder: str) -> GitIgnoreSpec | None:
        if folder not in self._specs:
            self._specs[folder] = _read(self._root / folder / self._name)
        return self._specs[folder]


class Excluded:
    """The patterns of --exclude, as lines of one ignore file in the root."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises ScopeError for a pattern that gitignore does not know."""
        self._specs = []
        for pattern in patterns:
            try:
                self._specs.append((pattern, GitIgnoreSpec.from_lines([pattern])))
            except ValueError as error:
                raise ScopeError(
                    f"--exclude {pattern}: no pattern that .gitignore would take ({error})"
                ) from error

    def match(self, path: str) -> str | None:
        """The first pattern that names the path or a folder around it."""
        return next((pattern for pattern, spec in self._specs if spec.match_file(path)), None)


def _read(path: Path) -> GitIgnoreSpec | None:
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).decode("utf-8-sig", "surrogateescape")
    except OSError:
        return None
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:  # one line that is no pattern: git passes over it, and so do we
        return GitIgnoreSpec.from_lines(filter(_is_pattern, lines))


def _is_pattern(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True
