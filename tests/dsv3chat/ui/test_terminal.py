"""A dying program leaves the terminal as it was; the real app in a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path

import pytest

from dsv3chat import terminal
from dsv3chat.store import Store

SCRIPT = Path(__file__).with_name("terminal_app.py")
PRIVATE = re.compile(rb"\x1b\[\?([0-9;]+)([hl])")
OFF_AT_THE_END = (1000, 1003, 1006, 2004, 1049, 1004)


class Program:
    """The app in a pseudo-terminal of 120x36."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
            os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
            os.execv(sys.executable, [sys.executable, str(SCRIPT), str(folder), mode])
        self.attributes = termios.tcgetattr(self.master)
        self.output = bytearray()
        self.code: int | None = None

    def pump(self, wait: float = 0.05) -> bool:
        """Read what comes in `wait` seconds. False: nobody holds the terminal's other end any more."""
        if select.select([self.master], [], [], wait)[0]:
            try:
                self.output += os.read(self.master, 65536)
            except OSError:
                return False
        return True

    def until(self, wanted: bytes, timeout: float = 180.0) -> None:
        end = time.monotonic() + timeout
        while wanted not in self.output:
            assert time.monotonic() < end, bytes(self.output[-3000:])
            assert self.pump() or wanted in self.output, bytes(self.output[-3000:])

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def wait(self, timeout: float = 180.0) -> int:
        end = time.monotonic() + timeout
        while self.pump():
            assert time.monotonic() < end, bytes(self.output[-3000:])
        _, status = os.waitpid(self.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def modes(self) -> dict[int, bool]:
        """Private modes as the last sequence of each left them."""
        found: dict[int, bool] = {}
        for numbers, letter in PRIVATE.findall(bytes(self.output)):
            for number in numbers.split(b";"):
                found[int(number)] = letter == b"h"
        return found

    def left_in_order(self) -> bool:
        modes = self.modes()
        return not any(modes.get(mode, False) for mode in OFF_AT_THE_END) and modes.get(25, True)


@pytest.fixture
def program(tmp_path):
    started: list[Program] = []

    def start(mode: str) -> Program:
        started.append(Program(tmp_path, mode))
        return started[-1]

    yield start
    for one in started:
        if one.code is None:
            os.kill(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)
        os.close(one.master)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_in_the_middle_of_an_answer_saves_it_and_leaves_the_terminal_in_order(
    program, tmp_path, number
):
    app = program("chat")
    app.until(b"F1")
    app.type(b"go\r")
    app.until(b"generating")
    os.kill(app.pid, number)
    assert app.wait() == 128 + number
    assert app.left_in_order()
    assert termios.tcgetattr(app.master) == app.attributes
    store = Store(tmp_path / "s.db")
    assert store.load(store.latest()).path[-1].status == "stopped"
    store.close()


def test_an_interface_that_does_not_react_to_a_signal_is_ended_from_outside(program):
    app = program("stuck")
    app.until(b"F1")
    os.kill(app.pid, signal.SIGTERM)
    assert app.wait() == 128 + signal.SIGTERM
    assert app.left_in_order()


def test_an_exception_shows_itself_after_the_terminal_is_in_order(program):
    app = program("crash")
    app.until(b"F1")
    app.type(b"go\r")
    assert app.wait() == 1
    assert app.left_in_order()
    after = bytes(app.output).split(b"\x1b[?1049l")[-1]
    assert b"ZeroDivisionError: a bug in the engine" in after
    assert b"Conversation(" not in after, "the conversation is printed with the local variables"


def test_ctrl_c_twice_while_the_prompt_is_read(program):
    app = program("prefill")
    app.until(b"F1")
    app.type(b"go\r")
    app.until(b"esc stop")
    app.type(b"\x03")
    app.until("■ stopped".encode())
    app.type(b"\x03")
    app.until(b"again to quit")
    app.type(b"\x03")
    assert app.wait() == 0
    assert app.left_in_order()


def test_ctrl_c_stops_the_loading(program):
    app = program("loading")
    app.until(b"reading weights")
    app.type(b"\x03")
    assert app.wait() == 130
    assert app.left_in_order()


def test_every_reset_is_tried_though_all_fail(monkeypatch):
    tried: list[bytes] = []

    def write(descriptor: int, data: bytes) -> int:
        tried.append(data)
        raise OSError("the terminal is gone")

    monkeypatch.setattr(terminal.os, "write", write)
    terminal.restore(2, None)
    assert len(tried) == len(terminal.RESETS)
