"""The files below folders: by git in a repository, by a walk elsewhere. Opens no source file.

git lists what is tracked and what .gitignore does not leave out; the walk follows .gitignore files by itself. Neither
follows a symbolic link.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from dsv3chat.review.scope.errors import GitMissingError, NotARepositoryError
from dsv3chat.review.scope.git import Git
from dsv3chat.review.scope.ignore import GITIGNORE, IgnoreFiles
from dsv3chat.review.scope.reading import describe_link

_NO_SOURCES = {".git", ".hg", ".svn", ".jj", "__pycache__"}
_INSTALLED = {"node_modules", ".tox", ".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


@dataclass(slots=True)
class Listing:
    """Absolute paths; `skipped` maps a file, or a folder that ends in "/", to the reason."""

    files: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, path: str) -> None:
        """Take a file into the list, or a link or a folder in its place into what is skipped."""
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            self.skipped[path] = "gone from the disk"
        except OSError as error:
            self.skipped[path] = f"unreadable: {error.strerror or error}"
        else:
            if stat.S_ISLNK(mode):
                self.skipped[path] = describe_link(Path(path))
            elif stat.S_ISDIR(mode):
                self.skipped[path] = "a submodule"
            else:
                self.files.add(path)


def repository(folder: Path) -> tuple[Git | None, str]:
    """(git for the repository around the folder or None, why git is not used although there is a repository)."""
    try:
        return Git(folder), ""
    except (NotARepositoryError, GitMissingError) as error:
        in_one = any(os.path.exists(around / ".git") for around in (folder, *folder.parents))
        return None, f"listed without git: {error}" if in_one else ""


def list_folder(folder: Path, git: Git | None, listing: Listing, *, gitignore: bool) -> None:
    """Add what lies below `folder`, an absolute path without links."""
    if git is None:
        _walk(folder, listing, gitignore=gitignore)
        return
    inside = "" if folder == git.root else folder.relative_to(git.root).as_posix()
    names, unreadable = git.files(inside, gitignore=gitignore)
    for name in names:
        path = os.path.join(git.root, name)
        if name.endswith("/"):
            listing.skipped[path] = "another repository"
        else:
            listing.add(path)
    for name, reason in unreadable:
        listing.skipped[os.path.join(git.root, name)] = f"unreadable: {reason}"
    if inside and not names and not unreadable and git.is_ignored(inside):
        _walk(folder, listing, gitignore=gitignore)  # named by the person although git leaves it out


def _walk(root: Path, listing: Listing, *, gitignore: bool) -> None:
    ignored = IgnoreFiles(root, GITIGNORE) if gitignore else None
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(root / folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            listing.skipped[os.path.join(root, folder)] = f"unreadable: {error.strerror or error}"
            continue
        for entry in entries:
            name = f"{folder}{entry.name}"
            is_folder = entry.is_dir(follow_symlinks=False)
            if (is_folder and entry.name in _NO_SOURCES) or entry.name == ".git":
                continue
            if ignored is not None and ignored.match(name, is_folder=is_folder):
                continue
            if not is_folder:
                listing.add(entry.path)
            elif gitignore and (entry.name in _INSTALLED or os.path.exists(f"{entry.path}/pyvenv.cfg")):
                listing.skipped[f"{entry.path}/"] = "made by a tool; name it to have it reviewed"
            else:
                waiting.append(f"{name}/")
