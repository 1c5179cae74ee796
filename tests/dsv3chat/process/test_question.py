"""The question of plain mode, from -p, standard input or both, and what is attached to it."""

import os
import signal

import pytest

from tests.dsv3chat.process.processes import prompt_of, read_until, run


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
        out, err = process.communicate(timeout=180)
    assert (process.returncode, out) == (2, b"")
    assert b"standard input holds more than 16 MiB" in err


def test_another_encoding_of_standard_input_is_read_and_said(start):
    code, _, err = run(start, {"text": "x"}, "-p", "", stdin="naïve".encode("latin-1"))
    assert (code, prompt_of(err)) == (0, ["naïve"])
    assert "standard input is not UTF-8; it is read as Latin-1" in err


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
    assert process.wait(180) == 130
    os.close(write_end)


def test_no_stdin_does_not_wait(start):
    read_end, write_end = os.pipe()
    process = start({"text": "x"}, "-p", "hi", "--no-stdin", stdin=read_end)
    assert process.communicate(timeout=180)[0] == b"x\n"
    os.close(read_end)
    os.close(write_end)
