"""An evaluation of small random checkpoints: the same figures as transformers and plain torch give."""

import json
import math
from dataclasses import replace

import pytest
import torch

from engine import Engine, PlacementError, Profile, PromptError, Rule, evaluate
from engine.errors import RequestTooLargeError
from engine.evaluation import answers, scoring
from engine.evaluation.scoring import read_text
from engine.evaluation.windows import windows
from tests.engine.checkpoints import random_config, transformers_model, write_checkpoint
from tests.engine.text.tokenizers import trained

PROFILE = Profile("p", cache_lens=1024, max_batch_size=2, max_new_tokens=64, chunk_size=48)
TEXT = '{"name":"Ada","tags":["x","yy"]} some ordinary words of a sentence. ' * 20


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """(folder, config, float32 values of the weights)."""
    folder = tmp_path_factory.mktemp("model")
    config = random_config(vocab_size=450, num_hidden_layers=2)
    weights = write_checkpoint(folder, config, seed=5, dtype=torch.float32)
    trained(folder, "byte-level")
    return folder, config, weights


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Of 96 tokens, so that a short text has several."""
    monkeypatch.setattr(scoring, "windows", lambda num_tokens: windows(num_tokens, 96, 40))
    monkeypatch.setattr(answers, "ANSWER_TOKENS", 24)


def rounded(weights):
    """What precision bf16 makes of them: matrices rounded, norms and routers as they are."""
    return {
        name: w.bfloat16().float() if w.dim() == 2 and not name.endswith("mlp.gate.weight") else w
        for name, w in weights.items()
    }


def log_probabilities(transformers, text) -> torch.Tensor:
    """(counted tokens, vocabulary), float64, by windows."""
    parts = []
    for window in text.windows:
        ids = [*text.beginning, *text.ids[window.start : window.stop]]
        with torch.inference_mode():
            logits = transformers(torch.tensor([ids])).logits[0].double()
        before = window.first - window.start + len(text.beginning) - 1
        parts.append(torch.log_softmax(logits[before:-1], dim=1))
    return torch.cat(parts)


@pytest.mark.parametrize("begins", [False, True])
def test_figures_are_those_of_a_plain_computation(model, begins, monkeypatch):
    folder, config, weights = model
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"add_bos_token": begins}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    text = read_text(folder, TEXT, 300)
    assert (len(text.ids), len(text.beginning), len(text.windows)) == (300, begins, 7)
    reference = log_probabilities(transformers_model(config, weights), text)
    changed = log_probabilities(transformers_model(config, rounded(weights)), text)
    came = torch.tensor(text.ids[1:])[:, None]

    found = evaluate(folder, {"half": replace(PROFILE, precision="bf16")}, TEXT, max_tokens=300)
    half = found.profiles[0]
    assert (found.num_tokens, half.name, half.answers) == (299, "half", None)
    p, q = -reference.gather(1, came), -changed.gather(1, came)
    assert found.reference.perplexity == pytest.approx(math.exp(p.mean()), rel=1e-5)
    assert half.perplexity == pytest.approx(math.exp(q.mean()), rel=1e-4)
    assert half.change.value == pytest.approx(math.exp((q - p).mean()) - 1, abs=1e-4)
    kl = (reference.exp() * (reference - changed)).sum(1)
    assert half.kl.value == pytest.approx(float(kl.mean()), rel=0.02)  # float32 arithmetic on either side
    assert 1e-6 < half.kl.value < 1e-2
    agree = (reference.argmax(1) == changed.argmax(1)).double().mean()
    assert half.agreement.value == pytest.approx(float(agree), abs=2 / 299)  # near ties may fall either way
    assert len(half.kl_blocks) == len(half.nll_blocks) == len(found.reference.nll_blocks) == 299 // 64
    assert (found.reference.kl.value, found.reference.agreement.value) == (0.0, 1.0)


def test_the_reference_against_itself_differs_by_nothing(model):
    found = evaluate(model[0], {"same": PROFILE}, TEXT, max_tokens=200)
    same = found.profiles[0]
    assert (same.weights_bytes, same.change.value) == (
        found.reference.weights_bytes,
        pytest.approx(0, abs=1e-6),
    )
    assert same.kl.value == pytest.approx(0.0, abs=1e-9)
    assert same.agreement.value == 1.0


def test_coarser_weights_diverge_further_and_take_fewer_bytes(model):
    precisions = ("bf16", "int8", "int4")
    profiles = {name: replace(PROFILE, precision=name) for name in precisions}
    found = evaluate(model[0], profiles, TEXT, max_tokens=260)
    kl = [quality.kl.value for quality in found.profiles]
    sizes = [quality.weights_bytes for quality in found.profiles]
    assert kl == sorted(kl)
    assert sizes == sorted(sizes, reverse=True)
    assert [quality.name for quality in found.profiles] == list(precisions)
    assert ("bf16", "int4") not in [(tie.first, tie.second) for tie in found.ties]


def test_answers_are_greedy_of_a_bounded_length_and_without_the_end_of_turn(model):
    found = evaluate(model[0], {"p": PROFILE}, TEXT, max_tokens=60, num_answers=2)
    given = found.profiles[0].answers
    assert len(given.tokens) == len(given.repeated) == len(given.looping) == 2
    assert max(given.tokens) <= 24
    with Engine.open(model[0], PROFILE) as engine:
        again = answers.answer(engine, answers_of(2), lambda done: None)
    assert replace(again, seconds=0.0) == replace(given, seconds=0.0)
    assert found.reference.answers is None


def answers_of(count: int) -> tuple[str, ...]:
    from engine.evaluation.prompts import PROMPTS

    return PROMPTS[:count]


def test_progress_names_every_profile_in_order(model):
    seen = []
    evaluate(model[0], {"p": PROFILE}, TEXT, max_tokens=60, num_answers=1, on_progress=seen.append)
    assert list(dict.fromkeys((at.index, at.name) for at in seen)) == [(0, "reference"), (1, "p")]
    assert {at.count for at in seen} == {2}
    assert [at.done for at in seen if at.stage == "answers"] == [0, 1]


def test_a_profile_that_cannot_be_placed_is_refused_before_anything_is_loaded(model):
    seen = []
    wrong = replace(PROFILE, rules=(Rule("model.layers.9", precision="int4"),))
    with pytest.raises(PlacementError, match=r"model\.layers\.9"):
        evaluate(model[0], {"p": PROFILE, "wrong": wrong}, TEXT, on_progress=seen.append)
    assert seen == []


def test_a_text_of_less_than_two_tokens_and_a_pool_below_a_window_are_refused(model):
    with pytest.raises(PromptError, match="has 0 tokens; at least two"):
        evaluate(model[0], {"p": PROFILE}, "")
    small = replace(PROFILE, cache_lens=64, max_batch_size=1)
    with pytest.raises(RequestTooLargeError, match="room for 64 tokens"):
        evaluate(model[0], {"p": small}, TEXT, max_tokens=100)
