"""Draws docs/screen.svg, the README's picture: the real program, the real nano, one question.

.venv/bin/python docs/make_picture.py
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from pathlib import Path

from dsv3chat.app import ChatApp
from dsv3chat.conversation import Conversation
from dsv3chat.engine_backend import EngineBackend
from dsv3chat.screens.chat import ChatScreen
from dsv3chat.settings import Settings
from dsv3chat.store import Store
from engine import SamplingParams, find_profile, read_profile

QUESTIONS = (
    "What is the capital of France?",
    "Write a Python function that checks whether a number is prime.",
)
os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
TARGET = Path(__file__).parent / "screen.svg"


async def draw() -> str:
    """The screen as SVG while the second answer runs."""
    backend = EngineBackend("nano", read_profile(find_profile("nano-cpu")))
    params = SamplingParams(temperature=0.0, max_new_tokens=120)
    conversation = Conversation()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "chat.db")
        app = ChatApp(backend, store, Settings(), conversation, params, Path(folder))
        async with app.run_test(size=(120, 36)) as pilot:
            while not isinstance(app.screen, ChatScreen):
                await pilot.pause(0.1)
            for number, question in enumerate(QUESTIONS):
                await pilot.press(*["space" if c == " " else c for c in question], "enter")
                while number == 0 and len(conversation.path) < 2:
                    await pilot.pause(0.1)
            await pilot.pause(3.0)
            picture = app.export_screenshot(title="dsv3chat")
        backend.close()
    return picture


def main() -> None:
    picture = asyncio.run(draw())
    TARGET.write_text(re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL))
    print(f"{TARGET}: {TARGET.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
