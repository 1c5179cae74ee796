"""What two profiles say differently: keys with their values, and rules as a diff. Knows no model and no machine."""

from __future__ import annotations

import difflib
from typing import Any

from dsv3chat.sanitize import clean_line
from engine import Profile, Rule, profile_values

_ABOUT = ("name", "description")  # differ between any two profiles


def changed_keys(before: Profile, after: Profile) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (value before, value after), of those that differ; name and description are left out."""
    values = profile_values(after)
    return {
        key: (value, values[key])
        for key, value in profile_values(before).items()
        if key not in _ABOUT and value != values[key]
    }


def rule_lines(before: Profile, after: Profile) -> list[str]:
    """The rules of both in order: `- ` and `+ ` before what only one has, two spaces before what both have."""
    first, second = (list(map(rule_text, profile.rules)) for profile in (before, after))
    return [line for line in difflib.ndiff(first, second) if not line.startswith("?")]


def rule_text(rule: Rule) -> str:
    """One rule on one line, without where it stands."""
    parts = {key: getattr(rule, key) for key in ("device", "precision", "group_size", "gpu_resident")}
    said = ", ".join(f"{key} {value}" for key, value in parts.items() if value is not None)
    return f"{rule.match}: {said}"


def shown_value(value: Any) -> str:
    """A value of a profile for a person."""
    return "not said" if value is None else clean_line(str(value))
