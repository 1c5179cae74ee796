"""Measures what a key press waits for while an answer streams into a long conversation. Run by hand; not a test.

    python tests/bench/key_to_paint.py --answers 60 --rate 40 --burn

The real app runs in a pseudo-terminal of 120x36 in a process of its own; keys are typed into it and the time until the
screen's bytes show them is taken outside. --burn adds a thread of pure Python, as an engine's scheduling would be.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

ANSWER = """The slot index is advanced **before** the write, so slot 0 is never filled once the ring wraps:

```python
def push(self, page: Page) -> None:
    self.slot = (self.slot + 1) % self.n     # moves first
    self.pages[self.slot] = page
```

Write first, then advance. Two callers rely on the *old order*:

- `prefill()` in src/engine/run.py:211
- `evict()` in src/engine/kv.py:163

| caller | reads |
|--------|------:|
| prefill | 12 |

"""


def app_main(num_answers: int, rate: float, burn: bool, report: str, model: str | None) -> None:
    """The process in the pseudo-terminal."""
    from dsv3chat.app import ChatApp
    from dsv3chat.conversation import Conversation
    from dsv3chat.fake_backend import FakeBackend, Reply
    from dsv3chat.settings import Settings
    from dsv3chat.store import Store
    from engine import SamplingParams, find_profile, read_profile

    if burn:
        threading.Thread(target=_burn, daemon=True).start()
    conversation = Conversation()
    for index in range(num_answers):
        question = conversation.add_user(f"Question {index}: why does the first token disappear?")
        conversation.add_assistant(ANSWER, question.id)
    if model is None:
        backend = FakeBackend([Reply(ANSWER * 100, tokens_per_s=rate)], context_tokens=1 << 20)
    else:
        from dsv3chat.engine_backend import EngineBackend

        backend = EngineBackend(model, read_profile(find_profile("nano-cpu")))
    with tempfile.TemporaryDirectory() as folder:
        params = SamplingParams(
            max_new_tokens=4000, temperature=1.0 if model else None, ignore_eos=bool(model)
        )
        app = ChatApp(backend, Store(Path(folder) / "s.db"), Settings(), conversation, params, Path(folder))
        code = app.run_guarded()
        lag = app.chat.lag
        Path(report).write_text(
            json.dumps({f"p{q}": lag.percentile_ms(q / 100) for q in (50, 95, 99)} | {"code": code})
        )


def _burn() -> None:
    total = 0
    while True:
        total = (total * 31 + 7) % 1000003
        if total % 64 == 0:
            time.sleep(0)


def read_until(master: int, wanted: bytes, timeout: float, sink: bytearray) -> float | None:
    """Seconds until `wanted` is in what the app writes; None after `timeout`."""
    start = time.perf_counter()
    got = bytearray()
    while (left := start + timeout - time.perf_counter()) > 0:
        if select.select([master], [], [], left)[0]:
            try:
                data = os.read(master, 65536)
            except OSError:  # the app ended
                return None
            got += data
            sink += data
            if wanted in got:
                return time.perf_counter() - start
    return None


def main() -> None:
    """Fork the app, type, print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, default=60)
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--keys", type=int, default=150)
    parser.add_argument("--burn", action="store_true")
    parser.add_argument("--idle", action="store_true", help="measure CPU seconds of ten idle seconds instead")
    parser.add_argument("--model", help="a checkpoint to run on the real engine")
    options = parser.parse_args()
    report = tempfile.mktemp(suffix=".json")
    pid, master = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        app_main(options.answers, options.rate, options.burn, report, options.model)
        os._exit(0)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
    os.kill(pid, signal.SIGWINCH)
    sink = bytearray()
    result: dict[str, object] = vars(options).copy()
    try:
        if read_until(master, b"F1", 120, sink) is None:
            sys.exit(f"the app did not start: {bytes(sink[-2000:])!r}")
        read_until(master, b"\0", 2.0, sink)
        if options.idle:
            before = cpu_seconds(pid)
            read_until(master, b"\0", 10.0, sink)
            result["idle_cpu_percent"] = round(10 * (cpu_seconds(pid) - before), 2)
        else:
            os.write(master, b"go\r")
            read_until(master, b"generating", 120, sink)
            read_until(master, b"\0", 2.0, sink)
            result |= type_keys(master, options.keys, sink)
        os.write(master, b"\x11")  # ctrl+q
        read_until(master, b"\x1b[?1049l", 10, sink)
    finally:
        deadline = time.monotonic() + 5
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                break
            read_until(master, b"\0", 0.05, sink)
            time.sleep(0.02)
    if Path(report).exists():
        result["loop_lag_ms"] = json.loads(Path(report).read_text())
    print(json.dumps(result))


def type_keys(master: int, num_keys: int, sink: bytearray) -> dict[str, object]:
    """Type capital letters that occur nowhere else, one after another, each waited for."""
    taken: list[float] = []
    missed = 0
    for index in range(num_keys):
        letter = b"QXZJ"[index % 4 : index % 4 + 1]
        seconds = read_after(master, letter, sink)
        if seconds is None:
            missed += 1
        else:
            taken.append(1000 * seconds)
        read_until(master, b"\0", 0.03 + 0.04 * (index % 5) / 5, sink)
        if index % 40 == 39:
            os.write(master, b"\x15")  # ctrl+u
            read_until(master, b"\0", 0.2, sink)
    taken.sort()

    def at(share: float) -> float:
        return round(taken[min(len(taken) - 1, int(share * len(taken)))], 1)

    return {"p50_ms": at(0.5), "p95_ms": at(0.95), "max_ms": at(1.0), "missed": missed}


def read_after(master: int, letter: bytes, sink: bytearray) -> float | None:
    """Type a letter, wait for it."""
    while select.select([master], [], [], 0)[0]:
        sink += os.read(master, 65536)
    os.write(master, letter)
    return read_until(master, letter, 3.0, sink)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
