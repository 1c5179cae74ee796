"""`dsv3chat review` as a process: signals, pipes, terminals, full disks."""

import json
import os
import pty
import signal

import pytest

from tests.dsv3chat.process.processes import everything, read_until, run
from tests.dsv3chat.process.review_driver import DEFECT

FINDING = {"a.py": [DEFECT]}
SLOW = {"answers": FINDING | {"b.py": "word " * 3000}, "tokens_per_s": 60}
HOSTILE = "\x1b]52;c;AAAA\x07 \x1b[2J\u202e"


def test_what_libraries_print_stays_out_of_the_report(start_review):
    code, out, err = run(start_review, {"answers": FINDING, "noise": True}, "-f", "json")
    assert code == json.loads(out)["exit_code"] == 1
    assert "a library talks" in err
    assert "and Python too" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_what_there_is_and_exits_130(start_review, tree, number):
    process = start_review(SLOW, "-f", "json", "-o", "a.sarif", "--set", "max_batch_size=1")
    read_until(process.stderr.fileno(), b"a.py:1: high")
    process.send_signal(number)
    out, err = process.communicate(timeout=180)
    report = json.loads(out)
    assert process.returncode == report["exit_code"] == 130
    assert [finding["path"] for finding in report["findings"]] == ["a.py"]
    assert (report["complete"], report["interrupted"]) == (False, True)
    invocation = json.loads((tree / "a.sarif").read_text())["runs"][0]["invocations"][0]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 130)
    assert b"Traceback" not in err


def test_a_stopped_review_goes_on_where_it_was(start_review):
    process = start_review(SLOW, "--set", "max_batch_size=1")
    read_until(process.stderr.fileno(), b"a.py:1: high")
    process.send_signal(signal.SIGINT)
    assert process.wait(180) == 130
    code, out, _ = run(start_review, {"answers": FINDING}, "--resume", "-f", "json")
    assert code == 1
    assert json.loads(out)["usage"]["cached_chunks"] == 1
    assert run(start_review, {}, "--resume")[0] == 2  # it has ended: there is nothing left to resume


def test_a_second_signal_ends_it_at_once(start_review):
    process = start_review(SLOW | {"load_s": 600})
    read_until(process.stderr.fileno(), b"reading weights")
    process.send_signal(signal.SIGSTOP)
    for number in (signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    assert process.wait(180) in (128 + signal.SIGINT, 128 + signal.SIGTERM)


def test_a_signal_while_loading_is_no_clean_review(start_review):
    process = start_review({"load_s": 600}, "-f", "json", "-o", "a.sarif")
    read_until(process.stderr.fileno(), b"reading weights")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=180)
    assert process.returncode == json.loads(out)["exit_code"] == 130
    assert b'"complete": true' not in out


def test_kill_9_loses_nothing_that_was_finished_and_leaves_no_half_file(start_review, tree):
    process = start_review(SLOW, "-o", "a.sarif", "--set", "max_batch_size=1")
    read_until(process.stderr.fileno(), b"a.py:1: high")
    process.kill()
    process.wait(180)
    assert sorted(path.name for path in tree.iterdir()) == ["a.py", "b.py"]
    code, out, _ = run(start_review, {"answers": FINDING}, "--resume", "-f", "json")
    assert (code, json.loads(out)["usage"]["cached_chunks"]) == (1, 1)


def test_json_lines_come_while_it_runs(start_review):
    process = start_review(SLOW, "-f", "jsonl", "--set", "max_batch_size=1")
    seen = read_until(process.stdout.fileno(), b'"event": "finding"')
    assert b'"event": "end"' not in seen
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=180)
    assert json.loads(out.splitlines()[-1])["event"] == "end"


def test_when_the_reader_leaves_it_is_quiet_and_the_review_stops(start_review, tree):
    (tree / "c.py").write_text("x = 1\n")
    answers = FINDING | {"b.py": "word " * 60, "c.py": "word " * 9000}
    script = {"answers": answers, "tokens_per_s": 60}
    process = start_review(script, "-f", "jsonl", "--set", "max_batch_size=1")
    read_until(process.stdout.fileno(), b'"event": "finding"')
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(180) == 141
    assert b"Traceback" not in err
    assert b"Broken" not in err


def test_a_reader_that_leaves_keeps_no_file_from_being_written(start_review, tree):
    script = {"answers": FINDING, "load_s": 1}
    process = start_review(script, "-o", "a.json")
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(180) == 141
    assert json.loads((tree / "a.json").read_text())["complete"] is True
    assert b"Traceback" not in err


def test_a_baseline_that_cannot_be_written_costs_no_report(start_review, tree):
    too_long = "k" * 250  # with what a temporary name has beside it
    flags = ["--update-baseline", "--baseline", too_long, "-f", "json", "-o", "a.txt"]
    code, out, err = run(start_review, {"answers": FINDING}, *flags)
    report = json.loads(out)
    assert code == report["exit_code"] == 3
    assert [finding["state"] for finding in report["findings"]] == ["new"]
    assert (tree / "a.txt").read_text().startswith("a.py:1: high")
    assert "cannot be written: File name too long" in err


def test_data_on_standard_input_that_nobody_asked_for_is_named(start_review):
    _, _, err = run(start_review, {}, stdin=b"diff --git a/a.py b/a.py\n")
    assert "standard input holds data, which is not read; a diff in it needs --stdin-diff" in err
    assert "standard input" not in run(start_review, {})[2]


@pytest.mark.parametrize("flags", [[], ["-f", "json"], ["-f", "jsonl"]])
def test_a_full_disk_is_no_success_and_no_finding(start_review, flags):
    with open("/dev/full", "wb") as full:
        code, _, err = run(start_review, {"answers": FINDING}, *flags, stdout=full)
    assert code == 3
    assert err.count("standard output cannot be written: No space left on device") == 1
    assert "Traceback" not in err


def test_a_closed_standard_output_is_said(start_review):
    code, _, err = run(start_review, {}, stdout=None, preexec_fn=lambda: os.close(1))
    assert code == 3
    assert "standard output is closed" in err


def test_no_escape_sequence_reaches_a_terminal_and_a_file_gets_the_text_as_it_is(start_review, tree):
    (tree / "c.py").write_text(f"def f(a=[]):  # {HOSTILE}\n    return a\n")
    answers = {"c.py": [DEFECT | {"message": HOSTILE}]}
    controller, terminal = pty.openpty()
    process = start_review({"answers": answers}, "-f", "text", "c.py", stdout=terminal)
    process.wait(180)
    os.close(terminal)
    shown = everything(controller)
    os.close(controller)
    assert b"\x1b" not in shown + process.stderr.read()
    assert b"\xe2\x80\xae" not in shown
    assert "␛]52;c;AAAA␇".encode() in shown
    _, out, _ = run(start_review, {"answers": answers}, "-f", "text", "c.py")
    assert HOSTILE.encode() in out
    _, out, _ = run(start_review, {"answers": answers}, "-f", "json", "c.py")
    assert out.isascii()
    assert b"\x1b" not in out


def test_progress_is_drawn_over_on_a_terminal_only(start_review):
    controller, terminal = pty.openpty()
    process = start_review(SLOW, "-f", "json", "--set", "max_batch_size=1", stderr=terminal)
    os.close(terminal)
    drawn = read_until(controller, b"1/2 chunks")
    assert b"\r\x1b[K" in drawn
    assert b" left" in drawn
    process.send_signal(signal.SIGINT)
    everything(controller)
    assert process.wait(180) == 130
    os.close(controller)
    _, _, err = run(start_review, {"answers": FINDING})
    assert "\r" not in err
    assert "\x1b" not in err
    assert "2 files, 2 chunks, " in err


def test_in_a_terminal_it_opens_the_screen_and_writes_the_files_when_it_is_left(start_review, tree):
    controller, terminal = pty.openpty()
    process = start_review(
        {"answers": FINDING}, "-o", "a.json", stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    assert b"\x1b[?1049h" in read_until(controller, b"exit code 1")  # not "exit code will be 1": it has ended
    os.write(controller, b"\x11")  # ctrl+q
    shown = everything(controller)
    os.close(controller)
    report = json.loads((tree / "a.json").read_text())
    assert process.wait(180) == report["exit_code"] == 1
    assert b"wrote json" in shown
    assert [finding["path"] for finding in report["findings"]] == ["a.py"]


def test_a_diff_that_does_not_come_is_explained(start_review):
    read_end, write_end = os.pipe()
    process = start_review({}, "--stdin-diff", stdin=read_end)
    os.close(read_end)
    said = read_until(process.stderr.fileno(), b"\n")
    assert b"waiting for standard input" in said
    assert b"no --stdin-diff" in said
    process.send_signal(signal.SIGINT)
    assert process.wait(180) == 130
    os.close(write_end)
