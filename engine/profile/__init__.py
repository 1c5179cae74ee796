"""Profiles: values, the strict YAML reader, overrides, the rule grammar, names to files. Knows no tensors."""

from engine.profile.built import BUILT, EVERYTHING, Built
from engine.profile.find import PROJECT_PROFILES, ProfileEntry, find_profile, list_profiles
from engine.profile.listing import profile_lines, profile_values
from engine.profile.missing import missing_parts
from engine.profile.overrides import environment_overrides, with_overrides
from engine.profile.project import PROJECT_FILE, ProjectFile, read_project_file
from engine.profile.reader import parse_profile, read_profile
from engine.profile.rules import RuleMatcher
from engine.profile.values import Compute, Precision, Profile, Rule

__all__ = [
    "BUILT",
    "EVERYTHING",
    "PROJECT_FILE",
    "PROJECT_PROFILES",
    "Built",
    "Compute",
    "Precision",
    "Profile",
    "ProfileEntry",
    "ProjectFile",
    "Rule",
    "RuleMatcher",
    "environment_overrides",
    "find_profile",
    "list_profiles",
    "missing_parts",
    "parse_profile",
    "profile_lines",
    "profile_values",
    "read_profile",
    "read_project_file",
    "with_overrides",
]
