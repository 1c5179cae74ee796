"""A folder that appears whole or not at all: lock, work folder, free space, rename. Knows nothing of models.

Everything happens in a hidden folder beside the destination, on the same file system, and ends with one rename. A
process that is killed leaves that hidden folder behind; whoever holds the lock next removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine import LoadCancelledError, ModelError

_POLL_SECONDS = 0.2


@contextmanager
def exclusive(
    destination: Path, on_wait: Callable[[], None], cancelled: Callable[[], bool]
) -> Iterator[None]:
    """Hold the lock of `destination`, waiting for whoever has it. The kernel frees it when its holder dies."""
    with (destination.parent / f".{destination.name}.lock").open("wb") as lock:
        waiting = False
        while not _try_lock(lock.fileno()):
            if not waiting:
                waiting = True
                on_wait()
            if cancelled():
                raise LoadCancelledError("Waiting for another build was stopped.")
            time.sleep(_POLL_SECONDS)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EINTR):
            return False
        raise  # a file system without locks says so, rather than two builds cleaning up after each other
    return True


@contextmanager
def work_folder(destination: Path) -> Iterator[Path]:
    """A hidden folder beside `destination`, removed at the end; leftovers of killed builds go first. Needs the lock."""
    prefix = f".{destination.name}.partial-"
    for leftover in destination.parent.iterdir():
        if leftover.name.startswith(prefix):
            shutil.rmtree(leftover, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=destination.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def require_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Refuse beforehand what cannot fit."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise ModelError(
            f"{what} needs {needed_bytes / 1e6:.0f} MB in {folder} while it is made, {free / 1e6:.0f} MB are free; "
            "make room, or set DSV3CHAT_CACHE_DIR to a folder on another disk"
        )


@contextmanager
def disk_errors(folder: Path, what: str) -> Iterator[None]:
    """Say a full disk, a quota, missing rights in a person's words. Other errors pass."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(
            f"{what} could not be written to {folder}: {reason}; make room or get write access there, "
            "or set DSV3CHAT_CACHE_DIR to another folder. Nothing unfinished was left"
        ) from error


def publish(finished: Path, destination: Path, work: Path) -> None:
    """Put the folder `finished` in the place of `destination`, after everything in it has reached the disk.

    An older folder is moved into `work` first: between the two renames there is none, never half of one.
    """
    for file in finished.iterdir():
        _sync(file)
    _sync(finished)
    if destination.exists() or destination.is_symlink():
        destination.rename(work / "replaced")
    finished.rename(destination)
    _sync(destination.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
