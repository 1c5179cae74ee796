"""The program as a process: what the tests of this folder read and write. The fixtures `start` and `start_review` begin it."""

import json
import os
import select
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]


@contextmanager
def starting(driver, folder, cwd):
    """Yields `begin(script, *flags, env_more=None, **pipes)`; whatever is left is killed at the end."""
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith("DSV3CHAT_")},
        **{f"DSV3CHAT_{k}_DIR": str(folder / k.lower()) for k in ("CONFIG", "STATE", "CACHE")},
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm",
    }
    running = []

    def begin(script, *flags, env_more=None, **pipes):
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | pipes
        command = [sys.executable, str(Path(__file__).with_name(driver)), json.dumps(script), *flags]
        process = subprocess.Popen(command, env=env | (env_more or {}), cwd=cwd, **pipes)
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run(start, script, *flags, stdin=None, env=None, **pipes):
    """(exit code, standard output, standard error as text) of a process that ends by itself."""
    pipes |= {} if stdin is None else {"stdin": subprocess.PIPE}
    process = start(script, *flags, env_more=env, **pipes)
    out, err = process.communicate(stdin, timeout=180)
    return process.returncode, out, err.decode()


def prompt_of(err):
    """The messages that the plain driver's model was asked with."""
    return json.loads(
        next(line for line in err.splitlines() if line.startswith("PROMPT ")).removeprefix("PROMPT ")
    )


def read_until(descriptor, wanted, seconds=180):
    """Everything up to `wanted` from a descriptor; an assertion error shows what came instead."""
    data, deadline = b"", time.monotonic() + seconds
    while wanted not in data:
        assert time.monotonic() < deadline, data
        if select.select([descriptor], [], [], 0.5)[0]:
            part = os.read(descriptor, 4096)
            assert part, data
            data += part
    return data


def everything(controller):
    """What is left in a pseudo-terminal until its process closes it."""
    data = b""
    while True:
        try:
            part = os.read(controller, 4096)
        except OSError:
            return data
        if not part:
            return data
        data += part
