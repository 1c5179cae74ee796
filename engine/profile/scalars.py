"""Scalars of a profile and how each kind is read, by the key's type and not by YAML 1.1's guesses. Knows no files.

Every reader takes a Scalar and returns the value, or raises ValueError("found ...; expected ...").
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeAlias

from engine.profile.built import DEVICE_KINDS, NOT_BUILT, Built

_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9_]{0,24})")
_NUMBER = re.compile(r"[+-]?(?:[0-9][0-9_]{0,24}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,4})?")
_DEVICE = re.compile(r"cpu|disk|cuda:(?:0|[1-9][0-9]{0,2})")


@dataclass(frozen=True, slots=True)
class Scalar:
    """One scalar as it was written. `tag` is what YAML made of it: str, int, float, bool, null, ...; "any" for --set."""

    text: str
    tag: str
    quoted: bool = False

    @property
    def is_null(self) -> bool:
        return self.tag == "null" or (self.tag == "any" and self.text in ("null", "~"))


Read: TypeAlias = Callable[[Scalar, Built], Any]


def shown(text: str, limit: int = 60) -> str:
    """`text` in quotes, on one line, without control characters, cut at `limit` characters."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "'" + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut) + "'"


def nearest(word: str, known: Collection[str]) -> str:
    """ "; nearest known: ..." for a message, or nothing where no known word is near."""
    found = difflib.get_close_matches(word[:100].lower(), list(known), n=1, cutoff=0.5)
    return f"; nearest known: {found[0]}" if found else ""


def found(scalar: Scalar) -> str:
    """What stands there, for a message."""
    if scalar.is_null:
        return "found nothing"
    return f"found the text {shown(scalar.text)}" if scalar.quoted else f"found {shown(scalar.text)}"


def text(scalar: Scalar, built: Built) -> str:
    """Any text; a plain word that YAML takes for a number or a truth value must be quoted."""
    if scalar.is_null or not scalar.text.strip():
        raise ValueError(f"{found(scalar)}; expected text")
    if scalar.tag not in ("str", "any"):
        raise ValueError(
            f"{found(scalar)}, which YAML reads as {scalar.tag}; expected text: put it in quotes"
        )
    return scalar.text


def line_of_text(scalar: Scalar, built: Built) -> str:
    """Text that fits on one line of a terminal."""
    value = text(scalar, built)
    if not value.isprintable() or len(value) > 100:
        raise ValueError(f"{found(scalar)}; expected one line of at most 100 printable characters")
    return value


def integer(low: int, high: int) -> Read:
    """A decimal whole number in [low, high]; `_` may group digits. 010, 0x10 and 1:30 are refused."""

    def read(scalar: Scalar, built: Built) -> int:
        if scalar.quoted or not _INTEGER.fullmatch(scalar.text):
            raise ValueError(f"{found(scalar)}; expected a whole number from {low} to {high}")
        value = int(scalar.text.replace("_", ""))
        if not low <= value <= high:
            raise ValueError(f"found {value}; expected a whole number from {low} to {high}")
        return value

    return read


def number(scalar: Scalar, built: Built) -> float:
    """A finite decimal number; 1e-3 counts, .nan and .inf do not."""
    if scalar.quoted or not _NUMBER.fullmatch(scalar.text):
        raise ValueError(f"{found(scalar)}; expected a number")
    value = float(scalar.text.replace("_", ""))
    if not math.isfinite(value):
        raise ValueError(f"{found(scalar)}; expected a finite number")
    return value


def boolean(scalar: Scalar, built: Built) -> bool:
    """true or false; on, off, yes and no count too."""
    word = scalar.text.lower()
    if scalar.quoted or word not in ("true", "on", "yes", "false", "off", "no"):
        raise ValueError(f"{found(scalar)}; expected true or false")
    return word in ("true", "on", "yes")


def choice(known: Collection[str], built_of: Callable[[Built], Collection[str]]) -> Read:
    """One word of `known`; those outside `built_of(built)` are refused as not built."""

    def read(scalar: Scalar, built: Built) -> str:
        usable = [word for word in known if word in built_of(built)]
        if scalar.text in known and not scalar.is_null:
            if scalar.text not in usable:
                raise ValueError(f"{shown(scalar.text)} is {NOT_BUILT}; expected one of {', '.join(usable)}")
            return scalar.text
        raise ValueError(f"{found(scalar)}; expected one of {', '.join(usable)}{nearest(scalar.text, known)}")

    return read


def device(scalar: Scalar, built: Built) -> str:
    """`cpu`, `cuda:N` or `disk`."""
    usable = [{"cuda": "cuda:N"}.get(kind, kind) for kind in DEVICE_KINDS if kind in built.device_kinds]
    expected = f"expected {' or '.join(usable)}"
    if not _DEVICE.fullmatch(scalar.text) or scalar.is_null:
        raise ValueError(f"{found(scalar)}; {expected}{nearest(scalar.text, ('cpu', 'cuda:0', 'disk'))}")
    if scalar.text.partition(":")[0] not in built.device_kinds:
        raise ValueError(f"{shown(scalar.text)} is {NOT_BUILT}; {expected}")
    return scalar.text


def default_device(scalar: Scalar, built: Built) -> str:
    """A device for the whole model: disk holds routed experts only, so it belongs into a rule."""
    value = device(scalar, built)
    if value == "disk":
        raise ValueError("found 'disk', which holds routed experts only; expected cpu or cuda:N here")
    return value


def group_size(scalar: Scalar, built: Built) -> int:
    """Weights that share one scale: a multiple of 16 from 16 to 1024."""
    value: int = integer(16, 1024)(scalar, built)
    if value % 16:
        raise ValueError(f"found {value}; expected a multiple of 16 from 16 to 1024")
    return value


def gpu_resident(scalar: Scalar, built: Built) -> int | str:
    """How many experts of a layer stay on the GPU: a count, or `auto`."""
    if scalar.text == "auto":
        return "auto"
    try:
        count: int = integer(0, 65536)(scalar, built)
    except ValueError:
        raise ValueError(f"{found(scalar)}; expected a number of experts or auto") from None
    return count
