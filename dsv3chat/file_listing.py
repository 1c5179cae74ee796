"""The files below a folder, listed once and searched fuzzily. Knows no message and reads no file's text."""

from __future__ import annotations

import heapq
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_FILES = 100_000  # a walk ends here; git lists what it lists
FRESH_SECONDS = 5.0
GIT_SECONDS = 10.0
BYTES_PER_TOKEN = 4  # of code and English prose, for estimates only
_SKIPPED_FOLDERS = {"node_modules", "__pycache__", "venv", "target", "dist", "build"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A completion; folders end in "/" and have no size."""

    path: str
    size_bytes: int | None
    num_tokens_estimate: int | None

    @property
    def insert_text(self) -> str:
        """What goes into the input in place of the fragment, the @ included: quoted where the path needs it."""
        plain = self.path and not any(c.isspace() or c in "\"'`(),;:" for c in self.path)
        return f"@{self.path}" if plain else f'@"{self.path}"'


@dataclass(frozen=True, slots=True)
class Listing:
    """Paths relative to the root, "/" between the parts; folders, which end in "/", stand before the files."""

    paths: tuple[str, ...]
    lowered: tuple[str, ...]
    made: float  # time.monotonic()

    def search(self, fragment: str, limit: int) -> list[str]:
        """The best matches: names that begin with it, names that contain it, paths that contain it;
        where there is none of these, paths that hold its letters in order, the closest together first.

        Within a kind the shorter path comes first. An empty fragment gives what lies at the top.
        """
        wanted = fragment.lower()
        if not wanted:
            top = [p for p in self.paths if "/" not in p.rstrip("/")]
            return top[:limit]
        ranked = [(_kind(p, wanted), len(p), i) for i, p in enumerate(self.lowered) if wanted in p]
        if not ranked:
            possible = list(range(len(self.lowered)))
            for letter in set(wanted):  # a pass in C for each letter, before the loop in Python
                possible = [i for i in possible if letter in self.lowered[i]]
            spans = ((i, _span(self.lowered[i], wanted)) for i in possible)
            ranked = [(span, len(self.lowered[i]), i) for i, span in spans if span is not None]
        return [self.paths[i] for _, _, i in heapq.nsmallest(limit, ranked)]


def _kind(path: str, wanted: str) -> int:
    name = path.rstrip("/").rpartition("/")[2]
    return 0 if name.startswith(wanted) else 1 if wanted.rstrip("/") in name else 2


def _span(path: str, wanted: str) -> int | None:
    """The length of the stretch of `path` that holds the letters of `wanted` in order, the name tried first."""
    for start in dict.fromkeys((path.rstrip("/").rfind("/") + 1, 0)):
        position = first = path.find(wanted[0], start)
        for letter in wanted[1:]:
            if position < 0:
                break
            position = path.find(letter, position + 1)
        if position >= 0:
            return position - first
    return None


_listings: dict[Path, Listing] = {}
_refreshing: set[Path] = set()
_lock = threading.Lock()


def listing(root: Path) -> Listing:
    """The files below `root`; the first call reads the disk, later ones answer at once.

    A listing older than FRESH_SECONDS is answered as it is and renewed on a thread.
    """
    root = root.resolve()
    with _lock:
        known = _listings.get(root)
        stale = known is not None and time.monotonic() - known.made > FRESH_SECONDS
        renew = stale and root not in _refreshing
        if renew:
            _refreshing.add(root)
    if known is None:
        return _renew(root)
    if renew:
        threading.Thread(target=_renew, args=(root,), name="file-listing", daemon=True).start()
    return known


def _renew(root: Path) -> Listing:
    try:
        files = _git_files(root)
        if files is None:
            files = list(walk(root))
        folders = {p[: i + 1] for p in files for i, c in enumerate(p) if c == "/"}
        paths = (*sorted(folders), *sorted(set(files)))
        made = Listing(paths, tuple(p.lower() for p in paths), time.monotonic())
        with _lock:
            _listings[root] = made
        return made
    finally:
        with _lock:
            _refreshing.discard(root)


def _git_files(root: Path) -> list[str] | None:
    """Tracked files and those that .gitignore does not name; None where there is no repository or no git."""
    command = [
        "git",
        "-c",
        "core.fsmonitor=false",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    try:
        done = subprocess.run(
            command,
            cwd=root,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=GIT_SECONDS,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    return [p for p in (_readable(os.fsdecode(raw)) for raw in done.stdout.split(b"\0") if raw) if p]


def walk(root: Path) -> Iterator[str]:
    """Breadth first, without hidden folders, links to folders and what tools generate; at most MAX_FILES."""
    queue, num_files = [""], 0
    for folder in queue:  # grows while it is read
        try:
            entries = sorted(os.scandir(root / folder), key=lambda e: e.name)
        except OSError:
            continue
        for entry in entries:
            name = _readable(folder + entry.name)
            if name is None:
                continue
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith(".") and entry.name not in _SKIPPED_FOLDERS:
                    queue.append(name + "/")
            elif entry.is_file():
                yield name
                num_files += 1
                if num_files >= MAX_FILES:
                    return


def _readable(path: str) -> str | None:
    """The path, or None when its bytes are not UTF-8: such a name cannot be typed or shown."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return path


def complete_path(fragment: str, root: Path, limit: int = 8) -> list[Candidate]:
    """The best matches for what stands after the @, fuzzily, from the files below `root` (see Listing.search).

    A leading quote and `./` and a line range at the end are ignored. Files that are gone are left out.
    """
    wanted = fragment.lstrip('"').removeprefix("./")
    wanted = wanted.rstrip("0123456789-") if ":" in wanted else wanted
    found: list[Candidate] = []
    for path in listing(root).search(wanted.rstrip(':"'), limit * 2):
        try:
            status = os.stat(root / path)
        except OSError:
            continue
        if os.path.isdir(root / path):
            found.append(Candidate(path.rstrip("/") + "/", None, None))
        else:
            found.append(Candidate(path, status.st_size, -(-status.st_size // BYTES_PER_TOKEN)))
    return list(dict.fromkeys(found))[:limit]
