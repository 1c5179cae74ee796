"""Brackets, escape sequences, control characters, unclosed fences: shown, harmless, in every place foreign text goes."""

from __future__ import annotations

import pytest

from dsv3chat.conversation import Conversation
from dsv3chat.fake_backend import Reply
from dsv3chat.sanitize import clean

HOSTILE = [
    'z [b + reply [1, "3"]',
    "[/",
    "src/[id]/page.tsx",
    "[red]x[/red] [@click=app.quit]y[/]",
    "\x1b]52;c;cm0gLXJm\x07 clip",
    "\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\ text",
    "\x1b[2J\x1b[H gone",
    "\x9b2J c1",
    "\x1b]0;title never ended",
    "abc\u202etxt.exe",
    "```\nunclosed [",
    "nul\x00 bell\x07 back\x08 del\x7f",
]


def shown_safely(text: str) -> bool:
    """Cleaning what stands on the screen changes nothing: no control and no bidi character is there."""
    return clean(text) == text


@pytest.mark.parametrize("text", HOSTILE)
async def test_everywhere(chat, text):
    conversation = Conversation()
    conversation.title = text
    replies = [
        Reply(f"before\n\n{text}\n\nafter", thinking=text),
        Reply(f"{text} and more", fail_after=1, fail_message=text),
    ]
    async with chat(replies, conversation=conversation, toasts=True) as c:
        await c.press("f2")
        await c.ask(text.replace("@", "at "))
        await c.until(lambda: "after" in c.text or "unclosed" in c.text)
        assert shown_safely(c.text)
        await c.ask(text.replace("@", "at "))
        await c.shows("✗ failed")
        c.screen.say(text, "error")
        await c.until(lambda: len(c.app.screen.query("Toast")) > 0)
        await c.pilot.pause()
        assert shown_safely(c.text)
        await c.press("ctrl+b")
        await c.shows("Sessions")
        assert shown_safely(c.text)
        await c.press("escape", "ctrl+r")
        await c.shows("History")
        assert shown_safely(c.text)
        await c.press("escape", "up")
        await c.until(lambda: c.screen.prompt.text)
        assert shown_safely(c.text)


async def test_brackets_stand_in_the_answer_as_they_were_written(chat):
    async with chat([Reply('z [b + reply [1, "3"] and [red]x[/red] and [/')]) as c:
        await c.ask("[bold]hi[/bold]")
        await c.shows('z [b + reply [1, "3"] and [red]x[/red] and [/')
        await c.shows("[bold]hi[/bold]")


async def test_a_hostile_file_name_is_offered_and_attached(chat):
    async with chat([Reply("ok")]) as c:
        name = "a[red]b\x1b[2J.py"
        (c.app.chat.root / name).write_text("x = 1\n")
        await c.press("@", "a")
        await c.until(lambda: c.screen.prompt.popup_open)
        assert shown_safely(c.text)


async def test_a_missing_file_says_so_before_it_is_sent_and_the_input_stays(chat):
    async with chat([Reply("ok")]) as c:
        (c.app.chat.root / "data.bin").write_bytes(bytes(range(256)) * 10)
        await c.say("look at @data.bin please")
        await c.until(lambda: c.app._notifications)
        assert not c.messages
        assert c.screen.prompt.text == "look at @data.bin please"
