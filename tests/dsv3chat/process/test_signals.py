"""Plain mode that is stopped: by signals, and by a reader who leaves."""

import json
import signal

import pytest

from tests.dsv3chat.process.processes import read_until

SLOW = {"text": "word " * 3000, "tokens_per_s": 50}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_the_answer_and_keeps_the_text(start, number, code):
    process = start(SLOW, "-p", "hi")
    first = read_until(process.stdout.fileno(), b"word")
    process.send_signal(number)
    out, err = process.communicate(timeout=180)
    assert process.returncode == code
    assert (first + out).endswith(b"word\n")
    assert b"stopped; the text so far stays" in err
    assert b"Traceback" not in err


def test_a_signal_under_json_still_gives_one_document(start):
    process = start(SLOW, "-p", "hi", "--json")
    read_until(process.stderr.fileno(), b"PROMPT")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=180)
    document = json.loads(out)
    assert process.returncode == document["exit_code"] == 130
    assert document["finish_reason"] == "cancelled"


def test_a_signal_while_loading_stops_the_loading(start):
    process = start({"text": "x", "load_s": 600}, "-p", "hi")
    read_until(process.stderr.fileno(), b"reading weights")
    process.send_signal(signal.SIGINT)
    assert process.wait(180) == 130


def test_when_the_reader_leaves_it_is_quiet_and_generation_stops(start):
    process = start(SLOW, "-p", "hi")
    read_until(process.stdout.fileno(), b"word")
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(180) == 141
    assert b"CANCELLED" in err
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err
    assert b"Broken" not in err
