"""Signals in plain mode, in a process of their own."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, signal, sys, time
from dsv3chat import interrupts
from dsv3chat.interrupts import Interrupts
interrupts._ONE_WISH_SECONDS = float(sys.argv.pop(1))
with Interrupts() as interrupts:
    for pause in map(float, sys.argv[1:]):
        time.sleep(pause)
        os.kill(os.getpid(), signal.SIGTERM)
    sys.exit(7 if interrupts.exit_code == 143 else 1)
"""


NESTED = """
import os, signal, sys
from dsv3chat import interrupts
from dsv3chat.interrupts import Interrupts
interrupts._ONE_WISH_SECONDS = 60
class Nested(Interrupts):
    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "number" and value is not None:
            os.kill(os.getpid(), signal.SIGTERM)
with Nested() as interrupts:
    os.kill(os.getpid(), signal.SIGTERM)
    sys.exit(7 if interrupts.exit_code == 143 else 1)
"""


def run(*pauses: float, one_wish: float) -> int:
    """`one_wish`: within how many seconds two signals are one wish."""
    words = map(str, (one_wish, *pauses))
    return subprocess.run([sys.executable, "-c", PROGRAM, *words], check=False).returncode


def test_the_first_signal_is_remembered():
    assert run(0, one_wish=60) == 7


def test_the_same_wish_told_twice_is_one():
    assert run(0, 0, 0, one_wish=60) == 7


def test_a_second_wish_ends_the_process():
    assert run(0, 0.1, one_wish=0.05) == 143


def test_the_same_wish_told_again_while_the_first_is_being_noted_is_one():
    assert subprocess.run([sys.executable, "-c", NESTED], check=False).returncode == 7
