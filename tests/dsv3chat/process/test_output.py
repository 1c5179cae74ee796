"""What plain mode writes where: data on standard output, in text and JSON, and errors in their form."""

import json
import os
import pty

import pytest

from dsv3chat.plain_output import Narrator
from tests.dsv3chat.process.processes import run

ESCAPES = "a\x1b]52;c;AAAA\x07b\x1b[2Jc\x9bd\r\ne"


def test_an_answer_goes_to_stdout_and_nothing_else_does(start):
    code, out, err = run(start, {"text": "It is Paris.", "noise": True}, "-p", "What?")
    assert (code, out) == (0, b"It is Paris.\n")
    assert "a library talks" in err
    assert "and Python too" in err


@pytest.mark.parametrize("flags", [["-p", "hi"], ["-p", "hi", "--json"], ["-p", "hi", "--jsonl"], ["paths"]])
def test_a_full_disk_is_said_and_is_no_fault_of_the_program(start, flags):
    with open("/dev/full", "wb") as full:
        process = start({"text": "one two"}, *flags, stdout=full)
        _, err = process.communicate(timeout=180)
    assert process.returncode == 1
    assert err.count(b"standard output cannot be written: No space left on device") == 1
    assert b"Traceback" not in err


@pytest.mark.parametrize("flags", [["--json", "--bogus"], ["paths", "--json", "--bogus"]])
def test_an_error_that_json_cannot_say_on_a_full_disk_goes_to_stderr(start, flags):
    with open("/dev/full", "wb") as full:
        process = start({"text": "x"}, *flags, stdout=full)
        _, err = process.communicate(timeout=180)
    assert process.returncode == 2
    assert b"--bogus" in err
    assert b"Traceback" not in err


@pytest.mark.parametrize("flags", [["-p", "hi"], ["-p", "hi", "--json"], ["paths", "--json"]])
def test_a_closed_standard_output_is_said(start, flags):
    process = start({"text": "x"}, *flags, stdout=None, preexec_fn=lambda: os.close(1))
    _, err = process.communicate(timeout=180)
    assert process.returncode == 1
    assert b"standard output is closed" in err


def test_the_lines_of_a_message_stay_lines_and_stay_clean(capfd):
    Narrator(redraws=False).say("fetch it with:\n  a command\nand\x1b[2J go on")
    assert capfd.readouterr().err == "dsv3chat: fetch it with:\n  a command\n  and␛[2J go on\n"


def test_to_a_file_the_bytes_go_as_they_are(start):
    _, out, _ = run(start, {"text": ESCAPES}, "-p", "hi")
    assert out.decode() == ESCAPES + "\n"


def test_to_json_control_characters_are_escaped(start):
    _, out, _ = run(start, {"text": ESCAPES}, "-p", "hi", "--json")
    assert out.isascii()
    assert b"\x1b" not in out
    assert json.loads(out)["text"] == ESCAPES


def test_no_escape_sequence_reaches_a_terminal(start):
    controller, terminal = pty.openpty()
    process = start({"text": ESCAPES, "noise": True}, "-p", "hi", stdout=terminal)
    process.wait(180)
    os.close(terminal)
    data = b""
    while True:
        try:
            part = os.read(controller, 4096)
        except OSError:
            break
        data += part
    os.close(controller)
    assert data.decode() == "a␛]52;c;AAAA␇b␛[2Jc\ufffdd\r\ne\r\n"


def test_json_is_one_document_whatever_warns(start):
    code, out, _ = run(
        start, {"text": "It is Paris.", "thinking": "hm", "noise": True}, "-p", "What?", "--json"
    )
    document = json.loads(out)
    assert code == document["exit_code"] == 0
    assert (document["text"], document["thinking"], document["finish_reason"]) == (
        "It is Paris.",
        "hm",
        "stop",
    )
    assert document["usage"]["thinking_tokens"] == 1
    assert document["usage"]["completion_tokens"] == 4
    assert document["model"] == "scripted"


@pytest.mark.parametrize(
    ("script", "flags", "kind", "code"),
    [
        ({"text": "x", "load_error": "no model [red]\x1b"}, ["-p", "hi"], "ModelNotFoundError", 2),
        ({"text": "x"}, ["-p", "hi", "--no-such-flag"], "NoSuchOption", 2),
        ({"text": "x"}, ["-p", "hi", "--temperature", "-1"], "UsageError", 2),
        ({"text": "x"}, ["-p", "hi", "--profile", "nope"], "ProfileError", 2),
        ({"text": "x"}, ["-p", "hi", "--set", "cache_lens=1"], "ProfileError", 2),
        ({"text": "x"}, ["-p", "hi", "-c"], "StoreError", 2),
        ({"text": "x", "context_tokens": 64}, ["-p", "word " * 100], "RequestTooLargeError", 2),
        ({"text": "x", "crash": True}, ["-p", "hi"], "ZeroDivisionError", 70),
    ],
)
def test_an_error_is_one_json_document_with_its_exit_code(start, script, flags, kind, code):
    returned, out, _ = run(start, script, *flags, "--json")
    document = json.loads(out)
    assert document["error"]["kind"] == kind
    assert document["error"]["message"]
    assert returned == document["exit_code"] == code
    returned, out, err = run(start, script, *flags)
    assert (returned, out) == (code, b"")
    assert "\x1b" not in err
    assert "Traceback" not in err


def test_a_fault_of_the_program_leaves_a_private_log(start, tmp_path):
    _, _, err = run(start, {"text": "x", "crash": True}, "-p", "hi")
    (log,) = (tmp_path / "state" / "logs").iterdir()
    assert str(log) in err
    assert "ZeroDivisionError" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_an_answer_that_fails_keeps_its_text_and_exits_1(start):
    script = {"text": "one two three", "fail_after": 2}
    code, out, err = run(start, script, "-p", "hi")
    assert (code, out) == (1, b"one two\n")
    assert "logits are not finite" in err
    code, out, _ = run(start, script, "-p", "hi", "--json")
    document = json.loads(out)
    assert (code, document["text"], document["error"]["kind"]) == (1, "one two", "GenerationError")


def test_json_lines_are_events_whose_deltas_make_the_text(start):
    code, out, _ = run(start, {"text": ESCAPES, "thinking": "hm", "queue": 1}, "-p", "hi", "--jsonl")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert events[0]["event"] == "start"
    assert {"queued", "prefill", "delta"} <= {e["event"] for e in events}
    assert "".join(e["text"] for e in events if e["event"] == "delta" and e["kind"] == "answer") == ESCAPES
    assert events[-1]["event"] == "finished"
    assert events[-1]["usage"]["completion_tokens"] == sum(e.get("num_tokens", 0) for e in events)


def test_an_answer_cut_at_the_limit_says_so(start):
    code, out, err = run(start, {"text": "one two three"}, "-p", "hi", "--max-tokens", "2")
    assert (code, out) == (0, b"one two\n")
    assert "cut at 2 tokens" in err
    assert (
        json.loads(run(start, {"text": "one two"}, "-p", "hi", "--max-tokens", "1", "--json")[1])[
            "finish_reason"
        ]
        == "length"
    )
