"""The input: newline, history, folded pastes, completions, the editor."""

from __future__ import annotations

import contextlib
import sys

import pytest
from textual import events

from dsv3chat.fake_backend import Reply


async def test_ctrl_j_makes_a_line_and_enter_sends_all(chat):
    async with chat() as c:
        await c.press("a", "ctrl+j", "b", "enter")
        await c.until(lambda: len(c.messages) == 2)
        assert c.messages[0].text == "a\nb"


async def test_up_and_down_at_the_edge_walk_through_the_history_and_back_to_the_draft(chat):
    async with chat() as c:
        await c.ask("first")
        await c.ask("second")
        await c.press("x", "up")
        await c.until(lambda: c.screen.prompt.text == "second")
        await c.press("up")
        await c.until(lambda: c.screen.prompt.text == "first")
        await c.press("down", "down")
        await c.until(lambda: c.screen.prompt.text == "x")


async def test_the_history_outlives_the_program(chat):
    async with chat() as c:
        await c.ask("remember me")
    async with chat() as c:
        await c.press("up")
        await c.until(lambda: c.screen.prompt.text == "remember me")


async def test_ctrl_r_finds_an_earlier_input(chat):
    async with chat() as c:
        await c.ask("about rings")
        await c.ask("about trees")
        await c.press("ctrl+r", *"ring", "enter")
        await c.until(lambda: c.screen.prompt.text == "about rings")


async def test_a_large_paste_is_one_line_until_it_is_sent(chat):
    async with chat() as c:
        paste = "\n".join(f"row {n}" for n in range(120))
        c.screen.prompt.post_message(events.Paste(paste.replace("\n", "\r\n")))
        await c.until(lambda: c.screen.prompt.text == "[pasted 120 lines]")
        await c.press("enter")
        await c.until(lambda: len(c.messages) == 2)
        assert c.messages[0].text == paste


async def test_pasted_control_characters_are_shown_not_sent_to_the_terminal(chat):
    async with chat() as c:
        c.screen.prompt.post_message(events.Paste("a\x1b[2Jb"))
        await c.until(lambda: c.screen.prompt.text == "a␛[2Jb")


async def test_a_file_is_completed_attached_and_folded_with_its_size(chat):
    async with chat([Reply("ok")]) as c:
        (c.app.chat.root / "ring.py").write_text("x = 1\ny = 2\n")
        await c.press(*"see @rin")
        await c.until(lambda: c.screen.prompt.popup_open and "ring.py" in c.text)
        await c.press("tab")
        await c.until(lambda: c.screen.prompt.text.startswith("see @ring.py"))
        await c.press("enter")
        await c.until(lambda: len(c.messages) == 2)
        await c.shows("@ring.py  ≡ 2 lines")
        assert "x = 1" in c.app.backend.prompts[-1][-1].content


async def test_lines_after_a_completed_name_stay(chat):
    async with chat([Reply("ok")]) as c:
        (c.app.chat.root / "ring.py").write_text("x = 1\ny = 2\nz = 3\n")
        await c.press(*"see @rin:2-3")
        await c.until(lambda: c.screen.prompt.popup_open and "ring.py:2-3" in c.text)
        await c.press("tab")
        await c.until(lambda: c.screen.prompt.text == "see @ring.py:2-3 ")
        await c.press("enter")
        await c.until(lambda: len(c.messages) == 2)
        assert [(a.label, a.text) for a in c.messages[0].attachments] == [("ring.py:2-3", "y = 2\nz = 3")]


async def test_a_command_is_completed_and_run_by_enter(chat):
    async with chat() as c:
        await c.press(*"/hel")
        await c.until(lambda: c.screen.prompt.popup_open and "/help" in c.text)
        await c.press("enter")
        await c.shows("Everywhere")
        assert not c.messages


async def test_esc_closes_the_popup_and_keeps_the_text(chat):
    async with chat() as c:
        await c.press(*"/he")
        await c.until(lambda: c.screen.prompt.popup_open)
        await c.press("escape")
        await c.until(lambda: not c.screen.prompt.popup_open)
        assert c.screen.prompt.text == "/he"


async def test_an_unknown_command_is_answered_with_the_nearest_and_stays(chat):
    async with chat() as c:
        await c.say("/exprot")
        await c.tells("/export")
        assert c.screen.prompt.text == "/exprot"


async def test_the_palette_offers_our_commands_and_no_others(chat):
    async with chat() as c:
        await c.press("ctrl+p")
        await c.shows("/export")
        titles = [command.title for command in c.app.get_system_commands(c.app.screen)]
        assert not any(word in " ".join(titles).lower() for word in ("maximize", "screenshot"))


async def test_up_inside_a_wrapped_line_moves_the_cursor_not_the_history(chat):
    async with chat(size=(80, 24)) as c:
        await c.ask("earlier")
        c.screen.prompt.set_draft("word " * 40)
        await c.until(lambda: c.text.count("word") == 40)
        await c.press("up")
        assert c.screen.prompt.text == "word " * 40


@pytest.mark.parametrize(("code", "text"), [(0, "draft and edited"), (3, "draft")])
async def test_the_editors_text_is_taken_unless_it_failed(chat, monkeypatch, tmp_path, code, text):
    script = tmp_path / "my editor"
    script.write_text(f"import sys; open(sys.argv[1], 'a').write(' and edited\\n'); sys.exit({code})")
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} '{script}'")
    async with chat() as c:
        monkeypatch.setattr(c.app, "suspend", contextlib.nullcontext)
        c.screen.prompt.set_draft("draft")
        await c.press("ctrl+g")
        await c.until(lambda: c.screen.prompt.text == text)
        assert bool(c.app._notifications) == bool(code)
