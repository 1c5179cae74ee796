"""Who decides a sampling value: flag, profile, the checkpoint's generation_config.json, built in. Knows no tensors.

Built in, as vLLM, SGLang and the OpenAI API have it: temperature 1, and no filter and no penalty.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypeVar

from engine.sampling import ResolvedSampling, SamplingParams

T = TypeVar("T")

TEMPERATURE = 1.0
TOP_K = 0
TOP_P = 1.0
MIN_P = 0.0
REPETITION_PENALTY = 1.0

_INTEGERS = ("top_k",)
_NUMBERS = ("temperature", "top_p", "min_p", "repetition_penalty")


def checkpoint_sampling(generation_config: Mapping[str, object]) -> tuple[SamplingParams, tuple[str, ...]]:
    """What generation_config.json says about sampling, and a note for each value that cannot be used.

    Only temperature, top_k, top_p, min_p, repetition_penalty and do_sample are read. null is "not said", top_k -1 is
    0 (off), `do_sample: false` is temperature 0. A value of a wrong type or out of range is left out: a checkpoint's
    file must not keep a person from chatting, and the notes are there to be shown once.
    """
    found: dict[str, float] = {}
    notes = []
    for name in _INTEGERS + _NUMBERS:
        value = generation_config.get(name)
        if value is None:
            continue
        kinds: tuple[type, ...] = (int,) if name in _INTEGERS else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            notes.append(f"generation_config.json: {name} = {value!r} is not a number and is ignored")
            continue
        assert isinstance(value, int | float)
        value = 0 if name == "top_k" and value == -1 else value
        try:
            SamplingParams(**{name: value})  # type: ignore[arg-type]  # one of the numeric fields
        except ValueError as error:
            notes.append(f"generation_config.json: {error}; ignored")
            continue
        found[name] = value
    do_sample = generation_config.get("do_sample")
    if do_sample is False:
        found["temperature"] = 0.0
    elif do_sample is not None and do_sample is not True:
        notes.append(f"generation_config.json: do_sample = {do_sample!r} is neither true nor false; ignored")
    return SamplingParams(**found), tuple(notes)  # type: ignore[arg-type]


def resolve(
    flag: SamplingParams,
    profile: SamplingParams,
    generation_config: Mapping[str, object],
    profile_max_new_tokens: int,
    context_left: int | None,
    loop_guard: bool = False,
) -> ResolvedSampling:
    """Ask flag, profile `sampling`, checkpoint and built-in values in this order, field by field.

    Temperature 0 switches the repetition penalty off unless the flag gives one. max_new_tokens is the flag's as it is
    (the scheduler refuses what does not fit), else the profile's, cut to `context_left` where there is any.
    Without a seed one of 32 bits is drawn: short enough to be typed again, exact in JSON.
    """
    checkpoint, _ = checkpoint_sampling(generation_config)
    temperature = _first(flag.temperature, profile.temperature, checkpoint.temperature, TEMPERATURE)
    if temperature == 0.0:
        penalty = _first(flag.repetition_penalty, REPETITION_PENALTY)
    else:
        penalty = _first(
            flag.repetition_penalty,
            profile.repetition_penalty,
            checkpoint.repetition_penalty,
            REPETITION_PENALTY,
        )
    max_new_tokens = flag.max_new_tokens
    if max_new_tokens is None:
        max_new_tokens = _first(profile.max_new_tokens, profile_max_new_tokens)
        if context_left is not None and context_left > 0:
            max_new_tokens = min(max_new_tokens, context_left)
    seed = flag.seed if flag.seed is not None else profile.seed
    return ResolvedSampling(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=_first(flag.top_k, profile.top_k, checkpoint.top_k, TOP_K),
        top_p=_first(flag.top_p, profile.top_p, checkpoint.top_p, TOP_P),
        min_p=_first(flag.min_p, profile.min_p, checkpoint.min_p, MIN_P),
        repetition_penalty=penalty,
        seed=seed if seed is not None else int.from_bytes(os.urandom(4)),
        stop=flag.stop or profile.stop,
        logprobs=flag.logprobs if flag.logprobs is not None else profile.logprobs,
        ignore_eos=flag.ignore_eos or profile.ignore_eos,
        loop_guard=_first(
            flag.loop_guard, loop_guard and not (flag.ignore_eos or profile.ignore_eos or flag.grammar)
        ),
    )


def _first(*values: T | None) -> T:
    """The first value that is said; the last one always is."""
    for value in values:
        if value is not None:
            return value
    raise AssertionError("the built-in value is missing")
