"""The engine as a front end uses it, on small random checkpoints: the same numbers as transformers, nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import engine.__main__ as headless
from engine import (
    CheckpointError,
    Engine,
    EngineClosedError,
    Failed,
    Finished,
    PrefillProgress,
    Profile,
    PromptError,
    Queued,
    RequestTooLargeError,
    SamplingParams,
    TextDelta,
)
from tests.engine.checkpoints import random_config, transformers_model, write_checkpoint

GREEDY = SamplingParams(temperature=0.0, max_new_tokens=24, ignore_eos=True)
PROFILE = Profile(cache_lens=2048, max_batch_size=4, chunk_size=64, max_new_tokens=256)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("model")
    config = random_config()
    weights = write_checkpoint(folder, config, seed=3)
    return folder, transformers_model(config, weights)


@pytest.fixture
def engine(checkpoint):
    with Engine.open(checkpoint[0], PROFILE) as opened:
        yield opened


def ids(length: int, seed: int = 0) -> list[int]:
    return torch.randint(0, 160, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def tokens(events) -> list[int]:
    return [i for event in events if isinstance(event, TextDelta) for i in event.token_ids]


def oracle_logprobs(model, sequence: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits = model(torch.tensor([sequence])).logits[0].float()
    return torch.log_softmax(logits, dim=1)


def oracle_greedy(model, prompt: list[int], count: int) -> list[int]:
    known = list(prompt)
    for _ in range(count):
        known.append(int(oracle_logprobs(model, known)[-1].argmax()))
    return known[len(prompt) :]


@contextmanager
def held(engine) -> Iterator[threading.Event]:
    """Inside, the engine takes requests and computes nothing. The event: it is about to compute."""
    runner, go_on, computing = engine._running.loop._runner, threading.Event(), threading.Event()
    run = runner.run

    def wait_and_run(*arguments):
        computing.set()
        go_on.wait(60)
        return run(*arguments)

    runner.run = wait_and_run
    yield computing
    go_on.set()


def test_greedy_ids_are_those_of_transformers(engine, checkpoint):
    prompt = ids(37)
    assert tokens(engine.submit(prompt, GREEDY)) == oracle_greedy(checkpoint[1], prompt, 24)


@pytest.mark.parametrize("chunk_size", [1, 16, 256])
@pytest.mark.parametrize("length", [1, 7, 64, 700])
def test_score_equals_transformers_whole_and_in_chunks(checkpoint, chunk_size, length):
    if chunk_size == 1 and length == 700:
        length = 70  # seven hundred steps of one token say nothing that seventy do not
    folder, model = checkpoint
    sequence = ids(length, seed=length)
    with Engine.open(folder, replace(PROFILE, chunk_size=chunk_size)) as engine:
        score = engine.score(sequence)
    expected = oracle_logprobs(model, sequence)
    assert score.num_tokens == length
    assert list(score.argmax) == expected.argmax(dim=1).tolist()
    picked = expected[range(length - 1), sequence[1:]]
    assert torch.allclose(torch.tensor(score.logprobs), picked, rtol=0, atol=1e-4)


def test_score_hands_out_the_logits_of_every_position_once_in_order(engine, checkpoint):
    sequence = ids(150)
    starts: list[int] = []
    parts: list[torch.Tensor] = []

    def on_rows(start: int, logits: torch.Tensor) -> None:
        starts.append(start)
        parts.append(logits.clone())

    score = engine.score(sequence, on_rows)
    assert starts == [0, 64, 128]
    rows = torch.cat(parts)
    assert (rows.shape, rows.dtype) == ((150, 160), torch.float32)
    found = torch.log_softmax(rows, dim=1)
    assert torch.allclose(found, oracle_logprobs(checkpoint[1], sequence), rtol=0, atol=1e-4)
    assert torch.allclose(found[range(149), sequence[1:]], torch.tensor(score.logprobs), rtol=0, atol=1e-5)


def test_what_the_taker_of_logits_raises_reaches_the_caller_and_the_engine_goes_on(engine):
    calls: list[int] = []

    def on_rows(start: int, logits: torch.Tensor) -> None:
        calls.append(start)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        engine.score(ids(150), on_rows)
    assert calls == [0]
    assert len(engine.score(ids(9)).logprobs) == 8


def test_two_readers_of_one_generation_share_its_events_and_both_end(engine):
    generation = engine.submit(ids(20), GREEDY)
    read: list[list[Any]] = []
    readers = [threading.Thread(target=lambda: read.append(list(generation)), daemon=True) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert len(read) == 2
    assert sum(isinstance(event, Finished) for events in read for event in events) == 1
    assert len([token for events in read for token in tokens(events)]) == 24
    assert (list(generation), generation.wait(), generation.drain()) == ([], [], [])


def test_a_checkpoint_without_a_tokenizer_is_refused_before_its_weights_are_read_where_text_is_needed(
    checkpoint,
):
    stages: list[str] = []
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Engine.open(checkpoint[0], PROFILE, on_progress=lambda at: stages.append(at.stage), needs_text=True)
    assert stages == ["reading the checkpoint's index"]


def test_a_stop_string_alone_is_refused_and_not_taken_for_its_letters():
    with pytest.raises(ValueError, match="must be a tuple of strings"):
        SamplingParams(stop="abc")


def test_requests_in_one_batch_answer_as_they_do_alone(engine):
    prompts = [ids(5 + 31 * i, seed=i) for i in range(6)]
    alone = [tokens(engine.submit(prompt, GREEDY)) for prompt in prompts]
    together = [engine.submit(prompt, GREEDY) for prompt in prompts]
    assert [tokens(one) for one in together] == alone


def test_a_seed_gives_the_same_tokens_alone_and_batched(engine):
    params = SamplingParams(temperature=1.0, seed=11, max_new_tokens=24, ignore_eos=True)
    alone = tokens(engine.submit(ids(20), params))
    others = [engine.submit(ids(30, seed=i), replace(params, seed=i)) for i in range(3)]
    assert tokens(engine.submit(ids(20), params)) == alone
    for other in others:
        list(other)
    assert tokens(engine.submit(ids(20), replace(params, seed=12))) != alone


def test_a_second_turn_computes_only_what_is_new_and_answers_the_same(engine, checkpoint):
    prompt = ids(100)
    first = tokens(engine.submit(prompt, GREEDY))
    longer = [*prompt, *first, *ids(9, seed=4)]
    events = list(engine.submit(longer, GREEDY))
    usage = events[-1].usage
    assert usage.cached_tokens >= (len(prompt) + len(first) - 1) // 16 * 16 - 16
    assert usage.prompt_tokens == len(longer)
    assert tokens(events) == oracle_greedy(checkpoint[1], longer, 24)


def test_score_is_exact_after_a_prefix_hit(engine, checkpoint):
    sequence = ids(90, seed=8)
    list(engine.submit(sequence, GREEDY))
    picked = oracle_logprobs(checkpoint[1], sequence)[range(89), sequence[1:]]
    assert torch.allclose(torch.tensor(engine.score(sequence).logprobs), picked, rtol=0, atol=1e-4)


def test_a_score_that_loses_its_pages_half_way_is_exact(checkpoint):
    tight = replace(PROFILE, cache_lens=256, max_new_tokens=64, chunk_size=1)
    sequence = ids(150, seed=9)
    scored = []
    with Engine.open(checkpoint[0], tight) as engine:
        with held(engine) as computing:
            running = engine.submit(ids(20), replace(GREEDY, max_new_tokens=200))
            assert computing.wait(60)
            thread = threading.Thread(target=lambda: scored.append(engine.score(sequence)))
            thread.start()
            while engine._running.loop._inbox.empty():
                thread.join(0.01)
        list(running)
        thread.join(60)
        assert engine.stats().num_preemptions > 0
    picked = oracle_logprobs(checkpoint[1], sequence)[range(149), sequence[1:]]
    assert torch.allclose(torch.tensor(scored[0].logprobs), picked, rtol=0, atol=1e-4)


def test_pages_that_run_out_delay_and_change_nothing(checkpoint):
    prompts = [ids(60, seed=i) for i in range(4)]
    params = replace(GREEDY, max_new_tokens=60)
    with Engine.open(checkpoint[0], PROFILE) as roomy:
        expected = [tokens(roomy.submit(prompt, params)) for prompt in prompts]
    tight = replace(PROFILE, cache_lens=256, max_new_tokens=64)
    with Engine.open(checkpoint[0], tight) as engine:
        running = [engine.submit(prompt, params) for prompt in prompts]
        assert [tokens(one) for one in running] == expected
        assert engine.stats().num_preemptions > 0


def test_cancelling_the_one_that_waits_leaves_the_one_that_runs(checkpoint):
    with Engine.open(checkpoint[0], replace(PROFILE, max_batch_size=1)) as engine:
        expected = tokens(engine.submit(ids(40), replace(GREEDY, max_new_tokens=60)))
        with held(engine):
            running = engine.submit(ids(40), replace(GREEDY, max_new_tokens=60))
            waiting = engine.submit(ids(50, seed=1), GREEDY)
            waiting.cancel()
            waiting.cancel()
        ended = list(waiting)
        assert ended[-1].reason == "cancelled"
        assert tokens(running) == expected
        assert engine.stats().kv_pages_used == 0


def test_cancelling_keeps_the_text_and_frees_the_pages(engine):
    generation = engine.submit(ids(10), replace(GREEDY, max_new_tokens=900))
    events = []
    while len(tokens(events)) < 3:
        events += generation.wait(5)
    generation.cancel()
    events += list(generation)
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "cancelled"
    assert events[-1].usage.completion_tokens == len(tokens(events)) < 900
    assert engine.stats().kv_pages_used == 0
    assert engine.stats().num_running == 0


def test_the_queue_is_told_and_served_in_order(checkpoint):
    with Engine.open(checkpoint[0], replace(PROFILE, max_batch_size=1)) as engine:
        generations = [engine.submit(ids(200, seed=i), GREEDY) for i in range(3)]
        events = [list(one) for one in generations]
    assert any(isinstance(event, Queued) and event.position == 1 for event in events[2])
    assert any(isinstance(event, PrefillProgress) and event.done == 64 for event in events[0])
    ends = [[e.time for e in one if isinstance(e, TextDelta)][-1] for one in events]
    assert ends == sorted(ends)
    assert events[2][-1].usage.queue_seconds >= events[0][-1].usage.queue_seconds


def test_what_can_never_fit_is_refused_at_once_with_the_numbers(engine):
    with pytest.raises(RequestTooLargeError, match=r"1100.*\b1024\b"):
        engine.submit(ids(1000), replace(GREEDY, max_new_tokens=100))
    assert engine.stats().num_waiting == 0


@pytest.mark.parametrize("prompt", [[], [0, 160], [-1], [1.5], [True], "hello", b"hello"])
def test_bad_prompts_are_refused(engine, prompt):
    with pytest.raises(Exception, match=r"empty|token id|this is text"):
        engine.submit(prompt, GREEDY)


def test_messages_without_a_tokenizer_are_refused_by_name(engine):
    from engine import Message

    with pytest.raises(Exception, match=r"tokenizer\.json"):
        engine.submit([Message("user", "hi")])
    assert any("tokenizer.json" in note for note in engine.info.notes)


def test_logprobs_are_raw_and_at_temperature_one(engine, checkpoint):
    prompt = ids(33, seed=5)
    params = SamplingParams(temperature=0.3, seed=1, max_new_tokens=5, logprobs=2, ignore_eos=True)
    events = list(engine.submit(prompt, params))
    sampled, logprobs = tokens(events), [p for e in events if isinstance(e, TextDelta) for p in e.logprobs]
    expected = oracle_logprobs(checkpoint[1], prompt + sampled)
    for step, one in enumerate(logprobs):
        row = expected[len(prompt) - 1 + step]
        assert one.token_id == sampled[step]
        assert one.logprob == pytest.approx(float(row[sampled[step]]), abs=1e-4)
        assert [i for i, _ in one.top] == row.topk(2).indices.tolist()


def test_logits_that_are_not_finite_fail_their_request_with_step_and_layer(tmp_path):
    from safetensors.torch import load_file, save_file

    write_checkpoint(tmp_path, random_config(), seed=3)
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.layers.1.self_attn.o_proj.weight"][3, 2] = float("nan")
    save_file(weights, tmp_path / "model.safetensors")
    with Engine.open(tmp_path, PROFILE) as engine:
        end = list(engine.submit(ids(9), GREEDY))[-1]
        assert isinstance(end, Failed)
        assert (end.kind, "layer 1" in end.message, "step 0" in end.message) == (
            "GenerationError",
            True,
            True,
        )
        assert engine.stats().kv_pages_used == 0


def test_a_broken_engine_fails_every_request_and_takes_no_more(engine, monkeypatch):
    run, steps = engine._running.loop._runner.run, iter(range(5))

    def explode(*args):
        if next(steps, None) is None:
            raise RuntimeError("the memory is gone")
        return run(*args)

    monkeypatch.setattr(engine._running.loop._runner, "run", explode)
    running = engine.submit(ids(10), replace(GREEDY, max_new_tokens=900))
    end = list(running)[-1]
    assert isinstance(end, Failed)
    assert "the memory is gone" in end.message
    assert end.usage.completion_tokens > 0
    with pytest.raises(EngineClosedError, match="the memory is gone"):
        engine.submit(ids(5), GREEDY)


def test_closing_ends_what_runs_with_a_reason(checkpoint):
    engine = Engine.open(checkpoint[0], PROFILE)
    running = [engine.submit(ids(10, seed=i), replace(GREEDY, max_new_tokens=900)) for i in range(6)]
    closers = [threading.Thread(target=engine.close) for _ in range(3)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join(60)
    for one in running:
        end = list(one)[-1]
        assert isinstance(end, Failed)
        assert "closed" in end.message
    assert (engine.stats().num_running, engine.stats().num_waiting, engine.stats().kv_pages_used) == (0, 0, 0)
    with pytest.raises(EngineClosedError):
        engine.submit(ids(5), GREEDY)


def test_stats_tell_the_bytes_that_are_held(engine):
    stats = engine.stats()
    assert stats.kv_bytes == 3 * 2048 * 40 * 4  # layers, tokens, latent, float32
    assert stats.weights_bytes["ram"] > 0
    assert stats.kv_tokens_total == 2048
    assert stats.decode_tokens_per_s is None


def test_mixed_prompts_and_empty_sequences_raise_for_the_caller(engine):
    from engine import Message

    with pytest.raises(PromptError, match="mixes"):
        engine.submit([Message("user", "x"), 3], GREEDY)


def test_importing_the_engine_loads_neither_torch_nor_an_interface():
    code = "import engine, sys; print([m for m in ('torch', 'textual', 'rich', 'tokenizers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def refused(monkeypatch, capsys):
    """`refused(*arguments)`: exit code, output and errors of a headless call that ends with an error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["engine", *arguments])
        with pytest.raises(SystemExit) as ended:
            headless.run()
        return ended.value.code, *capsys.readouterr()

    return call


def test_headless_score_prints_one_json_object(checkpoint, tmp_path):
    sequence = ids(12)
    (tmp_path / "ids.json").write_text(json.dumps(sequence))
    command = [sys.executable, "-m", "engine", "score", str(checkpoint[0]), "--json"]
    done = subprocess.run([*command, "--ids", str(tmp_path / "ids.json")], capture_output=True, text=True)
    result = json.loads(done.stdout)
    assert done.returncode == 0
    assert set(result) == {"num_tokens", "logprobs", "argmax", "perplexity", "seconds"}
    expected = oracle_logprobs(checkpoint[1], sequence)[range(11), sequence[1:]]
    assert torch.allclose(torch.tensor(result["logprobs"]), expected, rtol=0, atol=1e-4)
    assert result["perplexity"] == pytest.approx(float(torch.exp(-expected.mean())), rel=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"a": 1}', "JSON list"), ("[1, 2.5]", "JSON list"), ("[1, ", "not readable"), ("[1, 999]", "999")],
)
def test_headless_score_refuses_bad_ids_with_exit_2(checkpoint, tmp_path, refused, text, message):
    (tmp_path / "ids.json").write_text(text)
    code, _, err = refused("score", str(checkpoint[0]), "--ids", str(tmp_path / "ids.json"))
    assert (code, message in err) == (2, True)


def test_headless_generate_names_an_unknown_model_with_exit_2(refused):
    code, _, err = refused("generate", "no-such-model", "-p", "hi")
    assert (code, "no-such-model" in err) == (2, True)


def test_an_error_under_json_is_a_json_object_too(tmp_path, refused):
    code, out, _ = refused("generate", str(tmp_path), "-p", "hi", "--json")
    error = json.loads(out)
    assert (code, error["exit_code"], error["error"]["kind"]) == (2, 2, "ModelNotFoundError")
