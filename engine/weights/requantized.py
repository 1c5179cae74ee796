"""What a profile changes in weights that a conversion has quantized, in words. Reads no weights."""

from __future__ import annotations

from collections import Counter

from engine.quant.formats import WIDE
from engine.quant.matrix import Format
from engine.weights.checkpoint import Checkpoint
from engine.weights.placement import Placement
from engine.weights.quantization import StoredFormat


def requantized_notes(checkpoint: Checkpoint, placement: Placement) -> tuple[str, ...]:
    """One note for each pair of formats, empty for an original and where every tensor keeps its stored format."""
    changes: Counter[tuple[StoredFormat, Format, int]] = Counter()
    for name, stored in checkpoint.formats.items():
        placed = placement.tensors[name]
        if (placed.format.value, placed.group) != (stored.precision, stored.group_size):
            changes[stored, placed.format, placed.group] += 1
    return tuple(
        f"{count:,} tensors are stored as {_words(stored.precision, stored.group_size)} and "
        f"{'widened to' if after in WIDE else 'quantized again to'} {_words(after.value, group)}, as the profile asks"
        f"{'' if after in WIDE else ': both errors add up'}; precision: native takes them as they are stored"
        for (stored, after, group), count in changes.items()
    )


def _words(precision: str, group: int) -> str:
    return f"{precision} in groups of {group}" if group else precision
