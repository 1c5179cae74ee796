"""Typing, streaming, stopping, queueing, regenerating, resuming, as a person meets them."""

from __future__ import annotations

import pytest

from dsv3chat.fake_backend import Reply
from dsv3chat.settings import Settings
from dsv3chat.store import Store, StoreError

SIZES = [(120, 36), (80, 24)]
SLOW = Reply("word " * 2000, tokens_per_s=50)


@pytest.mark.parametrize("size", SIZES)
async def test_a_typed_question_is_answered_and_saved(chat, tmp_path, size):
    async with chat([Reply("It is **Paris**.", thinking="France, capital", tokens_per_s=200)], size) as c:
        await c.press(*"capital", "enter")
        await c.until(lambda: len(c.messages) == 2 and not c.screen.answering.running)
        assert [m.text for m in c.messages] == ["capital", "It is **Paris**."]
        await c.shows("It is Paris.")
        await c.shows("thought · 4 tok")
        stored = Store(tmp_path / "sessions.db").load(c.app.chat.conversation.id)
        assert [m.text for m in stored.path] == [m.text for m in c.messages]


async def test_enter_never_overtakes_letters_typed_before_it(chat):
    async with chat() as c:
        for key in (*"quick", "enter"):
            c.app.simulate_key(key)  # all in the queue at once, as from a fast typist
        await c.until(lambda: len(c.messages) == 2)
        assert c.messages[0].text == "quick"


async def test_keys_of_a_burst_act_in_the_order_they_were_typed(chat):
    async with chat() as c:
        keys = (*"wrong", "ctrl+u", *"axz", "left", "backspace", "b", "end", "backspace", "c", "home", "1")
        for key in keys:
            c.app.simulate_key(key)
        await c.until(lambda: c.screen.prompt.text == "1abc")


@pytest.mark.parametrize("size", SIZES)
async def test_esc_stops_within_a_token_and_keeps_the_text(chat, size):
    async with chat([SLOW], size) as c:
        await c.say("go on")
        await c.generating()
        shown = c.screen.answering.turn.message.text
        await c.press("escape")
        await c.until(lambda: not c.screen.answering.running)
        answer = c.messages[-1]
        assert answer.status == "stopped"
        assert answer.text.startswith(shown)
        assert len(answer.text) < len(SLOW.text)
        await c.shows("■ stopped")


@pytest.mark.parametrize(
    "reply", [Reply("x", queue=200), Reply("x", prefill_s=60)], ids=["queued", "prefill"]
)
async def test_esc_stops_while_waiting_and_while_reading_the_prompt(chat, reply):
    async with chat([reply]) as c:
        await c.say("go on")
        await c.until(lambda: c.screen.answering.running and c.screen.answering.turn.stream is not None)
        await c.press("escape")
        await c.until(lambda: len(c.messages) == 2 and not c.screen.answering.running)
        assert c.messages[-1].status == "stopped"


async def test_what_is_typed_meanwhile_is_queued_shown_and_sent_after_the_answer(chat):
    async with chat([Reply("one " * 120, tokens_per_s=60), Reply("two")]) as c:
        await c.say("first")
        await c.generating()
        await c.say("second")
        await c.shows("queued: second")
        await c.until(lambda: len(c.messages) == 4 and not c.screen.answering.running)
        assert [m.text for m in c.messages if m.role == "user"] == ["first", "second"]
        assert "queued" not in c.text


async def test_esc_drops_the_queued_prompt_before_it_stops_the_answer(chat):
    async with chat([SLOW]) as c:
        await c.say("first")
        await c.generating()
        await c.say("second")
        await c.until(lambda: c.screen.sending.queue)
        await c.press("escape")
        await c.until(lambda: not c.screen.sending.queue)
        await c.until(lambda: c.screen.answering.running)
        await c.until(lambda: c.screen.prompt.text == "second")
        await c.press("escape")
        await c.until(lambda: not c.screen.answering.running)
        assert [m.text for m in c.messages if m.role == "user"] == ["first"]


async def test_regenerate_keeps_both_answers_and_the_arrows_switch_between_them(chat):
    async with chat([Reply("first answer"), Reply("second answer")]) as c:
        await c.ask("why")
        await c.press("alt+up", "r")
        await c.until(lambda: len(c.app.chat.conversation.messages) == 3 and not c.screen.answering.running)
        assert c.messages[-1].text == "second answer"
        await c.shows("‹ 2/2 ›")
        await c.press("alt+up", "left")
        await c.until(lambda: c.messages[-1].text == "first answer" and "first answer" in c.text)
        assert "second answer" not in c.text
        assert len(c.app.chat.conversation.siblings(c.messages[-1].id)) == 2


async def test_edit_asks_again_beside_the_old_question(chat):
    async with chat([Reply("one"), Reply("two")]) as c:
        await c.ask("old")
        await c.press("alt+up", "alt+up", "e")
        await c.until(lambda: c.screen.prompt.text == "old")
        await c.ask("new")
        await c.until(lambda: [m.text for m in c.messages] == ["new", "two"])
        await c.until(lambda: len(c.app.chat.conversation.siblings(c.messages[0].id)) == 2)


async def test_esc_goes_back_from_an_edit(chat):
    async with chat() as c:
        await c.ask("old")
        await c.press("alt+up", "alt+up", "e")
        await c.until(lambda: not c.messages)
        await c.press("escape")
        await c.until(lambda: len(c.messages) == 2)
        assert c.screen.prompt.text == ""


async def test_an_engine_error_in_the_middle_keeps_the_text_and_the_chat_goes_on(chat):
    broken = Reply("kept text and more", fail_after=2, fail_message="logits are not finite [layer 3]")
    async with chat([broken, Reply("fine again")]) as c:
        answer = await c.ask("go")
        assert answer.status == "failed"
        assert answer.text
        assert answer.text in broken.text
        await c.shows("✗ failed: logits are not finite [layer 3]")
        assert (await c.ask("again")).text == "fine again"


async def test_a_prompt_that_can_never_fit_is_answered_with_the_numbers(chat):
    async with chat(context_tokens=64) as c:
        answer = await c.ask("word " * 200)
        assert answer.status == "failed"
        assert "64" in answer.note


async def test_turns_that_left_the_context_are_told_and_the_question_is_still_answered(chat):
    async with chat([Reply("long answer " * 12)], context_tokens=160) as c:
        for index in range(5):
            await c.ask(f"question number {index}")
        await c.tells("no longer go to the model")
        assert len(c.messages) == 10
        left_out = 9 - len(c.app.backend.prompts[-1])
        assert left_out > 0
        await c.shows(f"{left_out} left out")


async def test_a_prompt_near_the_end_of_the_context_warns_in_words(chat):
    async with chat([Reply("ok")], context_tokens=400) as c:
        await c.ask("word " * 358)
        await c.tells("of the context is used")


async def test_ctrl_c_stops_then_clears_then_asks_then_quits(chat):
    async with chat([SLOW]) as c:
        await c.say("go")
        await c.generating()
        c.screen.prompt.set_draft("draft")
        await c.press("ctrl+c")
        await c.until(lambda: not c.screen.answering.running)
        assert c.screen.prompt.text == "draft"
        await c.press("ctrl+c")
        await c.until(lambda: c.screen.prompt.text == "")
        await c.press("ctrl+c")
        assert c.app.is_running
        await c.press("ctrl+c")
        await c.until(lambda: not c.app.is_running)


async def test_leaving_in_the_middle_of_an_answer_saves_what_was_shown(chat, tmp_path):
    async with chat([SLOW]) as c:
        conversation_id = c.app.chat.conversation.id
        await c.say("go")
        await c.generating(5)
        c.app.exit()
        await c.until(lambda: not c.app.is_running)
    stored = Store(tmp_path / "sessions.db").load(conversation_id)
    assert stored.path[-1].status == "stopped"
    assert stored.path[-1].text.startswith("word word")


async def test_a_conversation_is_picked_from_the_sessions(chat):
    async with chat() as c:
        await c.ask("the first conversation")
        await c.say("/new")
        await c.until(lambda: not c.messages)
        await c.ask("the second")
        await c.press("ctrl+b")
        await c.shows("Sessions", "the first conversation")
        await c.press(*"first", "enter")
        await c.until(lambda: c.messages and c.messages[0].text == "the first conversation")


async def test_sessions_are_renamed_and_deleted_with_a_second_press(chat):
    async with chat() as c:
        await c.ask("doomed")
        doomed = c.app.chat.conversation.id
        await c.say("/new")
        await c.until(lambda: not c.messages)
        await c.ask("kept")
        await c.press("ctrl+b")
        await c.shows("Sessions")
        await c.press(*"doomed")
        await c.until(lambda: c.app.screen.marked_id == doomed)
        await c.press("ctrl+t", "end", *" x", "enter")
        await c.shows("doomed x")
        await c.press("ctrl+d")
        await c.shows("^d again deletes it")
        assert any(s.id == doomed for s in c.app.chat.store.list())
        await c.press("ctrl+d")
        await c.until(lambda: all(s.id != doomed for s in c.app.chat.store.list()))


async def test_compact_puts_a_summary_in_place_of_the_turns_and_keeps_them(chat):
    async with chat([Reply("a long answer"), Reply("the summary")]) as c:
        await c.ask("question")
        await c.say("/compact")
        await c.until(lambda: c.messages and c.messages[-1].is_summary)
        await c.shows("summarised", "the summary")
        assert "question" not in [m.text for m in c.messages]
        assert len(c.app.chat.conversation.messages) == 4


async def test_thinking_is_folded_and_f2_opens_it(chat):
    async with chat([Reply("done", thinking="a hidden thought")]) as c:
        await c.ask("go")
        await c.shows("thought · ")
        assert "a hidden thought" not in c.text
        await c.press("f2")
        await c.shows("a hidden thought")
        await c.press("f2")
        await c.until(lambda: "a hidden thought" not in c.text)


async def test_a_key_can_be_remapped_by_its_id(chat):
    async with chat([SLOW], settings=Settings(keymap={"chat.help": "f9"})) as c:
        await c.press("f9")
        await c.shows("Everywhere")


async def test_every_binding_has_an_id_of_its_own_and_none_takes_a_key_that_terminals_cannot_tell_apart():
    from dsv3chat.app import ChatApp
    from dsv3chat.screens.chat import ChatScreen
    from dsv3chat.screens.help import HelpScreen
    from dsv3chat.screens.picker import Picker
    from dsv3chat.screens.profiles import ProfilesScreen
    from dsv3chat.screens.review import ReviewScreen
    from dsv3chat.screens.sessions import RenameScreen, SessionsScreen
    from dsv3chat.widgets.code_view import CodeView
    from dsv3chat.widgets.lines import LineView
    from dsv3chat.widgets.prompt import Prompt
    from dsv3chat.widgets.transcript import Transcript

    owners = (ChatApp, ChatScreen, ReviewScreen, HelpScreen, Picker, RenameScreen, SessionsScreen)
    owners += (ProfilesScreen, Prompt, Transcript, LineView, CodeView)
    bindings = [b for owner in owners for b in owner.__dict__["BINDINGS"]]
    ids = [b.id for b in bindings]
    assert all(ids)
    assert len(set(ids)) == len(ids)
    keys = {key for b in bindings for key in b.key.split(",")}
    assert not keys & {"ctrl+i", "ctrl+m", "ctrl+h", "ctrl+[", "ctrl+left_square_bracket"}


async def test_an_empty_chat_says_what_it_is_and_a_question_takes_its_place(chat):
    async with chat() as c:
        await c.shows("context 32 768 tokens", "scripted · fake")
        await c.shows("new conversation", "○ ready")
        await c.ask("hi")
        await c.until(lambda: "context 32 768 tokens" not in c.text)


async def test_a_second_question_in_the_moment_of_the_first_waits_for_it(chat):
    async with chat([Reply("one"), Reply("two")]) as c:
        c.screen.sending.submit("first")
        c.screen.sending.submit("second")
        await c.until(lambda: len(c.messages) == 4 and not c.screen.sending.busy)
        assert [m.text for m in c.messages] == ["first", "one", "second", "two"]


async def test_what_cannot_be_saved_is_told_and_the_chat_goes_on(chat, monkeypatch):
    async with chat([Reply("an answer")]) as c:

        def full(*_):
            raise StoreError("no space left on the device")

        monkeypatch.setattr(c.app.chat.store, "save_message", full)
        assert (await c.ask("go")).text == "an answer"
        await c.tells("not saved: no space")
        assert "saved" not in c.screen._header.text


async def test_a_renamed_open_conversation_keeps_its_new_title(chat):
    async with chat() as c:
        await c.ask("old title")
        await c.press("ctrl+b")
        await c.until(lambda: c.app.screen.marked_id is not None)
        await c.press("ctrl+t", *"new title", "enter")
        await c.shows("new title")
        await c.press("escape")
        await c.until(lambda: c.app.chat.conversation.title == "new title")
        await c.ask("more")
        await c.until(lambda: c.app.chat.store.list()[0].title == "new title")


async def test_a_message_picked_while_it_was_generated_stays_picked(chat):
    async with chat([SLOW]) as c:
        await c.say("go on")
        await c.generating()
        await c.press("alt+up")
        picked = c.screen.transcript.picked
        c.screen.answering.stop()
        await c.until(lambda: not c.screen.answering.running)
        assert picked == c.messages[-1].id == c.screen.transcript.picked


async def test_a_queued_prompt_that_is_dropped_over_a_draft_is_found_in_the_history(chat):
    async with chat([SLOW]) as c:
        await c.say("first")
        await c.generating()
        await c.say("second")
        await c.until(lambda: c.screen.sending.queue)
        c.screen.prompt.set_draft("a draft")
        await c.press("escape")
        await c.until(lambda: not c.screen.sending.queue)
        await c.until(lambda: c.screen.prompt.text == "a draft")
        await c.until(lambda: c.screen.prompt.asked[-1] == "second")


async def test_an_export_over_a_file_is_refused_and_the_chat_goes_on(chat):
    async with chat() as c:
        await c.ask("go")
        (c.app.chat.root / "out.md").write_text("mine")
        await c.say("/export md out.md")
        await c.tells("is not overwritten")
        assert (c.app.chat.root / "out.md").read_text() == "mine"
        assert c.screen.prompt.asked[-1] == "/export md out.md"
        assert (await c.ask("again")).text == "Hello."


async def test_a_database_that_fails_under_the_sessions_is_told(chat, monkeypatch):
    async with chat() as c:

        def broken(*_, **__):
            raise StoreError("disk I/O error")

        for verb in ("list", "load", "delete", "rename"):
            monkeypatch.setattr(c.app.chat.store, verb, broken)
        await c.press("ctrl+b")
        await c.shows("no saved conversation")
        await c.tells("disk I/O error")
        await c.press("escape")
        await c.until(lambda: c.app.screen is c.screen)
        assert (await c.ask("go")).text == "Hello."


async def test_notices_leave_when_the_next_thing_is_sent(chat):
    async with chat(toasts=True) as c:
        await c.say("/nonsense")
        await c.until(lambda: len(c.app._notifications) == 1)
        c.screen.prompt.clear_draft()
        await c.ask("go")
        await c.until(lambda: not c.app._notifications)


@pytest.mark.parametrize("width", [40, 80, 120])
async def test_help_is_wrapped_to_its_frame_behind_the_column_of_keys(chat, width):
    async with chat(size=(width, 36)) as c:
        await c.press("f1")
        await c.shows("^p")
        static = c.app.screen.query_one("#text")
        lines = str(static.content).splitlines()
        assert max(map(len, lines)) <= static.size.width
        after = lines[next(i for i, line in enumerate(lines) if line.startswith("  ^c")) + 1]
        assert after.startswith(" " * 14) or width == 120


async def test_the_stop_key_stays_in_sight_beside_a_large_context(chat):
    async with chat([Reply("x", prefill_s=60)], size=(72, 24)) as c:
        await c.say("word " * 6000)
        await c.shows("reading the prompt")
        await c.shows("· esc stop", "context ")
        await c.press("escape")
        await c.until(lambda: not c.screen.answering.running)


async def test_the_header_never_calls_saved_what_is_gone_at_the_end(chat):
    async with chat() as c:
        c.app.chat.store.lasting = False
        await c.ask("go")
        await c.shows("2 msgs · not saved")
