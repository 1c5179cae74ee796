"""The review as a program: what it gives back, and the terminal as it was, however it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.dsv3chat.ui import test_terminal

ROOT = Path(__file__).parents[3]


@pytest.fixture
def program(tmp_path, monkeypatch):
    monkeypatch.setattr(test_terminal, "SCRIPT", Path(__file__).with_name("review_program.py"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    started: list[test_terminal.Program] = []

    def start(mode: str) -> test_terminal.Program:
        started.append(test_terminal.Program(tmp_path, mode))
        return started[-1]

    yield start
    for one in started:
        if one.code is None:
            os.kill(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)
        os.close(one.master)


def test_leaving_gives_the_whole_report(program):
    p = program("end")
    p.until(b"eval of input")
    p.until(b"reviewed")
    p.type(b"\x1b")
    p.until(b"esc again to leave")
    p.type(b"\x1b")
    assert p.wait() == 0
    assert p.left_in_order()
    assert b"findings: 3 complete: True" in p.output


def test_sigterm_ends_it_with_what_there_is(program):
    p = program("hold")
    p.until(b"evict() frees")
    os.kill(p.pid, signal.SIGTERM)
    assert p.wait() == 128 + signal.SIGTERM
    assert p.left_in_order()
    assert b"findings: 2 complete: False" in p.output


def test_an_exception_of_the_review_is_raised_when_the_terminal_is_in_order(program):
    p = program("crash")
    assert p.wait() == 70
    assert p.left_in_order()
    assert b"raised: a bug in the reviewer" in p.output
