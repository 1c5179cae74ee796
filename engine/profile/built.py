"""What of the grammar this build can do: one table, flipped here when a feature arrives. Knows no files.

The reader parses the whole grammar and then asks this table. What is known but not built is refused by name, so that
nobody searches for a typo and nothing is accepted and ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from engine.profile.values import Precision

PRECISIONS: tuple[str, ...] = get_args(Precision)
KV_PRECISIONS: tuple[str, ...] = ("auto", "fp32", "bf16", "fp8")
COMPUTES: tuple[str, ...] = ("float32", "bfloat16")
DEVICE_KINDS: tuple[str, ...] = ("cpu", "cuda", "disk")
NOT_BUILT = "known, but not built in this version"


@dataclass(frozen=True, slots=True)
class Built:
    """The parts of the grammar that have an effect. `keys` are those that only some builds have."""

    precisions: frozenset[str] = frozenset({"native", "fp32", "bf16", "fp8", "int8", "int4"})
    kv_precisions: frozenset[str] = frozenset(KV_PRECISIONS)
    device_kinds: frozenset[str] = frozenset({"cpu", "cuda"})
    keys: frozenset[str] = frozenset({"group_size"})  # of OPTIONAL_KEYS


OPTIONAL_KEYS: tuple[str, ...] = ("group_size", "gpu_resident", "endpoint")
HOMELESS_KEYS: tuple[str, ...] = ("endpoint",)  # Profile has no field for it: refused in any build

BUILT = Built()
EVERYTHING = Built(
    precisions=frozenset(PRECISIONS),
    kv_precisions=frozenset(KV_PRECISIONS),
    device_kinds=frozenset(DEVICE_KINDS),
    keys=frozenset(OPTIONAL_KEYS) - frozenset(HOMELESS_KEYS),
)


def is_built_key(key: str, built: Built) -> bool:
    """Whether the last part of a dotted `key` has an effect in this build."""
    return key not in OPTIONAL_KEYS or key in built.keys
