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
from dsv3chat.screens.chat import ChatScreen
from dsv3chat.settings import Settings
from dsv3chat.store import Store
from engine import (
    Engine,
    Finished,
    JsonSchema,
    Message,
    Profile,
    SamplingParams,
    TextDelta,
    find_profile,
    read_profile,
)
from engine.text.grammar import Grammars
from engine.text.tokenizer import Tokenizer
from tests.dsv3chat.shown import Shown

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


def test_float32_gives_the_recorded_greedy_answers_in_one_batch(widened):
    prompts = [case["ids"][: case["num_prompt_tokens"]] for case in CASES]
    answers = [widened.submit(prompt, GREEDY) for prompt in prompts]
    for case, prompt, answer in zip(CASES, prompts, answers, strict=True):
        events = list(answer)
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) == case["answer"]
        assert [i for e in events if isinstance(e, TextDelta) for i in e.token_ids] == case["ids"][
            len(prompt) :
        ]


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


REVIEWER = (
    "You are a code reviewer. Report real defects only: bugs, security holes, leaked resources, swallowed errors. "
    'Answer with JSON: {"findings":[{"line":int,"severity":"error"|"warning"|"info","rule":str,"message":str,'
    '"suggestion":str}]}. The numbers in the margin are line numbers. No defects: an empty list.'
)
CODE = """File: src/app.py
```python
12| def f(x, acc=[]):
13|     if x == None:
14|         return acc
15|     acc.append(x)
```"""
FINDING = {
    "line": {"type": "integer", "minimum": 12, "maximum": 15},
    "severity": {"enum": ["error", "warning", "info"]},
    "rule": {"enum": ["mutable-default", "bare-except", "none-comparison", "is-literal", "missing-return"]},
    "message": {"type": "string", "maxLength": 200},
    "suggestion": {"type": "string", "maxLength": 200},
}
FINDINGS = {
    "type": "array",
    "maxItems": 4,
    "items": {
        "type": "object",
        "properties": FINDING,
        "required": list(FINDING),
        "additionalProperties": False,
    },
}
REVIEW = JsonSchema(
    json.dumps(
        {
            "type": "object",
            "properties": {"findings": FINDINGS},
            "required": ["findings"],
            "additionalProperties": False,
        }
    )
)


ANSWER = (
    '{"findings":[{"line":12,"severity":"warning","rule":"mutable-default","message":"`acc` has a mutable default (list); '
    'changes leak from one call of `f` to the next.","suggestion":"def f(x, acc=None):"},{"line":13,"severity":"info",'
    '"rule":"none-comparison","message":"`== None` calls __eq__, which a class can override; use `is None`.",'
    '"suggestion":"    if x is None:"}]}'
)


def review(code: str) -> list[Message]:
    return [Message("system", REVIEWER), Message("user", code)]


def test_a_grammar_forces_the_very_tokens_that_the_model_writes_without_one(widened):
    tokenizer = Tokenizer.open(Path(widened.info.path))
    prompt, ids = tokenizer.encode_chat(review(CODE)), tokenizer.encode_text(ANSWER)
    argmax = widened.score([*prompt, *ids]).argmax
    assert [*ids, 2] == list(argmax[len(prompt) - 1 :])  # 2: the end of turn, which a grammar does not need
    grammar = Grammars(tokenizer, [2], tokenizer.num_ids).start(REVIEW, thinking=False)
    forced, chosen = list(grammar.begin()), 0
    for position, token in enumerate(ids):
        if forced:
            assert token == forced.pop(0), tokenizer.decode(ids[:position])
            continue
        assert grammar.mask()[token]
        forced = list(grammar.push(token))
        chosen += 1
    assert grammar.ended
    assert chosen < len(ids) * 2 / 3


def test_a_clean_chunk_costs_a_step_or_two_under_a_grammar(widened):
    before = widened.stats().num_steps
    clean = review("File: src/app.py\n```python\n7| def add(a, b):\n8|     return a + b\n```")
    events = list(widened.submit(clean, SamplingParams(temperature=0.0, grammar=REVIEW)))
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == '{"findings":[]}'
    assert events[-1].reason == "stop"
    assert widened.stats().num_steps - before <= 2


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
    shown = Shown(app)
    async with app.run_test(size=(120, 36)) as shown.pilot:
        await shown.until(lambda: isinstance(app.screen, ChatScreen) and app.screen.is_mounted)
        await shown.press(*QUESTION, "enter")
        await shown.until(lambda: len(conversation.path) == 2)
    backend.close()
    assert conversation.path[-1].text == text
