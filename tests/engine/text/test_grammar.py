"""Answers under a JSON Schema: what is allowed, what is forced, and that both are as the tokenizer cuts the text."""

from __future__ import annotations

import json
import random
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import GrammarError
from engine.sampling import JsonSchema
from engine.text import grammar as grammar_module
from engine.text.grammar import MAX_KEPT, MAX_SCHEMA_BYTES, AnswerGrammar, Grammars, read_schema
from engine.text.tokenizer import Tokenizer
from tests.engine.text.tokenizers import deepseek, nano, spellable, trained

RULES = [
    "mutable-default",
    "bare-except",
    "swallowed-exception",
    "missing-return",
    "missing-call",
    "is-literal",
]


def obj(**properties) -> dict:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


FINDING = obj(
    line={"type": "integer", "minimum": 8, "maximum": 121},
    severity={"enum": ["error", "warning", "info"]},
    rule={"enum": RULES},
    message={"type": "string", "maxLength": 60},
    suggestion={"type": "string", "maxLength": 60},
)
REVIEW = JsonSchema(json.dumps(obj(findings={"type": "array", "maxItems": 3, "items": FINDING})))
PERSON = JsonSchema(
    json.dumps(
        {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "größe": {"type": "number"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "ok": {"type": ["boolean", "null"]},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
    )
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=20) | st.sampled_from(
    [
        "",
        '"',
        '"},{"',
        "\\",
        "a}]",
        "def f(x):",
        '    return d["k"]',
        ".",
        "it's",
        "\n",
        "你好",
        "👩‍👩‍👧‍👦 é",
        " ",
        ",",
    ]
)
findings = st.fixed_dictionaries(
    {
        "line": st.integers(8, 121),
        "severity": st.sampled_from(["error", "warning", "info"]),
        "rule": st.sampled_from(RULES),
        "message": texts,
        "suggestion": texts,
    }
).map(lambda value: {key: value[key] for key in FINDING["properties"]})
reviews = st.fixed_dictionaries({"findings": st.lists(findings, max_size=3)})
people = st.fixed_dictionaries(
    {"name": texts},
    optional={
        "größe": st.integers(-1000, 1000) | st.floats(-1000, 1000).map(lambda x: round(x, 3) + 0.0),
        "tags": st.lists(texts, max_size=4),
        "ok": st.none() | st.booleans(),
    },
).map(lambda value: {key: value[key] for key in ("name", "größe", "tags", "ok") if key in value})


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def walk(tokenizer: Tokenizer, state: AnswerGrammar, ids: list[int]) -> int:
    """Choose `ids` wherever there is a choice; every forced token must be the next of them. Returns how many were forced."""
    forced = state.begin()
    num_forced = at = len(forced)
    assert list(forced) == ids[:at]
    while at < len(ids):
        assert not state.ended, tokenizer.decode(ids[at:])
        mask = state.mask()
        assert mask[ids[at]], (tokenizer.decode(ids[:at]), tokenizer.token_text(ids[at]))
        forced = state.push(ids[at])
        at += 1
        assert list(forced) == ids[at : at + len(forced)]
        num_forced += len(forced)
        at += len(forced)
    assert state.error == ""
    return num_forced


@pytest.fixture(scope="module")
def grammars(tmp_path_factory) -> dict[str, tuple[Tokenizer, Grammars]]:
    """By kind of tokenizer, each with its end of turn."""
    opened = {"nano": nano(), "deepseek": deepseek()}
    for kind in KINDS[2:]:
        opened[kind] = Tokenizer.open(trained(tmp_path_factory.mktemp(kind), kind))
    found = {}
    for kind, tokenizer in opened.items():
        [end] = [n for n in tokenizer.special_ids if tokenizer.token_text(n) == tokenizer.eos_token]
        found[kind] = tokenizer, Grammars(tokenizer, [end], tokenizer.num_ids)
    return found


KINDS = ["nano", "deepseek", "byte-level", "metaspace", "prepend", "tiktoken"]


def answer_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The text as it is cut where it stands, behind other text."""
    return tokenizer.continuation_encoder()(text)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(value=reviews)
def test_chosen_and_forced_tokens_are_those_into_which_the_tokenizer_cuts_the_whole_answer(
    grammars, kind, value
):
    tokenizer, compiled = grammars[kind]
    text = compact(value)
    if tokenizer.decode(tokenizer.encode_text(text)) != text:  # nano cannot spell every character
        text = spellable(tokenizer, text)
    state = compiled.start(REVIEW, thinking=False)
    walk(tokenizer, state, answer_ids(tokenizer, text))
    assert state.ended


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(value=people)
def test_optional_properties_numbers_and_names_beyond_ascii_are_cut_as_the_tokenizer_does(
    grammars, kind, value
):
    tokenizer, compiled = grammars[kind]
    text = compact(value)
    if tokenizer.decode(tokenizer.encode_text(text)) != text:
        text = spellable(tokenizer, text)
    state = compiled.start(PERSON, thinking=False)
    walk(tokenizer, state, answer_ids(tokenizer, text))
    assert state.ended


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_any_walk_through_the_masks_is_json_that_meets_the_schema(grammars, kind, seed):
    tokenizer, compiled = grammars[kind]
    draw = random.Random(seed)
    state = compiled.start(REVIEW, thinking=False)
    ids = list(state.begin())
    while not state.ended:
        allowed = np.flatnonzero(state.mask()).tolist()
        assert not tokenizer.special_ids.intersection(allowed)
        closing = [i for i in allowed if tokenizer.token_bytes(i)[:1] in (b'"', b"]", b"}")]
        token = draw.choice(closing if closing and draw.random() < 0.2 else allowed)
        ids += [token, *state.push(token)]
    answer = json.loads(tokenizer.decode(ids))
    for finding in answer["findings"]:
        assert list(finding) == ["line", "severity", "rule", "message", "suggestion"]
        assert 8 <= finding["line"] <= 121
        assert finding["rule"] in RULES
        assert len(finding["message"]) <= 60
    assert len(answer["findings"]) <= 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_turn_is_allowed_where_the_answer_may_end_and_no_other_control_token_ever(grammars, kind):
    tokenizer, compiled = grammars[kind]
    [end] = [n for n in tokenizer.special_ids if tokenizer.token_text(n) == tokenizer.eos_token]
    state = compiled.start(JsonSchema('{"type":"integer"}'), thinking=False)
    assert not state.mask()[end]
    state.push(answer_ids(tokenizer, "7")[0])
    assert tokenizer.special_ids.intersection(np.flatnonzero(state.mask()).tolist()) == {end}
    assert not state.ended  # more digits may follow
    assert state.push(end) == ()
    assert (state.ended, state.error) == (True, "")


def test_every_end_of_turn_that_the_model_has_ends_the_answer():
    tokenizer = nano()
    for end in (0, 2):  # <|endoftext|>, <|im_end|>
        state = Grammars(tokenizer, [2, 0], tokenizer.num_ids).start(JsonSchema('{"type":"integer"}'), False)
        state.push(tokenizer.encode_text("7")[0])
        assert state.mask()[[0, 2]].all()
        state.push(end)
        assert state.ended


def test_a_mask_is_as_wide_as_what_may_be_sampled():
    tokenizer = nano()
    for num_ids in (tokenizer.num_ids - 100, tokenizer.num_ids):
        state = Grammars(tokenizer, [2], num_ids).start(REVIEW, thinking=False)
        state.begin()
        assert state.mask().shape == (num_ids,)


def test_a_model_without_an_end_of_turn_ends_where_nothing_can_follow():
    tokenizer = nano()
    state = Grammars(tokenizer, [], tokenizer.num_ids).start(JsonSchema('{"enum":["a"]}'), thinking=False)
    ids = [*state.begin()]
    while not state.ended:
        allowed = np.flatnonzero(state.mask())
        assert not tokenizer.special_ids.intersection(allowed.tolist())
        ids += [int(allowed[0]), *state.push(int(allowed[0]))]
    assert tokenizer.decode(ids) == '"a"'


def test_an_answer_that_thinks_first_is_free_until_the_thinking_closes_but_cannot_end(tmp_path):
    tokenizer = Tokenizer.open(trained(tmp_path, "byte-level", think=True))
    compiled = Grammars(tokenizer, [1], tokenizer.num_ids)
    open_id, close_id = tokenizer.think_ids
    state = compiled.start(REVIEW, thinking=True)
    assert state.begin() == ()
    assert np.flatnonzero(~state.mask()).tolist() == [1]
    for token in tokenizer.encode_text('{"not": the answer}'):
        assert state.push(token) == ()
    assert tokenizer.decode(state.push(close_id)).startswith('{"findings')
    assert not state.mask()[[open_id, close_id]].any()
    walk(tokenizer, compiled.start(REVIEW, thinking=False), tokenizer.encode_text('{"findings":[]}'))


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ("", "this is not a JSON Schema"),
        ("nope", "this is not a JSON Schema"),
        ("[]", "this is not a JSON Schema"),
        ("true", "this is not a JSON Schema"),
        ('{"type":"strin"}', "strin"),
        ('{"$ref":"#/nowhere"}', "nowhere"),
        ('{"$ref":"https://example.com/schema.json"}', "example.com"),
        ('{"type":"array","uniqueItems":true}', "uniqueItems"),
        ('{"type":"string","pattern":"("}', "unclosed group"),
        ('{"type":"integer","minimum":5,"maximum":2}', "Unsatisfiable"),
        ('{"items":' * 5000 + "{}" + "}" * 5000, "recursion limit"),
        ("\ud800", "this is not a JSON Schema"),
    ],
)
def test_what_cannot_be_a_grammar_is_refused_with_the_reason(grammars, schema, says):
    with pytest.raises(GrammarError, match=says):
        grammars["nano"][1].start(JsonSchema(schema), thinking=False)


def test_a_schema_file_is_read_and_checked_without_a_tokenizer(tmp_path):
    path = tmp_path / "schema.json"
    path.write_bytes(b"\xef\xbb\xbf" + REVIEW.schema.encode())
    assert read_schema(path) == REVIEW


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "cannot be read: No such file"),
        (b"nope", "this is not a JSON Schema"),
        (b'{"type":"strin"}', "Invalid type: strin"),
        (b'{"title":"\xff"}', "UTF-8"),
        (b'{"title":"' + b"x" * MAX_SCHEMA_BYTES + b'"}', "1 MiB"),
    ],
)
def test_a_schema_file_that_cannot_be_used_is_refused_by_name(tmp_path, data, says):
    path = tmp_path / "schema.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(GrammarError, match=rf"schema\.json: .*{says}"):
        read_schema(path)
    with pytest.raises(GrammarError, match="Is a directory"):
        read_schema(tmp_path)


def test_a_schema_cannot_ask_for_another_form_than_compact_json(grammars):
    tokenizer, compiled = grammars["nano"]
    loose = {"x-guidance": {"whitespace_flexible": True, "item_separator": " , "}}
    schema = JsonSchema(json.dumps(loose | {"type": "array", "items": {"type": "integer"}, "minItems": 2}))
    walk(tokenizer, compiled.start(schema, thinking=False), tokenizer.encode_text("[1,2]"))


def test_the_latest_schemas_are_compiled_once_and_older_ones_forgotten(monkeypatch):
    compiled: list[str] = []
    compile_one = grammar_module._compile
    monkeypatch.setattr(
        grammar_module,
        "_compile",
        lambda schema, words: compiled.append(schema) or compile_one(schema, words),
    )
    made = Grammars(nano(), [2], nano().num_ids)
    schemas = [JsonSchema(json.dumps({"enum": [number]})) for number in range(MAX_KEPT + 1)]
    for _ in range(3):
        made.start(schemas[0], thinking=False)
    assert compiled == [schemas[0].schema]
    for schema in schemas[1:]:
        made.start(schemas[1], thinking=False)
        made.start(schema, thinking=False)
    assert len(compiled) == MAX_KEPT + 1
    made.start(schemas[1], thinking=False)  # used again and again: still there
    made.start(schemas[0], thinking=False)
    assert compiled[MAX_KEPT + 1 :] == [schemas[0].schema]


def test_answers_of_one_schema_go_their_own_ways(grammars):
    tokenizer, compiled = grammars["nano"]
    [first, second] = [compiled.start(REVIEW, thinking=False) for _ in range(2)]
    walk(tokenizer, first, tokenizer.encode_text('{"findings":[]}'))
    assert (first.ended, second.ended) == (True, False)
    walk(tokenizer, second, tokenizer.encode_text('{"findings":[]}'))


def test_many_threads_may_start_answers_at_once():
    tokenizer = nano()
    made = Grammars(tokenizer, [2], tokenizer.num_ids)
    ended: list[bool] = []

    def answer() -> None:
        for _ in range(20):
            state = made.start(REVIEW, thinking=False)
            walk(tokenizer, state, tokenizer.encode_text('{"findings":[]}'))
            ended.append(state.ended)

    threads = [threading.Thread(target=answer) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == [True] * 120


def test_a_token_that_the_grammar_does_not_allow_is_an_error_and_no_end(grammars):
    tokenizer, compiled = grammars["nano"]
    state = compiled.start(REVIEW, thinking=False)
    state.begin()
    assert state.push(tokenizer.encode_text("hello")[0]) == ()
    assert (state.ended, "grammar" in state.error) == (False, True)
