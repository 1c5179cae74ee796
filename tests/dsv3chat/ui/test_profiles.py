"""The profile switcher, as a person meets it: F4, /profile, a switch that works, fails or is cancelled, a looping answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

import dsv3chat.screens.profile_file as profile_file
from dsv3chat.fake_backend import Reply
from dsv3chat.screens.profiles import ProfilesScreen
from engine import PlacementError, Profile, SwitchPlan, paths, read_profile

SIZES = [(120, 36), (80, 24)]
SLOW = Reply("word " * 2000, tokens_per_s=50)
FILES = {
    "aa-plain": "description: the first\ncache_lens: 8192\n",
    "bb-half": "description: two bytes a value\ndefaults:\n  precision: bf16\n",
    "cc-gpu": "description: wants a card\ndefaults:\n  device: cuda:7\n  precision: int2\n",
    "dd-broken": "cache_lens: many\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Four files in the user's folder; none is shipped."""
    folder = tmp_path / "profiles"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.yaml").write_text(text)
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    monkeypatch.setattr(paths, "user_profiles_dir", lambda: folder)
    monkeypatch.setattr(paths, "shipped_profiles_dir", lambda: shipped)
    monkeypatch.setattr(profile_file, "user_profiles_dir", lambda: folder)
    return folder


def plain(folder) -> Profile:
    return read_profile(folder / "aa-plain.yaml")


async def opened(c) -> ProfilesScreen:
    await c.press("f4")
    await c.until(lambda: isinstance(c.app.screen, ProfilesScreen) and c.app.screen.shown)
    return c.app.screen


def make_looping(c) -> None:
    """The last answer, as the loop guard leaves it."""
    answer = c.messages[-1]
    c.app.chat.conversation.messages[answer.id] = replace(answer, status="looping")
    c.screen.show_conversation()


@pytest.mark.parametrize("size", SIZES)
async def test_f4_lists_every_profile_and_says_why_some_cannot_be_chosen(chat, folder, size):
    async with chat(size=size, profile=plain(folder)) as c:
        screen = await opened(c)
        assert all(name in c.text for name in FILES)
        await c.shows("● loaded")
        assert screen.marked.name == "aa-plain"
        await c.press("down", "down")
        await c.shows("cannot be chosen: not in this version: precision int2")
        await c.press("down")
        await c.shows("cannot be chosen", "cache_lens")
        await c.press("enter")
        assert not screen.switching
        await c.press("escape")
        await c.until(lambda: c.app.screen is c.screen)
        assert c.app.backend.profile.name == "aa-plain"


async def test_the_difference_and_the_effect_stand_below_the_marked_profile(chat, folder):
    async with chat(profile=plain(folder)) as c:
        await c.ask("something")
        await opened(c)
        await c.press("down")
        await c.shows("defaults.precision: native → bf16")
        await c.shows("keeps 5 MiB of weights, reads 5 MiB")
        await c.shows("tokens are read again")


async def test_that_a_failure_would_read_the_old_weights_back_is_said_beforehand(chat, folder):
    async with chat(profile=plain(folder)) as c:
        tight = SwitchPlan(5 << 20, 5 << 20, 7 << 20, 1 << 20, free_first=True, keeps_cache=False)
        c.app.backend.plan_switch = lambda profile: tight
        await opened(c)
        await c.press("down")
        await c.shows("frees 7 MiB first")


@pytest.mark.parametrize("size", SIZES)
async def test_a_switch_keeps_the_conversation_and_the_next_question_goes_on_in_it(chat, folder, size):
    replies = [Reply("The first."), Reply("The second.")]
    async with chat(replies, size, profile=plain(folder), switch_s=0.3) as c:
        await c.ask("one")
        await opened(c)
        await c.press("2")
        await c.shows("esc cancels")
        await c.until(lambda: c.app.screen is c.screen)
        assert c.app.backend.info.profile_name == "bb-half"
        await c.shows("bb-half")
        await c.ask("two")
        assert [m.text for m in c.messages] == ["one", "The first.", "two", "The second."]
        assert [m.content for m in c.app.backend.prompts[-1]] == ["one", "The first.", "two"]
        assert c.app.chat.conversation.profile == "bb-half"


async def test_the_running_answer_stops_with_its_text_and_the_queue_is_sent_afterwards(chat, folder):
    async with chat([SLOW, Reply("Of the queue.")], profile=plain(folder)) as c:
        await c.say("go on")
        await c.generating()
        await c.say("and then")
        await c.until(lambda: c.screen.sending.queue)
        asked_under = []
        start = c.app.backend.start
        c.app.backend.start = lambda m, p: asked_under.append(c.app.backend.profile.name) or start(m, p)
        await opened(c)
        await c.press("down", "enter")
        await c.until(lambda: len(c.messages) == 4 and not c.screen.answering.running)
        assert c.messages[1].status == "stopped"
        assert c.messages[1].text.startswith("word")
        assert c.messages[3].text == "Of the queue."
        assert asked_under == ["bb-half"]


async def test_a_switch_that_fails_says_why_and_the_former_profile_answers(chat, folder):
    error = PlacementError("the disk is on fire")
    async with chat(profile=plain(folder), switch_error=error) as c:
        await opened(c)
        await c.press("down", "enter")
        await c.shows("no switch to bb-half: the disk is on fire; aa-plain answers as before")
        await c.press("escape")
        await c.until(lambda: c.app.screen is c.screen)
        assert (await c.ask("still there?")).text == "Hello."
        assert c.app.backend.profile.name == "aa-plain"


@pytest.mark.parametrize("size", SIZES)
async def test_while_a_switch_runs_esc_cancels_it_and_other_keys_do_nothing(chat, folder, size):
    for number in range(9):  # more lines than a low screen has
        (folder / f"zz-{number}.yaml").write_text("cache_lens: 8192\nmax_batch_size: 2\n")
    async with chat(size=size, profile=plain(folder), switch_s=60) as c:
        screen = await opened(c)
        await c.press("down", "enter")
        await c.shows("step 1/2  read what changes")
        await c.press("r", "1", "/", "escape")
        await c.shows("the switch to bb-half was cancelled; aa-plain answers as before")
        assert c.app.screen is screen
        assert c.app.backend.profile.name == "aa-plain"
        await c.press("down")
        await c.until(lambda: "was cancelled" not in c.text and "wants a card" in c.text)


async def test_the_filter_takes_letters_in_order_and_esc_leaves_it(chat, folder):
    async with chat(profile=plain(folder)) as c:
        screen = await opened(c)
        await c.press("/", *"bhf")
        await c.until(lambda: [choice.name for choice in screen.shown] == ["bb-half"])
        await c.press("escape")
        await c.until(lambda: len(screen.shown) == len(FILES))
        await c.press("/", *"bhf", "enter")
        await c.until(lambda: c.app.backend.profile.name == "bb-half")


async def test_rescan_finds_a_new_file(chat, folder):
    async with chat(profile=plain(folder)) as c:
        await opened(c)
        (folder / "ee-new.yaml").write_text("description: fresh\n")
        await c.press("r")
        await c.shows("ee-new")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cc-gpu", "cc-gpu cannot be chosen: not in this version: precision int2"),
        ("zz", "there is no profile zz; known: aa-plain, bb-half, cc-gpu, dd-broken"),
        ("aa-plain", "aa-plain is loaded"),
    ],
)
async def test_a_name_that_cannot_be_switched_to_is_answered_in_the_chat(chat, folder, name, words):
    async with chat(profile=plain(folder)) as c:
        said = []
        c.screen.profiles.say = lambda text, severity="information": said.append(text)
        await c.say(f"/profile {name}")
        await c.until(lambda: said)
        assert said == [words]
        assert c.app.screen is c.screen


async def test_profile_name_switches_at_once(chat, folder):
    async with chat(profile=plain(folder)) as c:
        await c.say("/profile bb-half")
        await c.until(lambda: c.app.backend.profile.name == "bb-half" and c.app.screen is c.screen)


@pytest.mark.parametrize(("change", "origin"), [("", "shipped"), ("cache_lens: 16384\n", "user")])
async def test_a_shipped_profile_is_edited_in_a_copy_that_stays_only_if_it_changed(
    chat, tmp_path, folder, monkeypatch, change, origin
):
    text = "description: comes along\n"
    shipped = tmp_path / "shipped" / "ee-shipped.yaml"
    shipped.write_text(text)

    def edit(app, path, line):
        assert path == folder / "ee-shipped.yaml"
        path.write_text(path.read_text() + change)

    monkeypatch.setattr(profile_file, "open_at", edit)
    async with chat(profile=plain(folder)) as c:
        screen = await opened(c)
        await c.press("end")
        await c.until(lambda: screen.marked.origin == "shipped")
        await c.press("e")
        await c.app.workers.wait_for_complete()
        await c.until(lambda: (m := screen.marked) and (m.name, m.origin) == ("ee-shipped", origin))
        assert shipped.read_text() == text
        assert (folder / "ee-shipped.yaml").exists() == (origin == "user")


async def test_a_looping_answer_goes_on_from_its_text_without_the_guard(chat, folder):
    async with chat([Reply("round and round")], profile=plain(folder)) as c:
        await c.ask("dance")
        make_looping(c)
        await c.shows("g goes on, r regenerates")
        assert "attention" not in c.text  # it is at 8 bit or wider
        started = []
        start = c.app.backend.start
        c.app.backend.start = lambda messages, params: started.append(params) or start(messages, params)
        await c.press("alt+up", "g")
        await c.until(lambda: started and not c.screen.sending.busy)
        assert (started[0].begins_with, started[0].loop_guard) == ("round and round", False)
        assert len(c.app.chat.conversation.siblings(c.messages[-1].id)) == 2


async def test_under_narrow_attention_a_looping_answer_offers_wider_and_the_key_finds_it(
    chat, folder, monkeypatch
):
    async with chat([Reply("round and round")], profile=plain(folder)) as c:
        c.app.backend._info = replace(c.app.backend.info, attention_bits=4)
        await c.ask("dance")
        make_looping(c)
        await c.shows("r regenerates, w takes 8-bit")
        chosen = []

        async def widen():
            chosen.append(True)

        monkeypatch.setattr(c.screen.profiles, "widen_attention", widen)
        await c.press("alt+up", "w")
        await c.until(lambda: chosen)


async def test_only_a_looping_answer_can_be_gone_on_with(chat, folder):
    async with chat(toasts=True, profile=plain(folder)) as c:
        await c.ask("hello")
        await c.press("alt+up", "g")
        await c.shows("this answer did not loop")
        assert len(c.app.chat.conversation.messages) == 2
