"""Measures what a key press waits for on the review screen while findings come in. Run by hand; not a test.

    python -m tests.bench.review_key_to_paint --findings 2000 --files 500 --rate 20 --burn

The real app runs in a pseudo-terminal of 120x36 in a process of its own over a scripted review: `--findings` are there,
`--rate` more come a second. `j` is typed and the time until the cursor's new line is painted is taken outside.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import signal
import struct
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.bench.key_to_paint import _burn, cpu_seconds, read_until


def app_main(num_findings: int, num_files: int, rate: float, burn: bool) -> None:
    """The process in the pseudo-terminal."""
    from dsv3chat.app import ChatApp
    from dsv3chat.conversation import Conversation
    from dsv3chat.fake_backend import FakeBackend
    from dsv3chat.review.values import (
        ChunkDone,
        FileDone,
        FileStarted,
        FindingFound,
        ReviewEvent,
        ReviewStarted,
    )
    from dsv3chat.settings import Settings
    from dsv3chat.store import Store
    from engine import SamplingParams
    from tests.dsv3chat.screens.scripted_review import KV, ScriptedReview, finding, job_of, make_scope, source

    code = KV * 20
    files = [source(f"pkg{n % 20}/module_{n}.py", code) for n in range(num_files)]
    files.sort(key=lambda f: f.path)

    class Streaming(ScriptedReview):
        def _script(self) -> Iterator[ReviewEvent]:
            self._told, self._done = [], []
            yield ReviewStarted("bench", num_files, num_files, 10**6, ())
            for n in range(10**6):
                file = files[n % num_files]
                yield FileStarted(file.path, 1)
                found = finding(
                    file.path, 3 + n % 200, title=f"Ring slot {n}", confidence=(n * 37 % 97) / 97, text=code
                )
                yield FindingFound(replace(found, fingerprint=str(n)))
                yield ChunkDone(file.path, n % num_files, num_files, 100.0)
                yield FileDone(file.path, "findings", 1)
                if n >= num_findings and self.stopped.wait(1 / rate):
                    return

    if burn:
        threading.Thread(target=_burn, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        backend = FakeBackend()
        backend.load(lambda progress: None)
        review = Streaming(make_scope(Path(folder), files))
        store = Store(Path(folder) / "s.db")
        job = job_of(review)
        app = ChatApp(
            backend,
            store,
            Settings(),
            Conversation(),
            SamplingParams(),
            Path(folder),
            review=lambda on_load: job,
        )
        app.run_guarded()


def main() -> None:
    """Fork the app, type, print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--findings", type=int, default=2000)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--keys", type=int, default=150)
    parser.add_argument("--burn", action="store_true")
    options = parser.parse_args()
    pid, master = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        app_main(options.findings, options.files, options.rate, options.burn)
        os._exit(0)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
    os.kill(pid, signal.SIGWINCH)
    sink = bytearray()
    result: dict[str, object] = vars(options).copy()
    try:
        read_until(master, b"Ring slot", 60, sink)
        read_until(master, b"\0", 6.0, sink)
        taken = []
        before, began = cpu_seconds(pid), time.monotonic()
        for index in range(options.keys):
            os.write(master, b"j")
            seconds = read_until(
                master, "◀".encode(), 3.0, sink
            )  # the mark in the code, the last that is painted
            taken.append(1000 * (3.0 if seconds is None else seconds))
            read_until(master, b"\0", 0.03 + 0.04 * (index % 5) / 5, sink)
        taken.sort()
        for share in (0.5, 0.95, 1.0):
            result[f"p{round(100 * share)}_ms"] = round(
                taken[min(len(taken) - 1, int(share * len(taken)))], 1
            )
        result["cpu_share"] = round((cpu_seconds(pid) - before) / (time.monotonic() - began), 2)
    finally:
        os.kill(pid, signal.SIGTERM)
        read_until(master, b"\x1b[?1049l", 5, sink)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
