"""Sizes and rates as a person writes them on a command line, and as a person reads them. Knows no plan."""

from __future__ import annotations

import re

_UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([KMGT]?i?B)", re.IGNORECASE)
_COUNTED = re.compile(r"(\d{1,2})\s*x\s*(.+)", re.IGNORECASE)
_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(?:GB/s)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """`24GiB`, `128 GB`, `0`. ValueError with what is expected."""
    if text.strip() == "0":
        return 0
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"found {text!r}; expected a size with its unit, such as 24GiB or 128GB")
    return round(float(found[1]) * _UNITS[found[2].upper()])


def parse_sizes(text: str) -> list[int]:
    """One size, or several of one size: `8x141GB`."""
    counted = _COUNTED.fullmatch(text.strip())
    if counted is None:
        return [parse_size(text)]
    return [parse_size(counted[2])] * int(counted[1])


def parse_rate(text: str) -> float:
    """GB/s, `80` or `80GB/s`, as bytes per second. ValueError for anything else and for 0."""
    found = _RATE.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise ValueError(f"found {text!r}; expected GB/s above 0, such as 80")
    return float(found[1]) * 1e9


def gigabytes(nbytes: float) -> str:
    """10^9 bytes: 467.7 GB, 1.85 GB; below one of them megabytes: 188.7 MB, 1.26 MB."""
    if abs(nbytes) < 1e9:
        return f"{nbytes / 1e6:.{2 if abs(nbytes) < 1e7 else 1}f} MB"
    return f"{nbytes / 1e9:,.{2 if abs(nbytes) < 1e10 else 1}f} GB"


def span(low: float, high: float) -> str:
    """`0.8 to 1.6`, with as many digits as such a figure deserves."""
    first, second = _short(low), _short(high)
    return first if first == second else f"{first} to {second}"


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:,.0f}"
