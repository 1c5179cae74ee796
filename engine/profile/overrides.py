"""Values of a profile from the command line and the environment. Knows no YAML and no other flags.

Precedence, highest first: command line, environment, the profile's file. Front ends therefore pass
`[*environment_overrides(os.environ), *set_flags]`: a later entry wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import ProfileError
from engine.profile.built import BUILT, HOMELESS_KEYS, Built
from engine.profile.keys import (
    CAPACITY_KEYS,
    KEYS,
    RULES,
    SECTIONS,
    check_capacity,
    fill,
    not_built_key,
    read_value,
)
from engine.profile.scalars import Scalar, nearest, shown
from engine.profile.values import Profile

PREFIX = "DSV3CHAT_"
_OTHERS = (
    "MODEL",
    "ISA",  # the native kernels' instruction set
    "PROFILE",
    "CONFIG_DIR",
    "STATE_DIR",
    "CACHE_DIR",
)  # read by the command line and engine.paths
_OF_VARIABLE = {key.replace(".", "_").upper(): key for key in KEYS}


def with_overrides(profile: Profile, overrides: Sequence[str], built: Built = BUILT) -> Profile:
    """`profile` with each `KEY=VALUE` applied in order; keys are dotted, as in `sampling.temperature=0`.

    Every check of the reader runs again on the result. ProfileError names the entry.
    """
    values: dict[str, Any] = {}
    entry_of: dict[str, str] = {}
    for entry in overrides:
        key, separator, text = entry.partition("=")
        key = key.strip()
        where = f"--set {shown(entry)}"
        if not separator:
            raise ProfileError(f"{where}: found no =; expected KEY=VALUE, such as cache_lens=16384")
        values[key] = _value(where, key, text, built)
        entry_of[key] = where
    changed = fill(profile, values)
    given = [key for key in CAPACITY_KEYS if key in entry_of]
    where = str(profile.source or profile.name)
    if given:
        where = f"{entry_of[given[0]]} (or {PREFIX}{given[0].upper()})"
    check_capacity(changed, lambda message: ProfileError(f"{where}: cache_lens: {message}"))
    return changed


def environment_overrides(environ: Mapping[str, str], built: Built = BUILT) -> list[str]:
    """`KEY=VALUE` for each DSV3CHAT_ variable that sets a value of the profile: DSV3CHAT_SAMPLING_TEMPERATURE=0.

    An empty variable is not set; DSV3CHAT_TEST_ names belong to the tests. ProfileError for a value that cannot be, and for an unknown name, which is a
    misspelling that would otherwise do nothing.
    """
    overrides = []
    for variable in sorted(environ):
        name = variable.removeprefix(PREFIX)
        if name == variable or name in _OTHERS or name.startswith("TEST_") or not environ[variable]:
            continue
        if name in map(str.upper, HOMELESS_KEYS):
            raise ProfileError(f"environment: {variable}: {not_built_key(name.lower())}")
        if name not in _OF_VARIABLE:
            known = [PREFIX + known for known in (*_OF_VARIABLE, *_OTHERS)]
            near = (
                nearest(variable, [k.lower() for k in known])
                .upper()
                .replace("; NEAREST KNOWN", "; nearest known")
            )
            raise ProfileError(
                f"environment: {shown(variable)}: unknown variable{near}; unset it or correct its name"
            )
        key = _OF_VARIABLE[name]
        _value(f"environment: {variable}", key, environ[variable], built)
        overrides.append(f"{key}={environ[variable]}")
    return overrides


def _value(where: str, key: str, text: str, built: Built) -> Any:
    if key in HOMELESS_KEYS:
        raise ProfileError(f"{where}: {not_built_key(key)}")
    if key == RULES:
        raise ProfileError(f"{where}: {RULES} is a list, which only a profile file can hold")
    if key in SECTIONS:
        inside = ", ".join(name for name in KEYS if name.startswith(f"{key}."))
        raise ProfileError(f"{where}: {key} is a group of keys; expected one of {inside}")
    if key not in KEYS:
        tail = [name for name in KEYS if name.rpartition(".")[2] == key]
        near = f"; nearest known: {tail[0]}" if tail else nearest(key, KEYS)
        raise ProfileError(f"{where}: {shown(key)}: unknown key{near}; known: {', '.join(KEYS)}")
    try:
        return read_value(KEYS[key], key.rpartition(".")[2], Scalar(text.strip(), "any"), built)
    except ValueError as error:
        raise ProfileError(f"{where}: {key}: {error}") from None
