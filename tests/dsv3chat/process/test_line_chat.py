"""The chat line by line, and what is saved of it and of single questions."""

import json
import os
import pty
import signal

from tests.dsv3chat.process.processes import prompt_of, read_until, run

SLOW = {"text": "word " * 3000, "tokens_per_s": 50}


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
    assert process.wait(180) == 0
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
    assert process.wait(180) == 130
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
    assert process.wait(180) == 0
    os.close(controller)
    assert run(start, {"text": "x"}, "-p", "hi")[0] == 0
    assert run(start, {"text": "x"}, "-p", "hi", "-c")[0] == 2
