"""nano through the whole program: the recorded numbers, and one greedy text whichever way it is asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dsv3chat.app import ChatApp
from dsv3chat.conversation import Conversation
from dsv3chat.engine_backend import EngineBackend
from dsv3chat.settings import Settings
from dsv3chat.store import Store
from engine import (
    Engine,
    Finished,
    Message,
    Profile,
    SamplingParams,
    TextDelta,
    find_profile,
    read_profile,
)

CASES = json.loads((Path(__file__).parent / "expected.json").read_text())["cases"]
QUESTION = "What is the capital of France?"
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=120)


@pytest.fixture(scope="module")
def native(nano_dir):
    """FP8 as stored, widened at each use: slow to decode with, the reference in every number."""
    with Engine.open(nano_dir, Profile()) as engine:
        yield engine


@pytest.fixture(scope="module")
def widened(nano_dir):
    """The same values in float32 in memory: several times as fast to decode with."""
    with Engine.open(nano_dir, Profile(precision="fp32")) as engine:
        yield engine


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["answer"][:20])
def test_native_weights_in_float32_give_the_recorded_logprobs(native, case):
    # recorded to 5 decimals; the rest is the order of float32 sums over 30 layers
    assert native.score(case["ids"]).logprobs == pytest.approx(case["logprobs"], abs=5e-4)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["answer"][:20])
def test_float32_gives_the_recorded_greedy_answer(widened, case):
    prompt = case["ids"][: case["num_prompt_tokens"]]
    events = list(widened.submit(prompt, GREEDY))
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == case["answer"]
    assert [i for e in events if isinstance(e, TextDelta) for i in e.token_ids] == case["ids"][len(prompt) :]


def test_messages_become_the_recorded_prompt(native):
    assert native.count_tokens([Message("user", QUESTION)]) == CASES[0]["num_prompt_tokens"]
    generation = native.submit([Message("user", QUESTION)], GREEDY)
    assert list(generation.prompt_ids) == CASES[0]["ids"][: CASES[0]["num_prompt_tokens"]]
    list(generation)


def test_a_second_turn_reuses_the_first(widened):
    first = [Message("user", "Name three colours, one a line.")]
    text = "".join(e.text for e in widened.submit(first, GREEDY) if isinstance(e, TextDelta))
    turns = [*first, Message("assistant", text), Message("user", "And a fourth?")]
    usage = next(e.usage for e in widened.submit(turns, GREEDY) if isinstance(e, Finished))
    assert usage.cached_tokens >= widened.count_tokens(first) // 16 * 16


def test_stop_strings_end_the_answer_before_them(native):
    params = SamplingParams(temperature=0.0, stop=("France is",))
    events = list(native.submit([Message("user", QUESTION)], params))
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "The capital of "
    assert events[-1].reason == "stop_string"


async def test_greedy_text_is_the_same_through_screen_plain_mode_and_api(nano_dir, tmp_path):
    profile = read_profile(find_profile("nano-cpu"))
    with Engine.open(nano_dir, profile) as engine:
        events = list(engine.submit([Message("user", QUESTION)], GREEDY))
    text = "".join(e.text for e in events if isinstance(e, TextDelta))
    assert "Paris" in text

    command = [sys.executable, "-m", "dsv3chat", "-p", "", "--model", str(nano_dir), "--temperature", "0"]
    done = subprocess.run(command, input=QUESTION, capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout == text + "\n"

    backend, conversation = EngineBackend(str(nano_dir), profile), Conversation()
    app = ChatApp(backend, Store(tmp_path / "chat.db"), Settings(), conversation, GREEDY, tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        while backend.info is None or app.screen.id == "_default":
            await pilot.pause(0.05)
        await pilot.pause(0.2)
        await pilot.press(*["space" if c == " " else c for c in QUESTION], "enter")
        for _ in range(600):
            await pilot.pause(0.05)
            if len(conversation.path) == 2:
                break
    backend.close()
    assert conversation.path[-1].text == text
