"""Profiles: values, the strict YAML reader, the rule grammar. Knows no tensors."""

from engine.profile.values import Compute, Precision, Profile, Rule

__all__ = ["Compute", "Precision", "Profile", "Rule"]
