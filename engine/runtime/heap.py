"""Freed memory goes back to the system. Knows nothing of what was freed."""

from __future__ import annotations

import ctypes

from engine.runtime import gpus


def trim() -> None:
    """glibc keeps freed pieces below 32 MiB for itself: a quarter of a GiB after nano's weights were freed, measured.

    `malloc_trim` gives them back; where the C library has none there is nothing to do. What torch keeps of VRAM goes too.
    """
    gpus.give_back()
    try:
        give_back = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    give_back(ctypes.c_size_t(0))
