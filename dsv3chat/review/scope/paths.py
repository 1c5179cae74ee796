"""Paths that a person wrote and paths out of a diff, made relative to a root that none of them leaves. Reads no file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from dsv3chat.review.scope.errors import BadPathError

NOT_UTF8 = "its name is not UTF-8"  # why a file is skipped
_SHOWN_BYTE = re.compile(r"\\x([89a-f][0-9a-f])")


def existing(path: Path, cwd: Path) -> Path:
    """A path that the person wrote, absolute, its links followed; a folder can be listed. Raises BadPathError."""
    try:
        found = Path(os.path.realpath(cwd / path, strict=True))
        if found.is_dir():
            os.scandir(found).close()
        return found
    except FileNotFoundError as error:
        raise BadPathError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        raise BadPathError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def inside(path: Path, cwd: Path, root: Path) -> str:
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
    return below(root, real) if real != str(root) else ""


def nearest_folder(path: Path, cwd: Path) -> Path:
    """The innermost folder on the way to a path that may be gone."""
    folder = Path(os.path.abspath(cwd / path))
    while not os.path.isdir(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def leads_inside(root: Path, path: str) -> bool:
    """Whether a path out of a diff stays below the root, links on the way included."""
    if "\0" in path or os.path.isabs(path) or ".." in path.split("/"):
        return False
    folder = os.path.realpath(os.path.join(root, path.rpartition("/")[0]))
    return folder == str(root) or folder.startswith(f"{str(root).rstrip('/')}/")


def below(root: Path, path: str) -> str:
    return (
        path[len(str(root).rstrip("/")) + 1 :] if os.sep == "/" else Path(path).relative_to(root).as_posix()
    )


def shown(path: str) -> str:
    """The path, or one with \\xNN for the bytes of a name that is not UTF-8, which no output format could hold."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def undo_shown(path: str) -> str:
    r"""The path of which `shown` gave this; for one of a file whose name is not UTF-8."""
    return _SHOWN_BYTE.sub(lambda match: chr(0xDC00 + int(match[1], 16)), path)


def several(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def with_paths(description: str, paths: Sequence[Path]) -> str:
    return f"{description} in {several([str(path) for path in paths])}" if paths else description
