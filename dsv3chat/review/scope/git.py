"""git as a program: fixed options, fixed environment, bytes in and out, its errors in one line. Knows no diff.

The person's configuration changes neither what is listed nor how a diff looks, no hook and no file system monitor of
the repository runs, and nothing passes through a shell.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from dsv3chat.review.scope.errors import (
    BadRevisionError,
    GitFailedError,
    GitMissingError,
    NotARepositoryError,
)

_OPTIONS = (
    "--no-pager",
    "--no-optional-locks",
    *("-c", "core.fsmonitor=false"),
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "core.quotePath=true"),
    *("-c", "color.ui=false"),
    *("-c", "diff.noprefix=false"),
    *("-c", "diff.mnemonicPrefix=false"),
    *("-c", "diff.suppressBlankEmpty=false"),
    *("-c", "core.pager=cat"),
)
_DIFF_OPTIONS = (
    "--patch",
    "--unified=3",
    "--find-renames=50%",
    "-l1000",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-relative",
    "--full-index",
    "--inter-hunk-context=0",
    "--diff-algorithm=histogram",
    "--indent-heuristic",
    "--submodule=short",
    "--ignore-submodules=dirty",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    f"-O{os.devnull}",
)
# Where configuration comes from, and what a hook's caller set aside, stay: `safe.directory` in CI, quarantined objects.
_KEPT = (
    "GIT_CONFIG",
    "GIT_CEILING_DIRECTORIES",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_QUARANTINE_PATH",
    "GIT_EXEC_PATH",
)
_UNOPENED = re.compile(rb"^warning: could not open directory '(.*)': (.*)$", re.MULTILINE)


class Git:
    """The repository around a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises GitMissingError, and NotARepositoryError in git's words where it finds no work tree it may use."""
        self._folder = folder
        self._index: str | None = None
        done = self._call(("rev-parse", "--show-toplevel"))
        if done.returncode != 0:
            raise NotARepositoryError(f"{folder}: {_words(done.stderr)}")
        self.root = Path(os.fsdecode(done.stdout.removesuffix(b"\n")))
        git_dir = Path(os.fsdecode(self.run("rev-parse", "--absolute-git-dir").removesuffix(b"\n")))
        self._folder = self.root
        # `git commit -a` and `git commit FILE` give their hooks an index of their own, inside the git folder
        index = os.environ.get("GIT_INDEX_FILE")
        if index and (absolute := Path(os.path.abspath(index))).is_relative_to(git_dir):
            self._index = str(absolute)

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Standard output of `git ARGUMENTS` in the repository's root. Raises GitFailedError."""
        done = self._call(arguments, stdin)
        if done.returncode != 0:
            raise GitFailedError(f"git {arguments[0]}: {_words(done.stderr)}")
        return done.stdout

    def diff(self, *what: str) -> bytes:
        """A patch of exactly one form, whatever git's configuration says."""
        return self.run("diff", *_DIFF_OPTIONS, *what, "--")

    def files(self, folder: str, *, gitignore: bool) -> tuple[list[str], list[tuple[str, str]]]:
        """(paths below the folder, from the root; what git could not open, with its reason).

        Tracked files and those that git does not know; without those that .gitignore leaves out, if that is asked.
        A path that ends in "/" is another repository.
        """
        arguments = ["ls-files", "-z", "--cached", "--others", *(["--exclude-standard"] if gitignore else [])]
        done = self._call((*arguments, "--", *([f":(literal){folder}"] if folder else [])))
        if done.returncode != 0:
            raise GitFailedError(f"git ls-files: {_words(done.stderr)}")
        names = [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
        unreadable = [
            (os.fsdecode(match[1]), match[2].decode("utf-8", "replace"))
            for match in _UNOPENED.finditer(done.stderr)
        ]
        return list(dict.fromkeys(names)), unreadable

    def untracked(self) -> list[str]:
        """Files that git does not know and .gitignore does not leave out."""
        names = self.run("ls-files", "-z", "--others", "--exclude-standard")
        return [os.fsdecode(name) for name in names.split(b"\0") if name]

    def commit_id(self, revision: str) -> str:
        """The id of the one commit that a person's words name. Raises BadRevisionError in git's own words."""
        if not revision or "\0" in revision or revision.startswith("-"):
            raise BadRevisionError(f"bad revision {revision!r}: expected is a commit, a branch or a tag")
        done = self._call(("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"))
        name = done.stdout.decode("ascii").strip()
        if done.returncode == 0 and not name.startswith("^"):  # "^REV" is everything but REV
            return name
        why = self._call(
            ("rev-list", "--max-count=1", revision, "--")
        )  # its words are better than --verify's
        if why.returncode != 0:
            raise BadRevisionError(f"git: {_words(why.stderr)}")
        raise BadRevisionError(f"{revision!r} does not name one commit; A..B and A...B are for --diff")

    def merge_base(self, first: str, second: str) -> str | None:
        """The id of the last common commit, None where there is none."""
        done = self._call(("merge-base", first, second))
        return done.stdout.decode("ascii").split("\n")[0] or None

    def has_commits(self) -> bool:
        return self._call(("rev-parse", "--verify", "--quiet", "HEAD^{commit}")).returncode == 0

    def first_parent(self, commit: str) -> str | None:
        """The id of the commit's first parent as the commit itself names it, None for a root commit."""
        header = self.run("cat-file", "commit", commit).partition(b"\n\n")[0]
        parents = [line[7:].decode("ascii") for line in header.split(b"\n") if line.startswith(b"parent ")]
        return parents[0] if parents else None

    def has_object(self, name: str) -> bool:
        return self._call(("cat-file", "-e", name)).returncode == 0

    def empty_tree(self) -> str:
        return self.run("hash-object", "-t", "tree", "--stdin").decode("ascii").strip()

    def is_ignored(self, path: str) -> bool:
        """Whether .gitignore and its kin leave the path out; a tracked file is never ignored."""
        return self._call(("check-ignore", "--quiet", "--", f"./{path}")).returncode == 0

    def blobs(self, ids: Sequence[str], max_bytes: int) -> dict[str, bytes | int]:
        """The contents of blobs by id, and the size in bytes in place of one that is larger than `max_bytes`.

        Ids that the repository does not hold are left out.
        """
        wanted = [name for name in dict.fromkeys(ids) if name]
        if not wanted:
            return {}
        sizes: dict[str, bytes | int] = {}
        answer = self.run("cat-file", "--batch-check", stdin=_lines(wanted))
        for name, line in zip(wanted, answer.decode("ascii", "replace").split("\n"), strict=False):
            if len(fields := line.split()) == 3 and fields[1] == "blob":
                sizes[name] = int(fields[2])
        small = [name for name in sizes if int(sizes[name]) <= max_bytes]
        contents, position = self.run("cat-file", "--batch", stdin=_lines(small)) if small else b"", 0
        for name in small:
            start = contents.index(b"\n", position) + 1
            position = start + int(sizes[name]) + 1  # a line feed follows each
            sizes[name] = contents[start : position - 1]
        return sizes

    def _call(self, arguments: Sequence[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k.startswith(_KEPT)}
        environment |= {"LC_ALL": "C", "LANGUAGE": "C", "GIT_TERMINAL_PROMPT": "0"}
        if self._index is not None:
            environment["GIT_INDEX_FILE"] = self._index
        try:
            return subprocess.run(
                ["git", *_OPTIONS, *arguments],
                cwd=self._folder,
                input=stdin,
                capture_output=True,
                env=environment,
                check=False,
            )
        except FileNotFoundError as error:
            raise GitMissingError(
                "git is not installed, or not on PATH; a diff of a repository needs it"
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a zero byte in an argument
            why = error.strerror if isinstance(error, OSError) else error
            raise GitFailedError(f"git cannot be started in {self._folder}: {why}") from error


def _lines(names: Sequence[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode("ascii")


def _words(stderr: bytes) -> str:
    """The line of git's own words that says what went wrong."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").split("\n") if line.strip()]
    for line in lines:
        for prefix in ("fatal: ", "error: "):
            if line.startswith(prefix):
                return line.removeprefix(prefix)
    return lines[-1] if lines else "ended without a word"
