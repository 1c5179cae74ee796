"""Profiles: values, the strict YAML reader, overrides, the rule grammar, names to files. Knows no tensors."""

from engine.profile.find import ProfileEntry, find_profile, list_profiles
from engine.profile.overrides import environment_overrides, with_overrides
from engine.profile.reader import parse_profile, read_profile
from engine.profile.rules import RuleMatcher
from engine.profile.values import Compute, Precision, Profile, Rule

__all__ = [
    "Compute",
    "Precision",
    "Profile",
    "ProfileEntry",
    "Rule",
    "RuleMatcher",
    "environment_overrides",
    "find_profile",
    "list_profiles",
    "parse_profile",
    "read_profile",
    "with_overrides",
]
