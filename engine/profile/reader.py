"""The strict reader of profile files: YAML text to a Profile. Knows no machine and no model.

Every error is a ProfileError that begins with `FILE:LINE: KEY` and says what was found and what is expected; an
unknown key names the nearest known one.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from engine.errors import ProfileError
from engine.profile.built import BUILT, HOMELESS_KEYS, Built
from engine.profile.keys import (
    CAPACITY_KEYS,
    KEYS,
    RULE_KEYS,
    RULES,
    SECTIONS,
    TOP_LEVEL,
    Key,
    check_capacity,
    fill,
    not_built_key,
    read_value,
)
from engine.profile.nodes import Source, compose, dotted, entries, line_of, scalar_of, what
from engine.profile.rules import RuleMatcher
from engine.profile.scalars import nearest
from engine.profile.values import Profile, Rule


def read_profile(path: Path, built: Built = BUILT) -> Profile:
    """The profile in the file `path`, UTF-8. ProfileError also for a file that cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ProfileError(f"{path}:{line}: file: found bytes that are not UTF-8; save it as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ProfileError(f"{path}:1: file: cannot be read: {reason}") from None
    return parse_profile(text, path, built)


def parse_profile(text: str, source: Path | None = None, built: Built = BUILT) -> Profile:
    """The profile that `text` describes. Without a `name` it is called as the file is, without its suffix."""
    where = Source(str(source) if source else "profile")
    root = compose(text, where)
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    rules: tuple[Rule, ...] = ()
    for key, line, node in entries(root, "", where):
        if key in HOMELESS_KEYS:
            raise where.error(line, key, not_built_key(key))
        if key not in TOP_LEVEL:
            raise _unknown(where, line, "", key, TOP_LEVEL)
        lines[key] = line
        if key == RULES:
            rules = _rules(node, line, where, built)
        elif key in SECTIONS:
            known = [name.partition(".")[2] for name in KEYS if name.startswith(f"{key}.")]
            for name, name_line, value in entries(_mapping(node, line, key, where), key, where):
                if name not in known:
                    raise _unknown(where, name_line, key, name, known)
                full = f"{key}.{name}"
                values[full] = _value(KEYS[full], full, name_line, value, where, built)
        else:
            values[key] = _value(KEYS[key], key, line, node, where, built)
    name = source.stem if source and source.stem else "unnamed"
    profile = fill(Profile(name=name, rules=rules, source=source), values)
    capacity_line = next((lines[key] for key in CAPACITY_KEYS if key in lines), 1)
    check_capacity(profile, lambda message: where.error(capacity_line, "cache_lens", message))
    return profile


def _rules(node: yaml.Node, line: int, where: Source, built: Built) -> tuple[Rule, ...]:
    if not isinstance(node, yaml.SequenceNode):
        raise where.error(
            line, RULES, f"{what(node)}; expected a list of rules, each beginning with `- match:`"
        )
    return tuple(_rule(item, f"{RULES}[{i}]", where, built) for i, item in enumerate(node.value))


def _rule(node: yaml.Node, prefix: str, where: Source, built: Built) -> Rule:
    line = line_of(node)
    values: dict[str, Any] = {}
    for key, key_line, value in entries(_mapping(node, line, prefix, where), prefix, where):
        if key not in RULE_KEYS:
            raise _unknown(where, key_line, prefix, key, RULE_KEYS)
        values[key] = _value(RULE_KEYS[key], f"{prefix}.{key}", key_line, value, where, built)
        if key == "match":
            try:
                RuleMatcher(values[key])
            except ProfileError as error:
                raise where.error(key_line, f"{prefix}.match", str(error)) from None
    if "match" not in values:
        raise where.error(
            line, f"{prefix}.match", "found no match; expected a module path such as model.layers.0-15"
        )
    if len(values) == 1:
        others = ", ".join(key for key in RULE_KEYS if key != "match")
        raise where.error(line, prefix, f"found a rule that decides nothing; expected one of {others}")
    return Rule(line=line, **values)


def _mapping(node: yaml.Node, line: int, key: str, where: Source) -> yaml.MappingNode:
    if not isinstance(node, yaml.MappingNode):
        raise where.error(line, key, f"{what(node)}; expected keys and values below it")
    return node


def _value(key: Key, full: str, line: int, node: yaml.Node, where: Source, built: Built) -> Any:
    try:
        return read_value(key, full.rpartition(".")[2], scalar_of(node), built)
    except ValueError as error:
        raise where.error(line, full, str(error)) from None


def _unknown(where: Source, line: int, prefix: str, key: str, known: Collection[str]) -> ProfileError:
    message = f"unknown key{nearest(key, known)}; keys here: {', '.join(known)}"
    return where.error(line, dotted(prefix, key), message)
