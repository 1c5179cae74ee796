"""The keys of a profile: where each stands, how it is read, which field it fills. Knows no YAML.

A dotted key (`sampling.temperature`) is the name in a file, in `--set` and, in capitals, in the environment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from engine.profile import scalars
from engine.profile.built import (
    COMPUTES,
    HOMELESS_KEYS,
    KV_PRECISIONS,
    NOT_BUILT,
    PRECISIONS,
    Built,
    is_built_key,
)
from engine.profile.scalars import Read, Scalar
from engine.profile.values import Fit, Profile
from engine.sampling import SamplingParams

_TOKENS = scalars.integer(1, 2**31 - 1)
_FITS: tuple[str, ...] = get_args(Fit)
_precision = scalars.choice(PRECISIONS, lambda built: built.precisions)


@dataclass(frozen=True, slots=True)
class Key:
    """One value. `field` is the field of Profile (or of SamplingParams, for sampling.*) that it fills."""

    field: str
    read: Read
    nullable: bool = False  # null means "not said"


def _sampling(name: str, read: Read) -> Key:
    """SamplingParams itself holds the range of each field."""

    def checked(scalar: Scalar, built: Built) -> Any:
        value = read(scalar, built)
        SamplingParams(**{name: value})
        return value

    return Key(name, checked, nullable=True)


SAMPLING = "sampling."
KEYS: Mapping[str, Key] = {
    "name": Key("name", scalars.line_of_text),
    "description": Key("description", scalars.text),
    "model": Key("model", scalars.text, nullable=True),
    "defaults.device": Key("device", scalars.default_device),
    "defaults.precision": Key("precision", _precision),
    "defaults.group_size": Key("group_size", scalars.group_size, nullable=True),
    "defaults.fit": Key("fit", scalars.choice(_FITS, lambda built: _FITS)),
    "compute": Key("compute", scalars.choice(COMPUTES, lambda built: COMPUTES)),
    "cache_lens": Key("cache_lens", _TOKENS),
    "max_batch_size": Key("max_batch_size", scalars.integer(1, 4096)),
    "chunk_size": Key("chunk_size", scalars.integer(1, 2**20)),
    "max_new_tokens": Key("max_new_tokens", _TOKENS),
    "kv_precision": Key("kv_precision", scalars.choice(KV_PRECISIONS, lambda built: built.kv_precisions)),
    "sampling.temperature": _sampling("temperature", scalars.number),
    "sampling.top_p": _sampling("top_p", scalars.number),
    "sampling.top_k": _sampling("top_k", scalars.integer(0, 2**31)),
    "sampling.min_p": _sampling("min_p", scalars.number),
    "sampling.repetition_penalty": _sampling("repetition_penalty", scalars.number),
    "sampling.seed": _sampling("seed", scalars.integer(0, 2**63 - 1)),
    "loop_guard": Key("loop_guard", scalars.boolean),
    "threads": Key("threads", scalars.integer(1, 1024), nullable=True),
}
RULE_KEYS: Mapping[str, Key] = {
    "match": Key("match", scalars.text),
    "device": Key("device", scalars.device),
    "precision": Key("precision", _precision),
    "group_size": Key("group_size", scalars.group_size),
    "gpu_resident": Key("gpu_resident", scalars.gpu_resident),
}
RULES = "optimization_rules"
SECTIONS: tuple[str, ...] = ("defaults", "sampling")
TOP_LEVEL: tuple[str, ...] = (
    *dict.fromkeys(key.partition(".")[0] for key in KEYS),
    RULES,
    *HOMELESS_KEYS,
)


def read_value(key: Key, last_part: str, scalar: Scalar, built: Built) -> Any:
    """The value of one key; ValueError with what was found and expected, or that the key is not built."""
    if not is_built_key(last_part, built):
        raise ValueError(not_built_key(last_part))
    if key.nullable and scalar.is_null:
        return None
    return key.read(scalar, built)


def not_built_key(last_part: str) -> str:
    return f"{last_part} is {NOT_BUILT}; leave the key out"


def fill(profile: Profile, values: Mapping[str, Any]) -> Profile:
    """`profile` with the values of dotted keys in their fields."""
    top = {KEYS[key].field: value for key, value in values.items() if not key.startswith(SAMPLING)}
    sampling = {KEYS[key].field: value for key, value in values.items() if key.startswith(SAMPLING)}
    return replace(profile, **top, sampling=replace(profile.sampling, **sampling))


CAPACITY_KEYS: tuple[str, ...] = ("cache_lens", "max_batch_size", "max_new_tokens")


def check_capacity(profile: Profile, error: Callable[[str], Exception]) -> None:
    """The KV pool holds every request of a full batch at its longest: cache_lens >= max_batch_size * max_new_tokens."""
    needed = profile.max_batch_size * profile.max_new_tokens
    if profile.cache_lens < needed:
        raise error(
            f"found {profile.cache_lens} tokens for {profile.max_batch_size} requests (max_batch_size) of "
            f"{profile.max_new_tokens} new tokens (max_new_tokens), which would wait for each other; "
            f"expected at least {needed}: set cache_lens: {needed}, or lower one of the other two"
        )
