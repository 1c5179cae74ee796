"""The build as a whole, with a small model standing for nano where the real one would only cost time."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from dsv3chat.nano import MODEL_FILE, NAME, SIDE_FILES, build
from dsv3chat.nano import recipe as recipe_module
from dsv3chat.nano.build import build_nano, ensure_nano, is_finished
from engine import CheckpointError, LoadCancelledError, ModelError

ROOT = Path(__file__).parent.parent.parent.parent


def ignore(_progress):
    pass


def never():
    return False


def small_parts(_base, _data):
    for layer in range(4):
        yield {f"layer.{layer}": torch.full((8, 16), float(layer))}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A recipe of four small layers, no download; returns the destination."""
    from safetensors.torch import save_file

    monkeypatch.setattr(build, "fetch_base", lambda work, *_: work / "base.gguf")
    monkeypatch.setattr(recipe_module, "checkpoint_tensors", small_parts)
    save_file({k: v for part in small_parts(None, None) for k, v in part.items()}, tmp_path / "small")
    monkeypatch.setattr(build, "FINGERPRINT", build.fingerprint(tmp_path / "small"))
    (tmp_path / "small").unlink()
    return tmp_path / "models" / "nano"


def files(folder):
    return sorted(f.name for f in folder.iterdir())


def test_a_build_is_finished_and_leaves_only_the_model_and_the_lock(small):
    seen = []
    assert ensure_nano(small, seen.append, never) == small
    assert is_finished(small)
    assert files(small) == sorted((MODEL_FILE, *SIDE_FILES))
    assert files(small.parent) == [".nano.lock", "nano"]
    assert [p.stage for p in seen][-1] == "checking nano"


def test_a_finished_model_is_not_built_again(small, monkeypatch):
    ensure_nano(small)
    monkeypatch.setattr(build, "fetch_base", None)
    assert ensure_nano(small) == small


def test_models_go_to_the_folder_of_built_models_by_default(small, own_folders):
    assert ensure_nano() == own_folders / "cache" / "models" / NAME


@pytest.mark.parametrize("relative", [True, False])
def test_the_destination_may_be_relative(small, monkeypatch, tmp_path, relative):
    monkeypatch.chdir(tmp_path)
    ensure_nano(Path("models/nano") if relative else small)
    assert is_finished(small)


@pytest.mark.parametrize("damage", [*SIDE_FILES, "absent", "cut", "grown", "garbage", "version"])
def test_an_incomplete_or_older_model_is_built_anew(small, damage):
    ensure_nano(small)
    model, config = small / MODEL_FILE, small / "config.json"
    if damage in SIDE_FILES:
        (small / damage).unlink()
    elif damage == "absent":
        model.unlink()
    elif damage == "cut":
        model.write_bytes(model.read_bytes()[:-1])
    elif damage == "grown":
        model.write_bytes(model.read_bytes() + b"x")
    elif damage == "garbage":
        model.write_bytes(b"\xff" * 100)
    else:
        settings = json.loads(config.read_text())
        settings["dsv3chat"]["version"] = 3
        config.write_text(json.dumps(settings))
    assert not is_finished(small)
    ensure_nano(small)
    assert is_finished(small)


def test_a_folder_that_this_program_did_not_make_is_never_replaced(small):
    small.mkdir(parents=True)
    (small / "config.json").write_text(json.dumps({"architectures": ["DeepseekV3ForCausalLM"]}))
    with pytest.raises(ModelError, match="is not a build of nano; move or rename it"):
        ensure_nano(small)
    (small / "config.json").rename(small / "thesis.txt")
    with pytest.raises(ModelError, match="is not a build of nano; move or rename it"):
        ensure_nano(small)
    assert files(small) == ["thesis.txt"]


def test_a_wrong_result_is_never_put_in_place(small, monkeypatch):
    monkeypatch.setattr(build, "FINGERPRINT", "0" * 64)
    with pytest.raises(CheckpointError, match=r"fingerprint [0-9a-f]{64}, expected 0000"):
        ensure_nano(small)
    assert files(small.parent) == [".nano.lock"]


@pytest.mark.parametrize("polls", range(6))
def test_cancel_at_any_point_leaves_nothing(small, polls):
    left = iter(range(polls))
    with pytest.raises(LoadCancelledError):
        ensure_nano(small, ignore, lambda: next(left, None) is None)
    assert files(small.parent) == [".nano.lock"]


def test_a_disk_without_room_is_refused_before_anything_is_fetched(small, monkeypatch):
    monkeypatch.setattr(build, "fetch_base", None)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12 - 5 * 10**6, 5 * 10**6)
    )
    with pytest.raises(ModelError, match=r"nano needs 386 MB in .* 5 MB are free"):
        ensure_nano(small)


def test_a_disk_that_fills_up_while_writing_is_said_and_leaves_nothing(small, monkeypatch):
    from safetensors import SafetensorError
    from safetensors import torch as safetensors_torch

    def full(_tensors, path, metadata):
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors_torch, "save_file", full)
    with pytest.raises(ModelError, match=r"nano could not be written to .*No space left on device"):
        ensure_nano(small)
    assert files(small.parent) == [".nano.lock"]


def test_torch_has_its_threads_back_afterwards(small):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ensure_nano(small)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_two_builders_at_once_build_once(small, monkeypatch):
    builds = []
    both = threading.Barrier(2)

    def fetch(work, *_):
        builds.append(work)
        return work / "base.gguf"

    def run():
        both.wait(30)
        ensure_nano(small)

    monkeypatch.setattr(build, "fetch_base", fetch)
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(builds) == 1
    assert is_finished(small)


KILLED = """
import os, signal, sys
from pathlib import Path
from dsv3chat.nano import build, workspace
from dsv3chat.nano import recipe
import torch

def parts(base, data):
    for layer in range(4):
        yield {f"layer.{layer}": torch.zeros(4, 4)}

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

build.fetch_base = lambda work, *_: work / "base.gguf"
recipe.checkpoint_tensors = parts
build.fingerprint = lambda *_: build.FINGERPRINT
point = sys.argv[2]
if point == "converting":
    progress = lambda p: die() if p.detail.startswith("layer 2") else None
else:
    progress = lambda p: None
if point == "checking":
    build.fingerprint = die
if point == "publishing":
    workspace._sync = die
build.build_nano(Path(sys.argv[1]), progress, lambda: False)
"""


@pytest.mark.parametrize("point", ["converting", "checking", "publishing"])
def test_a_killed_build_leaves_nothing_that_looks_finished_and_the_next_one_cleans_up(small, point):
    ended = subprocess.run([sys.executable, "-c", KILLED, str(small), point], cwd=ROOT)
    assert ended.returncode == -signal.SIGKILL
    assert not small.exists()
    leftovers = [f for f in small.parent.iterdir() if f.name != ".nano.lock"]
    assert [f.name.startswith(".nano.partial-") for f in leftovers] == [True]
    assert not any((f / "config.json").exists() for f in leftovers)
    build_nano(small, ignore, never)
    assert is_finished(small)
    assert files(small.parent) == [".nano.lock", "nano"]


def test_a_folder_without_write_access_is_said(small, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(build, "private_dir", refuse)
    with pytest.raises(
        ModelError, match=r"could not be written to .*: Permission denied.*DSV3CHAT_CACHE_DIR"
    ):
        ensure_nano(small)
