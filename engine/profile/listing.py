"""The keys of a profile as a list: which a file sets and where, and what value each has. Knows no machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from engine.profile.keys import KEYS, SAMPLING, SECTIONS
from engine.profile.nodes import Source, compose, dotted, entries, line_of, what
from engine.profile.values import Profile


def profile_values(profile: Profile) -> dict[str, Any]:
    """Dotted key -> value, every key but optimization_rules; None where nothing is said."""
    return {
        name: getattr(profile.sampling if name.startswith(SAMPLING) else profile, key.field)
        for name, key in KEYS.items()
    }


def profile_lines(path: Path) -> dict[str, int]:
    """Dotted key -> line of the keys that a profile's file sets, optimization_rules among them."""
    where = Source(str(path))
    text = path.read_text(encoding="utf-8-sig")
    return {key: line for key, line, _ in flat_entries(compose(text, where), where)}


def flat_entries(root: yaml.MappingNode, where: Source) -> list[tuple[str, int, yaml.Node]]:
    """(dotted key, line, value) of a file, its groups of keys opened. ProfileError for a group that is none."""
    found: list[tuple[str, int, yaml.Node]] = []
    for key, line, node in entries(root, "", where):
        if key not in SECTIONS:
            found.append((key, line, node))
        elif isinstance(node, yaml.MappingNode):
            found += [(dotted(key, name), at, value) for name, at, value in entries(node, key, where)]
        else:
            raise where.error(line_of(node), key, f"{what(node)}; expected keys and values below it")
    return found
