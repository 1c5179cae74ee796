"""Constrained decoding through the whole engine, on small random checkpoints: whatever the model prefers, the answer is JSON
that meets its schema, the same alone and in a batch."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from engine import (
    CheckpointError,
    Engine,
    Failed,
    Finished,
    GrammarError,
    JsonSchema,
    Message,
    PrefillProgress,
    Profile,
    RequestError,
    SamplingParams,
    TextDelta,
)
from engine.text.grammar import AnswerGrammar, Grammars
from engine.text.tokenizer import Tokenizer
from tests.engine.checkpoints import random_config, transformers_model, write_checkpoint
from tests.engine.text.tokenizers import trained

END = 1
VOCABULARY = 448  # more than the tokenizer's ids: the rest is padding
PROFILE = Profile(cache_lens=2048, max_batch_size=4, chunk_size=64, max_new_tokens=256)
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=256)


def schema(*names: str) -> dict[str, Any]:
    """An array of objects with these short strings as properties."""
    item = {
        "type": "object",
        "properties": {name: {"type": "string", "maxLength": 8} for name in names},
        "required": list(names),
        "additionalProperties": False,
    }
    return {"type": "array", "items": item, "minItems": 2, "maxItems": 3}


SCHEMAS = [
    schema("line", "message"),
    schema("name"),
    {"type": "integer", "minimum": 100, "maximum": 99999},
    {"enum": ["warning", "warnings", "w"]},
    {
        "type": "object",
        "properties": {"suggestion": {"type": ["null", "boolean"]}},
        "required": ["suggestion"],
    }
    | {"additionalProperties": False},
]
LONG = JsonSchema(json.dumps(SCHEMAS[0]))


def build(folder: Path, think: bool = False) -> tuple[Path, Any]:
    config = random_config(vocab_size=VOCABULARY, eos_token_id=END, bos_token_id=0)
    weights = write_checkpoint(folder, config, seed=5)
    trained(folder, "byte-level", think=think)
    return folder, transformers_model(config, weights)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return build(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def engine(checkpoint):
    with Engine.open(checkpoint[0], PROFILE) as opened:
        yield opened


def ids(length: int, seed: int = 0) -> list[int]:
    return torch.randint(5, 400, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def tokens(events) -> list[int]:
    return [i for event in events if isinstance(event, TextDelta) for i in event.token_ids]


def text(events, kind: str = "answer") -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta) and event.kind == kind)


def with_grammar(number: int, **changes: Any) -> SamplingParams:
    return replace(GREEDY, grammar=JsonSchema(json.dumps(SCHEMAS[number])), **changes)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 3.0])
def test_in_one_batch_each_answer_meets_its_own_schema_and_is_what_it_is_alone(engine, temperature):
    params = [with_grammar(n, temperature=temperature, seed=n) for n in range(len(SCHEMAS))]
    params.append(replace(GREEDY, max_new_tokens=40, temperature=temperature, seed=7))  # and one without
    prompts = [ids(7 + 13 * n, seed=n) for n in range(len(params))]
    alone = [tokens(engine.submit(*one)) for one in zip(prompts, params, strict=True)]
    running = [engine.submit(*one) for one in zip(prompts, params, strict=True)]
    together = [list(one) for one in running]
    assert [tokens(events) for events in together] == alone
    for events, wanted in zip(together, SCHEMAS, strict=False):
        assert events[-1].reason == "stop"
        assert events[-1].usage.completion_tokens == len(tokens(events))
        jsonschema.validate(json.loads(text(events)), wanted)


def test_the_sum_of_the_deltas_is_the_decode_of_all_tokens(engine, checkpoint):
    tokenizer = Tokenizer.open(checkpoint[0])
    events = list(engine.submit(ids(20), with_grammar(0)))
    assert text(events) == tokenizer.decode(tokens(events))
    assert sum(event.num_tokens for event in events if isinstance(event, TextDelta)) == len(tokens(events))


def test_forced_tokens_cost_no_step_of_their_own_and_the_last_none_at_all(engine):
    before = engine.stats().num_steps
    events = list(engine.submit(ids(20, seed=31), with_grammar(0, logprobs=0)))
    logprobs = [one for event in events if isinstance(event, TextDelta) for one in event.logprobs]
    num_forced = sum(one.forced for one in logprobs)
    assert len(logprobs) == len(tokens(events))
    assert num_forced > len(logprobs) / 3
    # every other token is one step: the forced beginning is read with the prompt, nothing follows the last token
    assert engine.stats().num_steps - before == len(logprobs) - num_forced
    assert not any(isinstance(event, PrefillProgress) and event.done >= 20 for event in events)


def test_log_probabilities_are_the_models_raw_and_among_the_allowed(engine, checkpoint):
    folder, model = checkpoint
    prompt = ids(20, seed=3)
    events = list(engine.submit(prompt, with_grammar(0, logprobs=1, temperature=1.0, seed=4)))
    given = [one for event in events if isinstance(event, TextDelta) for one in event.logprobs]
    answer = tokens(events)
    with torch.inference_mode():
        rows = model(torch.tensor([prompt + answer])).logits[0].double()
    tokenizer = Tokenizer.open(folder)
    state = Grammars(tokenizer, [END], tokenizer.num_ids).start(LONG, thinking=False)
    forced = list(state.begin())
    for step, one in enumerate(given):
        assert one.token_id == answer[step]
        if forced:
            assert (one.token_id, one.forced, one.logprob, one.masked_logprob) == (forced.pop(0), True, 0, 0)
            continue
        row = rows[len(prompt) - 1 + step]
        mask = torch.from_numpy(np.flatnonzero(state.mask()))
        whole = row[: tokenizer.num_ids].log_softmax(0)[one.token_id].item()
        among = (row[one.token_id] - row[mask].logsumexp(0)).item()
        assert not one.forced
        assert (one.logprob, one.masked_logprob) == pytest.approx((whole, among), abs=1e-4)  # float32 layers
        assert len(one.top) == 1
        forced = list(state.push(one.token_id))
    assert state.ended


def test_a_second_answer_to_the_same_prompt_reuses_its_pages_and_is_the_same(engine):
    prompt = ids(100, seed=40)
    first, second = (list(engine.submit(prompt, with_grammar(0))) for _ in range(2))
    assert first[-1].usage.cached_tokens == 0
    assert second[-1].usage.cached_tokens == 96  # whole pages of 16
    assert tokens(second) == tokens(first)


def test_pages_that_run_out_delay_and_change_nothing(checkpoint, engine):
    prompts = [ids(60, seed=i) for i in range(4)]
    params = [with_grammar(0, max_new_tokens=150), with_grammar(1, max_new_tokens=150)] * 2
    expected = [tokens(engine.submit(*one)) for one in zip(prompts, params, strict=True)]
    with Engine.open(checkpoint[0], replace(PROFILE, cache_lens=256)) as tight:
        running = [tight.submit(*one) for one in zip(prompts, params, strict=True)]
        assert [tokens(one) for one in running] == expected
        assert tight.stats().num_preemptions > 0
        assert tight.stats().kv_pages_used == 0


def test_a_cut_answer_says_length_and_is_exactly_as_long_as_was_allowed(engine):
    whole = tokens(engine.submit(ids(20), with_grammar(0)))
    for length in (1, 2, 3, 4, 5, len(whole) - 1):
        events = list(engine.submit(ids(20), with_grammar(0, max_new_tokens=length)))
        assert (events[-1].reason, tokens(events)) == ("length", whole[:length])
    events = list(engine.submit(ids(20), with_grammar(0, max_new_tokens=len(whole))))
    assert (events[-1].reason, tokens(events)) == ("stop", whole)


def test_an_answer_without_a_choice_needs_no_step(engine):
    grammar = JsonSchema('{"const":{"warning":["line",12]}}')
    list(engine.submit(ids(3), GREEDY))
    before = engine.stats().num_steps
    events = list(engine.submit(ids(20), replace(GREEDY, grammar=grammar, logprobs=0)))
    assert (text(events), events[-1].reason) == ('{"warning":["line",12]}', "stop")
    assert events[-1].usage.completion_tokens == len(tokens(events))
    cut = list(engine.submit(ids(20), replace(GREEDY, grammar=grammar, max_new_tokens=2)))
    assert (tokens(cut), cut[-1].reason) == (tokens(events)[:2], "length")
    stopped = list(engine.submit(ids(20), replace(GREEDY, grammar=grammar, stop=("line",))))
    assert (text(stopped), stopped[-1].reason) == ('{"warning":["', "stop_string")
    assert engine.stats().num_steps == before


def test_a_stop_string_in_forced_text_ends_the_answer_before_it(engine):
    events = list(engine.submit(ids(20), with_grammar(0, stop=('"message"',))))
    assert events[-1].reason == "stop_string"
    assert text(events).startswith('[{"line":')
    assert text(events).endswith(",")
    assert engine.stats().kv_pages_used == 0


def test_without_an_end_of_turn_the_answer_still_ends_where_its_grammar_does(engine):
    events = list(engine.submit(ids(20), with_grammar(0, ignore_eos=True)))
    assert tokens(events) == tokens(engine.submit(ids(20), with_grammar(0)))
    assert events[-1].reason == "stop"


def test_a_cancelled_answer_keeps_its_text_and_frees_its_pages(engine):
    schema = JsonSchema('{"type":"string","minLength":400}')
    generation = engine.submit(ids(20), replace(GREEDY, grammar=schema, max_new_tokens=900))
    events = generation.wait(5)
    while not tokens(events):
        events += generation.wait(5)
    generation.cancel()
    events += list(generation)
    assert events[-1].reason == "cancelled"
    assert text(events).startswith('"')
    assert engine.stats().kv_pages_used == 0


def test_a_bad_schema_is_refused_at_submit_and_the_engine_goes_on(engine):
    with pytest.raises(GrammarError, match="strin"):
        engine.submit(ids(5), replace(GREEDY, grammar=JsonSchema('{"type":"strin"}')))
    assert issubclass(GrammarError, RequestError)
    assert list(engine.submit(ids(5), with_grammar(3)))[-1].reason == "stop"


def test_a_checkpoint_without_a_tokenizer_takes_no_grammar(tmp_path):
    write_checkpoint(tmp_path, random_config(), seed=3)
    with Engine.open(tmp_path, PROFILE) as bare, pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        bare.submit([1, 2, 3], with_grammar(0))


def test_a_grammar_that_cannot_go_on_fails_its_request_and_no_other(engine, monkeypatch):
    running = [engine.submit(ids(20), with_grammar(0)), engine.submit(ids(30), with_grammar(1))]
    expected = tokens(engine.submit(ids(30), with_grammar(1)))
    broken = engine.submit(ids(40), replace(GREEDY, grammar=JsonSchema('{"type":"string"}')))
    state = broken._job.grammar
    monkeypatch.setattr(
        AnswerGrammar, "error", property(lambda self: "a limit is reached" if self is state else "")
    )
    end = list(broken)[-1]
    assert isinstance(end, Failed)
    assert (end.kind, "a limit is reached" in end.message) == ("GenerationError", True)
    assert [isinstance(list(one)[-1], Finished) for one in running] == [True, True]
    assert tokens(engine.submit(ids(30), with_grammar(1))) == expected
    assert engine.stats().kv_pages_used == 0


@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    with Engine.open(build(tmp_path_factory.mktemp("thinker"), think=True)[0], PROFILE) as opened:
        yield opened


def test_thinking_is_free_and_does_not_end_the_answer_which_then_meets_the_schema(thinker):
    close_id = Tokenizer.open(Path(thinker.info.path)).think_ids[1]
    params = with_grammar(0, temperature=8.0, max_new_tokens=600)  # nearly uniform: some close their thinking
    hello = [Message("user", "Hello")]
    running = [thinker.submit(hello, replace(params, seed=seed)) for seed in range(8)]
    seen = 0
    for events in map(list, running):
        answer = tokens(events)
        assert answer.count(close_id) <= 1
        assert END not in answer
        if close_id in answer:
            seen += 1
            assert events[-1].usage.thinking_tokens == answer.index(close_id) + 1
            assert events[-1].reason == "stop"
            jsonschema.validate(json.loads(text(events)), SCHEMAS[0])
        else:
            assert (events[-1].reason, text(events)) == ("length", "")
    assert seen >= 2


def test_a_plain_chat_never_loads_the_grammar_library(engine, monkeypatch):
    monkeypatch.delitem(sys.modules, "engine.text.grammar")
    monkeypatch.delattr("engine.text.grammar")
    monkeypatch.setitem(sys.modules, "llguidance", None)  # importing it raises now
    assert list(engine.submit(ids(5), replace(GREEDY, max_new_tokens=2)))[-1].reason == "length"
    with pytest.raises(ImportError):
        engine.submit(ids(5), with_grammar(0))


def generate(folder: Path, *flags: str):
    from engine.__main__ import main

    return CliRunner().invoke(main, ["generate", str(folder), "-p", "Hello", "--temperature", "0", *flags])


def test_headless_generate_answers_in_the_schemas_form_or_exits_1(checkpoint, tmp_path):
    path = tmp_path / "schema.json"
    path.write_text(LONG.schema)
    done = generate(checkpoint[0], "--schema", str(path))
    assert done.exit_code == 0
    jsonschema.validate(json.loads(done.stdout), SCHEMAS[0])
    cut = generate(checkpoint[0], "--schema", str(path), "--max-tokens", "3", "--json")
    assert (cut.exit_code, json.loads(cut.stdout)["finish_reason"]) == (1, "length")
    assert "does not meet the schema" in cut.stderr


def test_headless_generate_refuses_a_bad_schema_before_it_loads(tmp_path):
    (tmp_path / "schema.json").write_text("nope")
    refused = generate(tmp_path / "no-model", "--schema", str(tmp_path / "schema.json"))
    assert isinstance(refused.exception, GrammarError)  # `run` makes it exit code 2


def test_an_answer_that_begins_with_given_text_goes_on_as_the_model_would_have(engine, checkpoint):
    tokenizer, prompt = Tokenizer.open(checkpoint[0]), ids(20, seed=8)
    params = replace(GREEDY, max_new_tokens=40, ignore_eos=True)
    beginning = "so it was said"
    written = tokenizer.encode_text(beginning)
    events = list(engine.submit(prompt, replace(params, begins_with=beginning)))
    rest = tokens(engine.submit([*prompt, *written], replace(params, max_new_tokens=40 - len(written))))
    assert tokens(events) == [*written, *rest]
    assert text(events).startswith(beginning)


def test_a_grammar_and_a_given_beginning_exclude_each_other():
    with pytest.raises(ValueError, match="begins_with"):
        replace(with_grammar(0), begins_with="so")
