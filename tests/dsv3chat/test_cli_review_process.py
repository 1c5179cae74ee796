"""`dsv3chat review` as a process: signals, pipes, terminals, full disks."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.dsv3chat.review_driver import DEFECT
from tests.dsv3chat.test_cli_plain import read_until

DRIVER = Path(__file__).with_name("review_driver.py")
FINDING = {"a.py": [DEFECT]}
SLOW = {"answers": FINDING | {"b.py": "word " * 3000}, "tokens_per_s": 60}
HOSTILE = "\x1b]52;c;AAAA\x07 \x1b[2J\u202e"


@pytest.fixture
def start(tmp_path):
    """Begin a review of two files; whatever is left is killed at the end."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("a.py", "b.py"):
        (tree / name).write_text("def f(a=[]):\n    return a\n")
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith("DSV3CHAT_")},
        **{f"DSV3CHAT_{k}_DIR": str(tmp_path / k.lower()) for k in ("CONFIG", "STATE", "CACHE")},
        "PYTHONPATH": str(DRIVER.parents[2]),
        "TERM": "xterm",
    }
    running = []

    def begin(script, *flags, **pipes):
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | pipes
        command = [sys.executable, str(DRIVER), json.dumps(script), *flags]
        process = subprocess.Popen(command, env=env, cwd=tree, **pipes)
        running.append(process)
        return process

    begin.tree = tree
    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run(start, script, *flags, **pipes):
    process = start(script, *flags, **pipes)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def everything(controller):
    data = b""
    while True:
        try:
            part = os.read(controller, 4096)
        except OSError:
            return data
        data += part


def test_what_libraries_print_stays_out_of_the_report(start):
    code, out, err = run(start, {"answers": FINDING, "noise": True}, "-f", "json")
    assert code == json.loads(out)["exit_code"] == 1
    assert b"a library talks" in err
    assert b"and Python too" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_what_there_is_and_exits_130(start, number):
    process = start(SLOW, "-f", "json", "-o", "a.sarif", "--set", "max_batch_size=1")
    read_until(process.stderr.fileno(), b"a.py:1: high")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    report = json.loads(out)
    assert process.returncode == report["exit_code"] == 130
    assert [finding["path"] for finding in report["findings"]] == ["a.py"]
    assert (report["complete"], report["interrupted"]) == (False, True)
    invocation = json.loads((start.tree / "a.sarif").read_text())["runs"][0]["invocations"][0]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 130)
    assert b"Traceback" not in err


def test_a_stopped_review_goes_on_where_it_was(start):
    process = start(SLOW, "--set", "max_batch_size=1")
    read_until(process.stderr.fileno(), b"a.py:1: high")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    code, out, _ = run(start, {"answers": FINDING}, "--resume", "-f", "json")
    assert code == 1
    assert json.loads(out)["usage"]["cached_chunks"] == 1
    assert run(start, {}, "--resume")[0] == 2  # it has ended: there is nothing left to resume


def test_a_second_signal_ends_it_at_once(start):
    process = start(SLOW | {"load_s": 600})
    read_until(process.stderr.fileno(), b"reading weights")
    process.send_signal(signal.SIGSTOP)
    for number in (signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    assert process.wait(30) in (128 + signal.SIGINT, 128 + signal.SIGTERM)


def test_a_signal_while_loading_is_no_clean_review(start):
    process = start({"load_s": 600}, "-f", "json", "-o", "a.sarif")
    read_until(process.stderr.fileno(), b"reading weights")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == json.loads(out)["exit_code"] == 130
    assert b'"complete": true' not in out


def test_kill_9_loses_nothing_that_was_finished_and_leaves_no_half_file(start):
    process = start(SLOW, "-o", "a.sarif", "--set", "max_batch_size=1")
    read_until(process.stderr.fileno(), b"a.py:1: high")
    process.kill()
    process.wait(30)
    assert sorted(path.name for path in start.tree.iterdir()) == ["a.py", "b.py"]
    code, out, _ = run(start, {"answers": FINDING}, "--resume", "-f", "json")
    assert (code, json.loads(out)["usage"]["cached_chunks"]) == (1, 1)


def test_json_lines_come_while_it_runs(start):
    process = start(SLOW, "-f", "jsonl", "--set", "max_batch_size=1")
    seen = read_until(process.stdout.fileno(), b'"event": "finding"')
    assert b'"event": "end"' not in seen
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert json.loads(out.splitlines()[-1])["event"] == "end"


def test_when_the_reader_leaves_it_is_quiet_and_the_review_stops(start):
    process = start(SLOW, "-f", "jsonl", "--set", "max_batch_size=1")
    read_until(process.stdout.fileno(), b'"event": "finding"')
    process.stdout.close()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    err = process.stderr.read()
    assert process.wait(60) == 141
    assert time.monotonic() - began < 40
    assert b"Traceback" not in err
    assert b"Broken" not in err


@pytest.mark.parametrize("flags", [[], ["-f", "json"], ["-f", "jsonl"]])
def test_a_full_disk_is_no_success_and_no_finding(start, flags):
    with open("/dev/full", "wb") as full:
        code, _, err = run(start, {"answers": FINDING}, *flags, stdout=full)
    assert code == 3
    assert err.count(b"standard output cannot be written: No space left on device") == 1
    assert b"Traceback" not in err


def test_a_closed_standard_output_is_said(start):
    code, _, err = run(start, {}, stdout=None, preexec_fn=lambda: os.close(1))
    assert code == 3
    assert b"standard output is closed" in err


def test_no_escape_sequence_reaches_a_terminal_and_a_file_gets_the_text_as_it_is(start):
    (start.tree / "c.py").write_text(f"def f(a=[]):  # {HOSTILE}\n    return a\n")
    answers = {"c.py": [DEFECT | {"message": HOSTILE}]}
    controller, terminal = pty.openpty()
    process = start({"answers": answers}, "-f", "text", "c.py", stdout=terminal)
    process.wait(60)
    os.close(terminal)
    shown = everything(controller)
    os.close(controller)
    assert b"\x1b" not in shown + process.stderr.read()
    assert b"\xe2\x80\xae" not in shown
    assert "␛]52;c;AAAA␇".encode() in shown
    _, out, _ = run(start, {"answers": answers}, "-f", "text", "c.py")
    assert HOSTILE.encode() in out
    _, out, _ = run(start, {"answers": answers}, "-f", "json", "c.py")
    assert out.isascii()
    assert b"\x1b" not in out


def test_progress_is_drawn_over_on_a_terminal_only(start):
    controller, terminal = pty.openpty()
    process = start(SLOW, "-f", "json", "--set", "max_batch_size=1", stderr=terminal)
    os.close(terminal)
    drawn = read_until(controller, b"1/2 chunks")
    assert b"\r\x1b[K" in drawn
    assert b" left" in drawn
    process.send_signal(signal.SIGINT)
    everything(controller)
    assert process.wait(60) == 130
    os.close(controller)
    _, _, err = run(start, {"answers": FINDING})
    assert b"\r" not in err
    assert b"\x1b" not in err
    assert b"2 files, 2 chunks, " in err


def test_in_a_terminal_it_opens_the_screen_and_writes_the_files_when_it_is_left(start):
    controller, terminal = pty.openpty()
    process = start({"answers": FINDING}, "-o", "a.json", stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    assert b"\x1b[?1049h" in read_until(controller, b"Mutable default")
    os.write(controller, b"\x11")  # ctrl+q
    shown = everything(controller)
    os.close(controller)
    report = json.loads((start.tree / "a.json").read_text())
    assert process.wait(30) == report["exit_code"] == 1
    assert b"wrote json" in shown
    assert [finding["path"] for finding in report["findings"]] == ["a.py"]


def test_a_diff_that_does_not_come_is_explained(start):
    read_end, write_end = os.pipe()
    process = start({}, "--stdin-diff", stdin=read_end)
    os.close(read_end)
    said = read_until(process.stderr.fileno(), b"\n")
    assert b"waiting for standard input" in said
    assert b"no --stdin-diff" in said
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    os.close(write_end)
