"""Runs the app over the scripted backend in this process's terminal; a test's pseudo-terminal starts it.

python terminal_app.py FOLDER [crash|engine-crash]
"""

from __future__ import annotations

import sys
from pathlib import Path

from dsv3chat.app import ChatApp
from dsv3chat.conversation import Conversation
from dsv3chat.fake_backend import FakeBackend, Reply
from dsv3chat.screens import chat as chat_screen
from dsv3chat.settings import Settings
from dsv3chat.store import Store
from engine import SamplingParams


class CrashingBackend(FakeBackend):
    """Fails as only a bug would."""

    def start(self, messages, params):
        raise ZeroDivisionError("a bug in the engine")


def main() -> int:
    """Open the chat; `crash` ends it with an exception when a message is sent."""
    folder, mode = Path(sys.argv[1]), sys.argv[2]
    chat_screen.QUIT_S = 60.0  # a slow machine presses ctrl+c twice, too
    slow = mode == "loading"
    kind = CrashingBackend if mode == "crash" else FakeBackend
    replies = [Reply("word " * 5000, tokens_per_s=40, prefill_s=60 if mode == "prefill" else 0)]
    backend = kind(replies, load_s=60 if slow else 0)
    app = ChatApp(backend, Store(folder / "s.db"), Settings(), Conversation(), SamplingParams(), folder)
    if mode == "stuck":
        app.end = lambda code: None
    return app.run_guarded()


if __name__ == "__main__":
    sys.exit(main())
