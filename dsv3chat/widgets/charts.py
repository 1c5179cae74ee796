"""Bars, sparklines and numbers as plain strings. Knows no widgets and no colours."""

from __future__ import annotations

from collections.abc import Sequence

_EIGHTHS = " ▏▎▍▌▋▊▉"
_HEIGHTS = "▁▂▃▄▅▆▇█"


def bar(fraction: float, width: int) -> str:
    """A bar of `width` cells, filled to `fraction` (0 to 1) in steps of an eighth of a cell."""
    eighths = round(min(max(fraction, 0.0), 1.0) * width * 8)
    full, part = divmod(eighths, 8)
    drawn = "█" * full + (_EIGHTHS[part] if part else "")
    return drawn + "░" * (width - len(drawn))


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The last values, squeezed into `width` cells (the largest of each cell counts); unknown ones are blank.

    Scaled from 0 to the largest value shown.
    """
    if not values:
        return " " * width
    per_cell = max(1, -(-len(values) // width))
    cells = [values[i : i + per_cell] for i in range(0, len(values), per_cell)]
    peaks = [max((v for v in cell if v is not None), default=None) for cell in cells]
    top = max((p for p in peaks if p is not None), default=0.0)
    drawn = "".join(" " if p is None else _HEIGHTS[_level(p, top)] for p in peaks)
    return drawn.rjust(width)


def _level(value: float, top: float) -> int:
    return 0 if top <= 0 else min(7, int(value / top * 7.999))


def gib(num_bytes: int) -> str:
    """Bytes as GiB with the digits that help: 0.31, 9.1, 371."""
    value = num_bytes / 2**30
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def rate(tokens_per_s: float | None) -> str:
    """tok/s, n/a when unknown."""
    if tokens_per_s is None:
        return "n/a"
    return f"{tokens_per_s:.1f}" if tokens_per_s < 100 else f"{tokens_per_s:.0f}"


def thousands(count: int) -> str:
    """9216 as 9 216 (with a narrow no-break space, so that it never wraps)."""
    return f"{count:,}".replace(",", "\u202f")


def compact(count: int) -> str:
    """9216 as 9.2k."""
    return str(count) if count < 1000 else f"{count / 1000:.1f}k" if count < 100_000 else f"{count // 1000}k"
