"""A model's benchmark on tiny shapes: bytes as the planner counts them, samples and medians, what is refused, stopping."""

import json
from dataclasses import replace
from statistics import median

import pytest
import torch

from engine import BenchmarkTask, Profile, Rule, benchmark_model, compute_need, read_shape
from engine.bandwidth import RamRate
from engine.benchmark import model as measuring
from engine.benchmark.memory import PeakMemory
from engine.benchmark.source import Source
from engine.errors import GenerationError, PlacementError, RequestTooLargeError, UnsupportedModelError
from engine.weights.names import Kind
from tests.engine.checkpoints import random_config, write_checkpoint
from tests.engine.text.tokenizers import trained

PROFILE = Profile(name="int8", precision="int8", cache_lens=256, max_new_tokens=32, compute="bfloat16")
TASK = BenchmarkTask(prompt_tokens=40, new_tokens=6, runs=2)


@pytest.fixture
def shape_file(tmp_path):
    def write(**config):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(random_config(**config)))
        return str(path)

    return write


@pytest.fixture(autouse=True)
def bandwidths(monkeypatch):
    """What memory is read at, without reading it: 256 MiB each time take most of such a test."""
    rates = iter(range(10**9, 2 * 10**9, 10**6))
    monkeypatch.setattr(measuring, "measure_ram", lambda threads: RamRate(next(rates), threads, 1))


def run(model, profiles=None, task=TASK, **flags):
    profiles = profiles or {"int8": PROFILE}
    return benchmark_model(model, profiles, task, random_weights=True, **flags)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("depth", [None, 0, 100])
def test_bytes_of_a_token_are_what_the_planner_says_of_weights_and_cache(shape_file, tied, depth):
    path = shape_file(tied=tied)
    found = run(path, task=replace(TASK, depth=depth))
    shape = read_shape(path)
    need = compute_need(shape, PROFILE)
    active = shape.config.num_experts_per_tok / shape.config.n_routed_experts
    weights = sum(
        tensor.nbytes * (active if tensor.assignment.spec.kind is Kind.EXPERTS else 1)
        for tensor in need.tensors
        if tied or tensor.assignment.spec.kind is not Kind.EMBEDDING
    )
    tokens = {None: 40, 0: 1, 100: 100}[depth] + 3
    assert found.profiles[0].bytes_per_token == int(weights) + need.cache_bytes_per_token * tokens


def test_rates_are_the_medians_of_their_samples_and_the_share_is_of_the_measured_bandwidth(shape_file):
    found = run(shape_file(), task=replace(TASK, runs=3))
    speed = found.profiles[0]
    samples = speed.samples
    assert (len(samples.prefill_tokens_per_s), len(samples.decode_tokens_per_s), len(samples.bandwidth)) == (
        3,
        3,
        4,
    )
    assert samples.bandwidth == (1.0e9, 1.001e9, 1.002e9, 1.003e9)
    assert min(samples.prefill_tokens_per_s) > 0
    assert speed.prefill_tokens_per_s == median(samples.prefill_tokens_per_s)
    assert speed.decode_tokens_per_s == median(samples.decode_tokens_per_s)
    rate = speed.bytes_per_token * speed.decode_tokens_per_s
    assert speed.gb_per_s == pytest.approx(rate / 1e9)
    assert speed.share_of_bandwidth == pytest.approx(rate / 1.0015e9)
    assert speed.peak_memory_bytes > 50_000_000
    assert speed.load_seconds > 0
    assert found.complete
    assert found.random_weights


def test_no_run_reuses_the_prefix_of_another(shape_file, monkeypatch):
    """A prompt whose beginning is in the cache would be read at no cost."""
    usages = []
    ask = measuring._Measuring._ask

    def remembering(self, *arguments):
        usage, steps = ask(self, *arguments)
        usages.append(usage)
        return usage, steps

    monkeypatch.setattr(measuring._Measuring, "_ask", remembering)
    run(shape_file(), task=replace(TASK, runs=3, chunk_sizes=(16,)))
    assert len(usages) == 1 + 3 + 3
    assert {usage.cached_tokens for usage in usages} == {0}


def test_smaller_chunks_make_more_steps_of_the_same_prompt(shape_file, monkeypatch):
    steps_seen = []
    ask = measuring._Measuring._ask

    def remembering(self, *arguments):
        usage, steps = ask(self, *arguments)
        steps_seen.append(len(steps))
        return usage, steps

    monkeypatch.setattr(measuring._Measuring, "_ask", remembering)
    found = run(shape_file(), task=BenchmarkTask(64, 2, runs=1, chunk_sizes=(16, 32, 64)))
    assert steps_seen[-3:] == [4, 2, 1]
    assert [chunk.chunk_size for chunk in found.chunks] == [16, 32, 64]
    assert all(0 < chunk.longest_chunk_seconds <= chunk.prompt_seconds for chunk in found.chunks)


def test_a_shape_is_cut_to_dense_and_expert_layers(shape_file):
    source = Source.of_shape(shape_file(), (1, 2))
    config = source.checkpoint.config
    assert [config.is_moe_layer(layer) for layer in range(config.num_hidden_layers)] == [False, True]
    with pytest.raises(PlacementError, match="has 3"):
        Source.of_shape(shape_file(), (None, 4))
    found = run(shape_file(), layers=(0, 1))
    assert found.profiles[0].decode_tokens_per_s > 0


def test_what_the_cache_cannot_hold_is_refused_before_anything_is_filled(shape_file):
    for task in (
        replace(TASK, prompt_tokens=256),
        replace(TASK, depth=251),
        replace(TASK, prompt_tokens=251),
    ):
        with pytest.raises(RequestTooLargeError, match=r"profile int8: 2(57|62) tokens .*cache_lens"):
            run(shape_file(), task=task)
    with pytest.raises(RequestTooLargeError, match="max_position_embeddings of the model"):
        run(shape_file(max_position_embeddings=32))


def test_another_architecture_and_a_rule_without_effect_are_refused(shape_file):
    with pytest.raises(UnsupportedModelError):
        run(shape_file(architectures=["LlamaForCausalLM"], model_type="llama"))
    useless = replace(PROFILE, rules=(Rule("model.layers.77.mlp", precision="int4"),))
    with pytest.raises(PlacementError, match="matches nothing"):
        run(shape_file(), {"good": PROFILE, "bad": useless})


def test_a_profile_that_does_not_fit_is_passed_by_with_its_reason(shape_file):
    large = replace(PROFILE, name="large", cache_lens=1 << 42)
    found = run(shape_file(), {"large": large, "int8": PROFILE})
    assert [speed.profile for speed in found.profiles] == ["int8"]
    assert [missing.profile for missing in found.not_measured] == ["large"]
    assert "GiB are free" in found.not_measured[0].message


def test_a_profile_that_fails_is_named_and_the_others_are_measured(shape_file, monkeypatch):
    ask = measuring._Measuring._ask

    def failing(self, *arguments):
        if self.name == "broken":
            raise GenerationError("the logits are not finite")
        return ask(self, *arguments)

    monkeypatch.setattr(measuring._Measuring, "_ask", failing)
    found = run(shape_file(), {"broken": replace(PROFILE, name="broken"), "int8": PROFILE})
    assert [(missing.profile, missing.fits) for missing in found.not_measured] == [("broken", True)]
    assert [speed.decode_tokens_per_s is None for speed in found.profiles] == [True, False]


@pytest.mark.parametrize("stage", ["filling random weights", "measuring", "chunks of 16"])
def test_what_was_measured_before_a_stop_stays(shape_file, stage):
    stages = []
    found = run(
        shape_file(),
        {"first": PROFILE, "second": replace(PROFILE, name="second")},
        replace(TASK, chunk_sizes=(16, 32)),
        on_progress=lambda at: stages.append((at.profile, at.stage)),
        cancelled=lambda: ("second", stage) in stages,
    )
    assert not found.complete
    assert found.profiles[0].profile == "first"
    assert found.profiles[0].decode_tokens_per_s > 0
    assert [chunk.profile for chunk in found.chunks[:2]] == ["first", "first"]
    assert len(found.profiles) == (1 if stage.startswith("filling") else 2)


def test_a_checkpoint_is_asked_for_a_review_of_code_where_it_has_no_tokenizer_for_ids(tmp_path):
    write_checkpoint(tmp_path / "model", random_config())
    found = benchmark_model(str(tmp_path / "model"), {"int8": PROFILE}, TASK)
    assert not found.random_weights
    assert found.profiles[0].prefill_tokens_per_s > 0
    assert any("tokenizer" in note for note in found.notes)


def test_a_tokenizer_gives_a_review_of_code_of_exactly_so_many_tokens(tmp_path):
    write_checkpoint(tmp_path, random_config(vocab_size=450, num_hidden_layers=2), dtype=torch.float32)
    source = Source.of_model(str(trained(tmp_path, "byte-level")))
    for length in (3, 100, 30_000):
        assert len(source.prompt(length)) == length
    text = source.tokenizer.decode(source.prompt(200))
    assert text.startswith("Review the following code.")
    assert "tokens of which requests the next step computes" in text


def test_peak_memory_counts_stretches_and_not_what_lies_between():
    memory = PeakMemory()
    before = memory.read()
    block = bytearray(64 << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    after = memory.read()
    assert after > before + (32 << 20)
    del block
    assert memory.read() >= after
