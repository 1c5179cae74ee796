"""Plain mode as a process: pipes, terminals, signals, JSON, exit codes."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dsv3chat.plain_output import Narrator

DRIVER = Path(__file__).with_name("plain_driver.py")
ESCAPES = "a\x1b]52;c;AAAA\x07b\x1b[2Jc\x9bd\r\ne"


@pytest.fixture
def start(tmp_path):
    """Begin the program; whatever is left is killed at the end."""
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith("DSV3CHAT_")},
        **{f"DSV3CHAT_{k}_DIR": str(tmp_path / k.lower()) for k in ("CONFIG", "STATE", "CACHE")},
        "PYTHONPATH": str(DRIVER.parents[2]),
        "TERM": "xterm",
    }
    running = []

    def begin(script, *flags, env_more=None, **pipes):
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | pipes
        command = [sys.executable, str(DRIVER), json.dumps(script), *flags]
        process = subprocess.Popen(command, env=env | (env_more or {}), cwd=tmp_path, **pipes)
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run(start, script, *flags, stdin=None, env=None):
    pipes = {} if stdin is None else {"stdin": subprocess.PIPE}
    process = start(script, *flags, env_more=env, **pipes)
    out, err = process.communicate(stdin, timeout=60)
    return process.returncode, out, err.decode()


def prompt_of(err):
    return json.loads(
        next(line for line in err.splitlines() if line.startswith("PROMPT ")).removeprefix("PROMPT ")
    )


def read_until(descriptor, wanted, seconds=30):
    """Everything up to `wanted` from a descriptor; an assertion error shows what came instead."""
    data, deadline = b"", time.monotonic() + seconds
    while wanted not in data:
        assert time.monotonic() < deadline, data
        if select.select([descriptor], [], [], 0.5)[0]:
            part = os.read(descriptor, 4096)
            assert part, data
            data += part
    return data


def test_an_answer_goes_to_stdout_and_nothing_else_does(start):
    code, out, err = run(start, {"text": "It is Paris.", "noise": True}, "-p", "What?")
    assert (code, out) == (0, b"It is Paris.\n")
    assert "a library talks" in err
    assert "and Python too" in err


@pytest.mark.parametrize(
    ("flags", "stdin", "prompt"),
    [
        (["-p", "explain"], b"a question\n", "explain\n\na question"),
        (["-p", ""], b"a question\n", "a question"),
        ([], b"\xef\xbb\xbfna\xc3\xafve\r\n", "naïve"),
        (["-p", "explain", "--no-stdin"], b"a question\n", "explain"),
        (["-p", "explain"], b"", "explain"),
    ],
)
def test_the_flag_and_standard_input_are_joined(start, flags, stdin, prompt):
    code, _, err = run(start, {"text": "x"}, *flags, stdin=stdin)
    assert code == 0
    assert prompt_of(err) == [prompt]


@pytest.mark.parametrize("flags", [[], ["-p", ""], ["--no-stdin"], ["-p", " ", "--json"]])
def test_without_a_question_it_says_how_to_ask_and_exits_2(start, flags):
    code, out, err = run(start, {"text": "x"}, *flags)
    assert code == 2
    assert "there is no question" in err + out.decode()


def test_binary_standard_input_is_refused(start):
    code, _, err = run(start, {"text": "x"}, "-p", "explain", stdin=b"\x7fELF\0\0")
    assert code == 2
    assert "standard input is binary" in err


def test_standard_input_without_end_or_measure_is_refused_instead_of_filling_memory(start):
    with open("/dev/zero", "rb") as endless:
        process = start({"text": "x"}, "-p", "explain", stdin=endless)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, b"")
    assert b"standard input holds more than 16 MiB" in err


def test_another_encoding_of_standard_input_is_read_and_said(start):
    code, _, err = run(start, {"text": "x"}, "-p", "", stdin="naïve".encode("latin-1"))
    assert (code, prompt_of(err)) == (0, ["naïve"])
    assert "standard input is not UTF-8; it is read as Latin-1" in err


@pytest.mark.parametrize("flags", [["-p", "hi"], ["-p", "hi", "--json"], ["-p", "hi", "--jsonl"], ["paths"]])
def test_a_full_disk_is_said_and_is_no_fault_of_the_program(start, flags):
    with open("/dev/full", "wb") as full:
        process = start({"text": "one two"}, *flags, stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.count(b"standard output cannot be written: No space left on device") == 1
    assert b"Traceback" not in err


@pytest.mark.parametrize("flags", [["--json", "--bogus"], ["paths", "--json", "--bogus"]])
def test_an_error_that_json_cannot_say_on_a_full_disk_goes_to_stderr(start, flags):
    with open("/dev/full", "wb") as full:
        process = start({"text": "x"}, *flags, stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert b"--bogus" in err
    assert b"Traceback" not in err


@pytest.mark.parametrize("flags", [["-p", "hi"], ["-p", "hi", "--json"], ["paths", "--json"]])
def test_a_closed_standard_output_is_said(start, flags):
    process = start({"text": "x"}, *flags, stdout=None, preexec_fn=lambda: os.close(1))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"standard output is closed" in err


def test_the_lines_of_a_message_stay_lines_and_stay_clean(capfd):
    Narrator(redraws=False).say("fetch it with:\n  a command\nand\x1b[2J go on")
    assert capfd.readouterr().err == "dsv3chat: fetch it with:\n  a command\n  and␛[2J go on\n"


def test_a_file_is_attached_from_the_flag_but_not_from_the_pipe(start, tmp_path):
    (tmp_path / "a.txt").write_text("inside")
    _, _, err = run(start, {"text": "x"}, "-p", "explain @a.txt", stdin=b"and @a.txt")
    assert prompt_of(err) == ["File: a.txt\n```\ninside\n```\n\nexplain @a.txt\n\nand @a.txt"]
    code, out, err = run(start, {"text": "x"}, "-p", "explain @b.txt")
    assert (code, out) == (2, b"")
    assert "@b.txt: there is no such file; did you mean @a.txt?" in err


def test_standard_input_that_never_ends_is_explained(start):
    read_end, write_end = os.pipe()
    process = start({"text": "x"}, "-p", "hi", stdin=read_end)
    os.close(read_end)
    said = read_until(process.stderr.fileno(), b"\n")
    assert b"waiting for standard input" in said
    assert b"--no-stdin" in said
    assert b"/dev/null" in said
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    os.close(write_end)


def test_no_stdin_does_not_wait(start):
    read_end, write_end = os.pipe()
    process = start({"text": "x"}, "-p", "hi", "--no-stdin", stdin=read_end)
    assert process.communicate(timeout=60)[0] == b"x\n"
    os.close(read_end)
    os.close(write_end)


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
    process.wait(60)
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


SLOW = {"text": "word " * 3000, "tokens_per_s": 50}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_the_answer_and_keeps_the_text(start, number, code):
    process = start(SLOW, "-p", "hi")
    first = read_until(process.stdout.fileno(), b"word")
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert (first + out).endswith(b"word\n")
    assert b"stopped; the text so far stays" in err
    assert b"Traceback" not in err


def test_a_signal_under_json_still_gives_one_document(start):
    process = start(SLOW, "-p", "hi", "--json")
    read_until(process.stderr.fileno(), b"PROMPT")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    document = json.loads(out)
    assert process.returncode == document["exit_code"] == 130
    assert document["finish_reason"] == "cancelled"


def test_a_signal_while_loading_stops_the_loading(start):
    process = start({"text": "x", "load_s": 600}, "-p", "hi")
    read_until(process.stderr.fileno(), b"reading weights")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


def test_when_the_reader_leaves_it_is_quiet_and_generation_stops(start):
    process = start(SLOW, "-p", "hi")
    read_until(process.stdout.fileno(), b"word")
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(30) == 141
    assert b"CANCELLED" in err
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err
    assert b"Broken" not in err


def test_the_first_start_says_what_nano_is(start, tmp_path):
    assert "a demonstration" in run(start, {"text": "x"}, "-p", "hi")[2]
    (tmp_path / "cache" / "models" / "nano").mkdir(parents=True)
    assert "a demonstration" not in run(start, {"text": "x"}, "-p", "hi")[2]


def test_a_question_is_saved_only_with_c_or_resume(start):
    run(start, {"text": "first"}, "-p", "one")
    code, _, err = run(start, {"text": "x"}, "-p", "two", "-c")
    assert code == 2
    assert "no saved conversation" in err


def test_the_line_chat_saves_and_c_goes_on(start):
    controller, terminal = pty.openpty()
    process = start(
        {"text": "An answer."}, env_more={"TERM": "dumb"}, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    started = read_until(controller, b"> ")
    assert b"reading weights" in started
    assert b"\x1b" not in started
    os.write(controller, b"a question\n")
    read_until(controller, b"An answer.\r\n")
    os.write(controller, b"/hlep\n")
    read_until(controller, b"did you mean /help?")
    os.write(controller, b"/quit\n")
    assert process.wait(30) == 0
    os.close(controller)
    code, out, err = run(start, {"text": "more"}, "-p", "and then?", "-c", "--json")
    assert code == 0
    assert prompt_of(err) == ["a question", "An answer.", "and then?"]
    assert "going on with: a question" in err
    conversation = json.loads(out)["conversation"]
    _, _, err = run(start, {"text": "more"}, "-p", "again", "--resume", conversation[:6])
    assert prompt_of(err) == ["a question", "An answer.", "and then?", "more", "again"]


def test_in_the_line_chat_ctrl_c_stops_the_answer_and_the_chat_goes_on(start):
    controller, terminal = pty.openpty()
    process = start(
        SLOW,
        env_more={"ACCESSIBLE": "1"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    read_until(controller, b"> ")
    os.write(controller, b"a question\n")
    read_until(controller, b"word")
    process.send_signal(signal.SIGINT)
    read_until(controller, b"the text so far stays\r\n> ")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    os.close(controller)


def test_where_nothing_can_be_saved_the_chat_still_works_and_says_so(start, tmp_path):
    (tmp_path / "state").write_text("a file where the folder should be")
    controller, terminal = pty.openpty()
    process = start(
        {"text": "An answer."}, env_more={"TERM": "dumb"}, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    assert b"conversations are not saved" in read_until(controller, b"> ")
    os.write(controller, b"a question\n/quit\n")
    read_until(controller, b"An answer.\r\n")
    assert process.wait(30) == 0
    os.close(controller)
    assert run(start, {"text": "x"}, "-p", "hi")[0] == 0
    assert run(start, {"text": "x"}, "-p", "hi", "-c")[0] == 2


COLOUR = '{"type":"object","properties":{"colour":{"type":"string","maxLength":9}},"required":["colour"]}'


@pytest.fixture
def colour(tmp_path):
    (tmp_path / "colour.json").write_text(COLOUR)
    return str(tmp_path / "colour.json")


def test_a_schema_reaches_the_model_and_a_whole_answer_is_done(start, colour):
    code, out, err = run(start, {"text": '{"colour":"red"}'}, "-p", "Name one", "--schema", colour)
    assert (code, out) == (0, b'{"colour":"red"}\n')
    assert f"SCHEMA {COLOUR}" in err


def test_an_answer_that_is_cut_before_it_meets_its_schema_exits_1_and_says_so(start, colour):
    flags = ["-p", "Name one", "--schema", colour, "--max-tokens", "1"]
    code, out, err = run(start, {"text": '{"colour":"red"}'}, *flags)
    assert (code, out) == (1, b'{"colo\n')
    assert "not the JSON that --schema asks for" in err
    code, out, _ = run(start, {"text": '{"colour":"red"}'}, *flags, "--json")
    document = json.loads(out)
    assert code == document["exit_code"] == 1
    assert document["finish_reason"] == "length"
    assert any("--schema" in warning for warning in document["warnings"])
    code, out, _ = run(start, {"text": '{"colour":"red"}'}, *flags, "--jsonl")
    assert code == json.loads(out.splitlines()[-1])["exit_code"] == 1


@pytest.mark.parametrize(
    ("schema", "says"),
    [(None, "cannot be read"), ("{", "not a JSON Schema"), ('{"type":"strin"}', "Invalid type: strin")],
)
def test_a_schema_file_that_cannot_be_used_exits_2_before_a_model_is_loaded(start, tmp_path, schema, says):
    if schema is not None:
        (tmp_path / "bad.json").write_text(schema)
    code, out, err = run(start, {"text": "x", "crash": True}, "-p", "hi", "--schema", "bad.json")
    assert (code, out) == (2, b"")
    assert says in err
    assert "bad.json" in err
    assert "Traceback" not in err


def test_a_schema_and_a_stop_string_exclude_each_other(start, colour):
    code, _, err = run(start, {"text": "x"}, "-p", "hi", "--schema", colour, "--stop", "}")
    assert (code, "--stop" in err) == (2, True)


@pytest.mark.parametrize("env", [{}, {"TERM": "dumb"}], ids=["full-screen", "line-by-line"])
def test_a_schema_without_a_question_is_a_usage_error(start, colour, env):
    controller, terminal = pty.openpty()
    process = start(
        {"text": "x"},
        "--schema",
        colour,
        env_more=env,
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.PIPE,
    )
    os.close(terminal)
    _, err = process.communicate(timeout=60)
    os.close(controller)
    assert process.returncode == 2
    assert b"--schema is for one question" in err
