"""Scrolling, following, selecting, copying, and that a long conversation costs one screen."""

from __future__ import annotations

import pytest
from textual.geometry import Offset
from textual.selection import SELECT_ALL, Selection

from dsv3chat.conversation import Conversation
from dsv3chat.fake_backend import Reply

LINES = "\n\n".join(f"line {n}" for n in range(80))
CODE = "Look:\n\n```python\na = [1]\nb = 2\n```\n\nand\n\n```\nlast\n```"


def long_conversation(num_turns: int) -> Conversation:
    conversation = Conversation()
    for index in range(num_turns):
        question = conversation.add_user(f"question {index}")
        conversation.add_assistant(f"answer {index}\n\n{CODE}", question.id)
    return conversation


async def test_the_view_follows_the_end_and_lets_go_when_the_reader_scrolls_up(chat):
    async with chat([Reply(LINES), Reply(LINES, tokens_per_s=150)]) as c:
        await c.ask("one")
        transcript = c.screen.transcript
        await c.until(lambda: transcript.scroll_offset.y == transcript.max_scroll_y > 0)
        await c.say("two")
        await c.generating(10)
        await c.press("pageup")
        await c.until(lambda: not transcript.follow)
        stay = transcript.scroll_offset.y
        await c.until(lambda: transcript.unseen > 2)
        assert transcript.scroll_offset.y == stay
        await c.shows("new lines (end)")
        await c.press("end")
        await c.until(lambda: transcript.follow and transcript.scroll_offset.y == transcript.max_scroll_y)
        assert "new lines (end)" not in c.text


@pytest.mark.parametrize("size", [(120, 36), (80, 24)])
async def test_a_resize_wraps_anew_and_keeps_the_end_in_sight(chat, size):
    async with chat([Reply("many words that have to be wrapped somewhere " * 20 + "\n\nthe end")], size) as c:
        await c.ask("go")
        for width, height in ((60, 20), (140, 40), size):
            await c.pilot.resize_terminal(width, height)
            await c.shows("the end")
            assert all(len(line.rstrip()) <= width for line in c.text.splitlines())


async def test_the_gauges_stand_in_the_rail_when_wide_in_a_strip_when_narrow_and_f5_hides_them(chat):
    async with chat(size=(120, 36)) as c:
        rail, strip = c.screen.query_one("#rail"), c.screen.gauges.strip
        await c.until(lambda: rail.display and not strip.display)
        await c.pilot.resize_terminal(80, 24)
        await c.until(lambda: strip.display and not rail.display)
        await c.press("f5")
        await c.until(lambda: not strip.display and not rail.display)


async def test_every_message_of_a_long_conversation_is_reachable_and_only_the_newest_are_laid_out_at_first(
    chat,
):
    async with chat(conversation=long_conversation(150)) as c:
        transcript = c.screen.transcript
        await c.shows("answer 149")
        await c.until(lambda: not transcript.waiting_entries(1))
        transcript.scroll_home(animate=False)
        await c.shows("question 0")


async def test_resuming_shows_the_conversation_and_goes_on_with_it(chat):
    async with chat([Reply("more")], conversation=long_conversation(2)) as c:
        await c.shows("question 1")
        await c.ask("next")
        sent = [m.content for m in c.app.backend.prompts[-1]]
        assert sent[-3:] == ["question 1", f"answer 1\n\n{CODE}", "next"]


async def test_a_question_that_a_crash_left_without_an_answer_says_how_to_get_it(chat):
    conversation = Conversation()
    conversation.add_user("the question")
    async with chat([Reply("at last")], conversation=conversation) as c:
        await c.tells("/regenerate")
        await c.say("/regenerate")
        await c.until(lambda: len(c.messages) == 2 and c.messages[1].text == "at last")


async def test_y_copies_the_markdown_and_c_each_code_block_clean(chat):
    async with chat([Reply(CODE)]) as c:
        await c.ask("go")
        await c.press("alt+up", "y")
        await c.until(lambda: c.app.clipboard == CODE)
        await c.press("c")
        await c.until(lambda: c.app.clipboard == "a = [1]\nb = 2")
        await c.press("c")
        await c.until(lambda: c.app.clipboard == "last")


async def test_a_selection_is_copied_without_borders(chat):
    async with chat([Reply(CODE)]) as c:
        await c.ask("go")
        transcript = c.screen.transcript
        await c.shows("b = 2")
        rows = [row.content.plain for entry in transcript.entries for row in entry.rows(transcript.look)]
        first = next(i for i, line in enumerate(rows) if "a = [1]" in line)
        selected = Selection.from_offsets(Offset(0, first), Offset(len(rows[first + 1]), first + 1))
        assert transcript.get_selection(selected) == ("a = [1]\nb = 2", "\n")
        whole, _ = transcript.get_selection(SELECT_ALL)
        assert "╭" not in whole
        assert "a = [1]\nb = 2" in whole


async def test_a_click_on_the_label_copies_the_code_and_on_a_thinking_line_opens_it(chat):
    async with chat([Reply(CODE, thinking="inner voice")]) as c:
        await c.ask("go")
        await c.shows("c copy")

        def place(text: str) -> tuple[int, int]:
            y = next(i for i, line in enumerate(c.text.splitlines()) if text in line)
            return c.text.splitlines()[y].index(text), y

        await c.pilot.click(offset=place("c copy"))
        await c.until(lambda: c.app.clipboard == "a = [1]\nb = 2")
        await c.pilot.click(offset=place("▸ thought"))
        await c.shows("inner voice")
