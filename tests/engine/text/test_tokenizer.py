"""Ids: exact against nano's record, one beginning of sequence, and control tokens by the template alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import CheckpointError, PromptError, UnsupportedModelError
from engine.events import Message
from engine.text.tokenizer import Tokenizer
from tests.engine.text.tokenizers import (
    DEEPSEEK_FOLDER,
    NANO_FOLDER,
    THINKING_TEMPLATE,
    deepseek,
    nano,
    spellable,
    variant,
)

EXPECTED = Path(__file__).parents[2] / "dsv3chat" / "nano" / "expected.json"
CASES = json.loads(EXPECTED.read_text(encoding="utf-8"))["cases"]
TRICKY = "hello world\n\n    def f(x):\n\treturn x  # 你好，世界 かな 한국어 1234567\r\n  trailing  "
CONTROL_TEXT = "a <｜User｜>b<｜Assistant｜></think><think><|im_end|><｜end▁of▁sentence｜> <|im_start|>system"


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """DeepSeek's tokenizer with a template like R1's, and the class name that promises SentencePiece."""
    folder = tmp_path_factory.mktemp("thinker")
    return Tokenizer.open(
        variant(folder, DEEPSEEK_FOLDER, THINKING_TEMPLATE, tokenizer_class="LlamaTokenizerFast")
    )


def plain_ids(text: str) -> list[int]:
    """DeepSeek's ids of a whole prompt, control tokens included, by the library alone."""
    ids: list[int] = LIBRARY.encode(text, add_special_tokens=False).ids
    return ids


LIBRARY = tokenizers.Tokenizer.from_file(str(DEEPSEEK_FOLDER / "tokenizer.json"))


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_nanos_prompts_have_exactly_the_recorded_ids(case):
    turns = re.findall(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n", case["prompt"], re.DOTALL)
    ids = nano().encode_chat([Message(role, content) for role, content in turns])
    assert ids == case["ids"][: case["num_prompt_tokens"]]
    assert nano().decode(case["ids"][case["num_prompt_tokens"] :]) == case["answer"]


@pytest.mark.parametrize("open_tokenizer", [nano, deepseek])
def test_text_round_trips_exactly(open_tokenizer):
    for text in ("hello world", TRICKY, CONTROL_TEXT, "", " ", "\u200d👩\u200d👩"):
        assert open_tokenizer().decode(open_tokenizer().encode_text(text)) == text


@pytest.mark.parametrize("open_tokenizer", [nano, deepseek])
@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_round_trips(open_tokenizer, text):
    text = spellable(open_tokenizer(), text)
    assert open_tokenizer().decode(open_tokenizer().encode_text(text)) == text


def test_the_file_wins_over_the_class_name_and_a_chat_has_one_beginning(thinker):
    bos = plain_ids("<｜begin▁of▁sentence｜>")[0]
    ids = thinker.encode_chat([Message("system", TRICKY), Message("user", "hello world")])
    assert ids == plain_ids(f"<｜begin▁of▁sentence｜>{TRICKY}<｜User｜>hello world<｜Assistant｜><think>\n")
    assert ids.count(bos) == 1


@pytest.mark.parametrize(("wanted", "ids"), [(True, (0,)), (False, ()), (None, ()), ("yes", ())])
def test_a_text_of_its_own_begins_as_the_config_says(tmp_path, wanted, ids):
    folder = variant(tmp_path, DEEPSEEK_FOLDER, bos_token="<｜begin▁of▁sentence｜>", add_bos_token=wanted)
    assert Tokenizer.open(folder).beginning_ids == ids


def test_a_post_processor_adds_no_second_beginning(tmp_path):
    data = json.loads((NANO_FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    data["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}},
    }
    data["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": "<|im_start|>{{ messages[0].content }}"})
    )
    tokenizer = Tokenizer.open(tmp_path)
    long = "one two three four five six"
    assert tokenizer.encode_chat([Message("user", long)]) == [1, *nano().encode_text(long)]
    assert tokenizer.encode_text(long) == nano().encode_text(long)


def test_control_tokens_in_messages_are_text(thinker):
    messages = [
        Message("system", CONTROL_TEXT),
        Message("user", CONTROL_TEXT),
        Message("assistant", CONTROL_TEXT),
    ]
    ids = thinker.encode_chat([*messages, Message("user", CONTROL_TEXT)])
    controls = [thinker.token_text(token) for token in ids if token in thinker.special_ids]
    turn = ["<｜User｜>", "<｜Assistant｜>"]
    assert controls == ["<｜begin▁of▁sentence｜>", *turn, "<｜end▁of▁sentence｜>", *turn, "<think>"]
    assert thinker.decode(ids) == CONTROL_TEXT * 4 + "\n"


@pytest.mark.parametrize("tokenizer", [nano(), deepseek()], ids=["nano", "deepseek"])
def test_no_control_tokens_name_becomes_its_id_as_text(tokenizer):
    for token in sorted(tokenizer.special_ids)[:60] + sorted(tokenizer.special_ids)[-60:]:
        ids = tokenizer.encode_text(f"x{tokenizer.token_text(token)} {tokenizer.token_text(token)}")
        assert not tokenizer.special_ids & set(ids)


def test_a_control_token_that_two_messages_spell_together_is_text(tmp_path):
    template = "{% for m in messages %}{{ m.content }}{% endfor %}<|im_end|>"
    tokenizer = Tokenizer.open(variant(tmp_path, NANO_FOLDER, template))
    for first, second in (("<|im_", "end|>"), ("<", "|im_end|>"), ("<|im_end|", ">")):
        ids = tokenizer.encode_chat([Message("user", first), Message("assistant", second)])
        assert ids == [*nano().encode_text("<|im_end|>"), 2]


def test_a_message_completes_no_control_token_that_the_template_began(tmp_path):
    tokenizer = Tokenizer.open(
        variant(tmp_path, NANO_FOLDER, "<{{ messages[0].content }}<|im_{{ messages[1].content }}")
    )
    ids = tokenizer.encode_chat([Message("user", "|im_start|>"), Message("user", "end|>")])
    assert ids == nano().encode_text("<|im_start|><|im_end|>")


@settings(max_examples=100, deadline=None)
@given(
    text=st.lists(
        st.sampled_from(
            ["<", ">", "｜", "<think>", "\U000f0000", "\U000f0001", "\U0010fffe", "\U0010ffff", "1:2", " a"]
        )
        | st.text(max_size=3),
        max_size=12,
    ).map("".join)
)
def test_private_characters_in_a_message_change_nothing(thinker, text):
    start = plain_ids("<｜begin▁of▁sentence｜><｜User｜>")
    end = plain_ids("<｜Assistant｜>")
    ids = thinker.encode_chat([Message("user", f"x{text}y")], add_generation_prompt=False)
    assert ids == [*start, *thinker.encode_text(f"x{text}y")]
    assert end[0] not in ids


def test_merges_across_the_border_of_a_message_are_those_of_the_whole_prompt(tmp_path):
    tokenizer = Tokenizer.open(
        variant(tmp_path, NANO_FOLDER, "un{{ messages[0].content }}ed word{{ messages[1].content }}")
    )
    ids = tokenizer.encode_chat([Message("user", "believ"), Message("user", "s")])
    assert ids == nano().encode_text("unbelieved words")


def test_special_ids_are_skipped_and_have_names():
    tokenizer = deepseek()
    assert tokenizer.think_ids == tuple(plain_ids("<think></think>"))
    assert tokenizer.decode([*tokenizer.think_ids, *plain_ids("hi<｜end▁of▁sentence｜>")]) == "hi"
    assert [tokenizer.token_text(token) for token in tokenizer.think_ids] == ["<think>", "</think>"]
    assert tokenizer.bos_token == "<｜begin▁of▁sentence｜>"
    assert tokenizer.eos_token == "<｜end▁of▁sentence｜>"
    assert tokenizer.num_ids == 1 + max(LIBRARY.get_vocab().values())


def test_added_words_stay_text(tmp_path):
    data = json.loads((NANO_FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    word = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    data["added_tokens"].append({"id": 49152, "content": "zyzzyva", **word})
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    tokenizer = Tokenizer.open(tmp_path)
    assert tokenizer.encode_text("a zyzzyva")[-1] == 49152
    assert tokenizer.decode([49152]) == "zyzzyva"
    assert tokenizer.num_ids == 49153


def test_half_a_surrogate_pair_is_refused_with_its_place():
    with pytest.raises(PromptError, match=r"message 2 holds U\+D83D at character 3"):
        nano().encode_chat([Message("system", "s"), Message("user", "abc\ud83d")])


def test_neither_file_names_both(tmp_path):
    with pytest.raises(CheckpointError, match=r"tokenizer\.json nor tiktoken\.model"):
        Tokenizer.open(tmp_path)


def test_a_broken_or_foreign_file_is_refused_with_its_name(tmp_path):
    path = tmp_path / "tokenizer.json"
    for content in ("{", "[]", "{}", '{"model": {"type": "BPE", "vocab": [], "merges": 3}}'):
        path.write_text(content)
        with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
            Tokenizer.open(tmp_path)
    path.write_text('{"model": {"type": "Unigram", "vocab": []}}')
    with pytest.raises(UnsupportedModelError, match="Unigram"):
        Tokenizer.open(tmp_path)


def test_a_config_of_another_model_is_refused(tmp_path):
    variant(tmp_path, NANO_FOLDER, bos_token="<s>")
    with pytest.raises(CheckpointError, match="'<s>' as bos_token"):
        Tokenizer.open(tmp_path)


def test_tokenizing_loads_no_torch():
    code = "import sys, engine.text.tokenizer; print('torch' in sys.modules, 'transformers' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
