"""Which source decides a sampling value."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.defaults import checkpoint_sampling, resolve
from engine.sampling import SamplingParams

NONE = SamplingParams()
FIELDS = {"temperature": 0.25, "top_k": 7, "top_p": 0.5, "min_p": 0.125, "repetition_penalty": 1.25}


@pytest.mark.parametrize(
    ("name", "built_in"),
    [("temperature", 1.0), ("top_k", 0), ("top_p", 1.0), ("min_p", 0.0), ("repetition_penalty", 1.0)],
)
def test_flag_then_profile_then_checkpoint_then_built_in(name, built_in):
    flag, profile, checkpoint = (FIELDS[name], 1, 0.75) if name != "top_k" else (7, 8, 9)

    def value(**sources: SamplingParams) -> object:
        config = sources.get("config", {})
        resolved = resolve(sources.get("flag", NONE), sources.get("profile", NONE), config, 64, None)
        return getattr(resolved, name)

    flag_params, profile_params = SamplingParams(**{name: flag}), SamplingParams(**{name: profile})
    config = {name: checkpoint}
    assert value(flag=flag_params, profile=profile_params, config=config) == flag
    assert value(profile=profile_params, config=config) == profile
    assert value(config=config) == checkpoint
    assert value() == built_in


def test_a_zero_that_is_said_is_not_unsaid():
    resolved = resolve(
        SamplingParams(temperature=0.0, top_k=0, min_p=0.0, seed=0, logprobs=0),
        SamplingParams(temperature=0.7, top_k=20, min_p=0.1, seed=5, logprobs=3),
        {},
        64,
        None,
    )
    assert (resolved.temperature, resolved.top_k, resolved.min_p, resolved.seed) == (0.0, 0, 0.0, 0)
    assert resolved.logprobs == 0


def test_a_checkpoint_that_does_not_sample_is_greedy_whatever_its_temperature():
    assert resolve(NONE, NONE, {"do_sample": False, "temperature": 0.6}, 64, None).temperature == 0.0
    assert resolve(NONE, NONE, {"do_sample": True, "temperature": 0.6}, 64, None).temperature == 0.6
    assert resolve(NONE, NONE, {"temperature": 0.6}, 64, None).temperature == 0.6
    assert resolve(SamplingParams(temperature=0.9), NONE, {"do_sample": False}, 64, None).temperature == 0.9


@pytest.mark.parametrize(
    ("flag", "profile", "config"),
    [
        (SamplingParams(temperature=0.0), SamplingParams(repetition_penalty=1.2), {}),
        (SamplingParams(temperature=0.0), NONE, {"repetition_penalty": 1.05}),
        (NONE, SamplingParams(temperature=0.0, repetition_penalty=1.2), {}),
        (NONE, NONE, {"do_sample": False, "repetition_penalty": 1.05}),
    ],
)
def test_temperature_0_switches_the_repetition_penalty_off(flag, profile, config):
    resolved = resolve(flag, profile, config, 64, None)
    assert (resolved.temperature, resolved.repetition_penalty) == (0.0, 1.0)


def test_temperature_0_keeps_a_penalty_of_the_flag():
    resolved = resolve(SamplingParams(temperature=0.0, repetition_penalty=1.1), NONE, {}, 64, None)
    assert resolved.repetition_penalty == 1.1


@pytest.mark.parametrize(
    ("flag", "profile", "left", "expected"),
    [
        (None, None, None, 64),
        (None, 32, None, 32),
        (16, 32, None, 16),
        (None, None, 10, 10),
        (None, 32, 10, 10),
        (16, None, 10, 16),  # refused by the scheduler, with the numbers, rather than cut
        (None, None, 0, 64),
        (None, None, -5, 64),
        (None, None, 1000, 64),
    ],
)
def test_max_new_tokens_of_the_flag_stands_and_any_other_is_cut_to_the_context(flag, profile, left, expected):
    resolved = resolve(
        SamplingParams(max_new_tokens=flag), SamplingParams(max_new_tokens=profile), {}, 64, left
    )
    assert resolved.max_new_tokens == expected


def test_a_checkpoint_does_not_decide_lengths_or_seeds():
    resolved = resolve(
        NONE, SamplingParams(seed=3), {"max_new_tokens": 5, "max_length": 6, "seed": 9}, 64, None
    )
    assert (resolved.max_new_tokens, resolved.seed) == (64, 3)


def test_without_a_seed_each_request_draws_its_own_and_a_given_one_stands():
    seeds = {resolve(NONE, NONE, {}, 64, None).seed for _ in range(20)}
    assert len(seeds) == 20
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert resolve(SamplingParams(seed=5), SamplingParams(seed=6), {}, 64, None).seed == 5


def test_stop_strings_logprobs_and_ignore_eos_come_from_flag_or_profile():
    profile = SamplingParams(stop=("p",), logprobs=2, ignore_eos=True)
    from_profile = resolve(NONE, profile, {}, 64, None)
    assert (from_profile.stop, from_profile.logprobs, from_profile.ignore_eos) == (("p",), 2, True)
    assert resolve(SamplingParams(stop=("f",)), profile, {}, 64, None).stop == ("f",)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": [0.9]}, "top_p"),
        ({"top_k": 2.5}, "top_k"),
        ({"top_k": 10**400}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"do_sample": "no"}, "do_sample"),
    ],
)
def test_what_a_checkpoint_says_wrongly_is_left_out_and_noted(config, word):
    params, notes = checkpoint_sampling(config)
    assert params == NONE
    assert len(notes) == 1
    assert word in notes[0]
    assert resolve(NONE, NONE, config, 64, None).temperature == 1.0


def test_null_unknown_keys_and_top_k_minus_1_are_no_mistakes():
    params, notes = checkpoint_sampling(
        {"top_k": -1, "temperature": None, "transformers_version": "4.0", "a": {}}
    )
    assert params == SamplingParams(top_k=0)
    assert notes == ()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from([*FIELDS, "do_sample", "eos_token_id"]), json_values))
def test_no_generation_config_makes_a_request_fail(config):
    resolved = resolve(NONE, NONE, json.loads(json.dumps(config)), 64, None)
    for name in FIELDS:
        SamplingParams(**{name: getattr(resolved, name)})
