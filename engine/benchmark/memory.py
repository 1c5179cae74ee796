"""The most memory this process has held since a moment. Knows what Linux says about a process.

VmHWM is the largest resident size since the process began, or since 5 was written to clear_refs; elsewhere, and where
that is not allowed, the largest since it began is all there is.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

_STATUS, _CLEAR, _RESET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs"), "5"


class PeakMemory:
    """Counts from its making; `read` ends a stretch, `resume` begins the next: what lies between does not count."""

    def __init__(self) -> None:
        self._peak = 0
        self.resume()

    def resume(self) -> None:
        with contextlib.suppress(OSError):
            _CLEAR.write_text(_RESET_PEAK, encoding="ascii")

    def read(self) -> int:
        """Bytes, over every stretch until now."""
        self._peak = max(self._peak, _high_water())
        return self._peak


def _high_water() -> int:
    try:
        text = _STATUS.read_text(encoding="ascii", errors="replace")
        return int(text.split("VmHWM:", 1)[1].split()[0]) << 10
    except (OSError, IndexError, ValueError):
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size if sys.platform == "darwin" else size << 10
