"""A folder appears whole or not at all, whoever is killed when."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from dsv3chat.nano.workspace import disk_errors, exclusive, publish, require_space, work_folder
from engine import LoadCancelledError, ModelError


def never():
    return False


def test_publish_replaces_a_folder_whole(tmp_path):
    destination = tmp_path / "model"
    destination.mkdir()
    (destination / "old").write_text("old")
    with work_folder(destination) as work:
        (work / "finished").mkdir()
        (work / "finished" / "new").write_text("new")
        publish(work / "finished", destination, work)
    assert [f.name for f in destination.iterdir()] == ["new"]
    assert [f.name for f in tmp_path.iterdir()] == ["model"]


def test_an_error_leaves_the_old_folder_and_no_work_folder(tmp_path):
    destination = tmp_path / "model"
    destination.mkdir()
    (destination / "old").write_text("old")

    def fail_half_way():
        with work_folder(destination) as work:
            (work / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert [f.name for f in tmp_path.iterdir()] == ["model"]
    assert (destination / "old").read_text() == "old"


def test_leftovers_of_this_model_go_and_nothing_else(tmp_path):
    for name in (".model.partial-abc", ".other.partial-abc", "model.partial-x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    with work_folder(tmp_path / "model") as work:
        assert work.name.startswith(".")
        assert sorted(f.name for f in tmp_path.iterdir() if f != work) == [
            ".other.partial-abc",
            "model.partial-x",
        ]


def test_second_builder_waits_for_the_first_and_says_so_once(tmp_path):
    waits, order = [], []
    waiting = threading.Event()

    def second():
        with exclusive(tmp_path / "model", lambda: (waits.append(1), waiting.set()), never):
            order.append("second")

    with exclusive(tmp_path / "model", waits.clear, never):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert waits == [1]


def test_waiting_can_be_cancelled(tmp_path):
    again = exclusive(tmp_path / "model", lambda: None, lambda: True)
    with exclusive(tmp_path / "model", lambda: None, never), pytest.raises(LoadCancelledError), again:
        pass


def test_lock_of_a_killed_process_is_free(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path; from dsv3chat.nano.workspace import exclusive, work_folder\n"
        "d = Path(sys.argv[1])\n"
        "with exclusive(d, lambda: None, lambda: False), work_folder(d) as w:\n"
        "    (w / 'half').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path / "model")], cwd=os.getcwd())
    assert ended.returncode == -signal.SIGKILL
    assert any(f.name.startswith(".model.partial-") for f in tmp_path.iterdir())
    destination = tmp_path / "model"
    with (
        exclusive(destination, lambda: pytest.fail("waited for a dead process"), never),
        work_folder(destination),
    ):
        pass
    assert [f.name for f in tmp_path.iterdir()] == [".model.lock"]


def test_too_little_space_is_refused_with_the_numbers(tmp_path):
    require_space(tmp_path, 1, "nano")
    with pytest.raises(ModelError, match=r"nano needs 1000000000000 MB in .* MB are free"):
        require_space(tmp_path, 10**18, "nano")


def test_a_disk_that_fills_up_is_said_in_words(tmp_path):
    def fill():
        with disk_errors(tmp_path, "nano"), open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(ModelError, match=r"nano could not be written to .*: No space left on device"):
        fill()
