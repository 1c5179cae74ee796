"""Where the gauges stand, and their one sample a second. Knows no engine; the monitor reads it."""

from __future__ import annotations

from collections.abc import Callable

from textual.containers import Vertical

from dsv3chat.monitor import Sample
from dsv3chat.widgets.gauges import GaugeRail, GaugeStrip, History

RAIL_COLUMNS = 110  # from here on the rail stands beside the transcript
SAMPLE_S = 1.0
_MODES = ("full", "strip", "off")


class GaugePlace:
    """`full` is the rail where there is room and the strip elsewhere; `rail` holds the column, `strip` the line."""

    def __init__(self, read: Callable[[], Sample]) -> None:
        self._read = read
        self._history = History()
        self._rail_gauges = GaugeRail()
        self.rail = Vertical(self._rail_gauges, id="rail")
        self.strip = GaugeStrip()
        self.mode = "full"

    def set_mode(self, mode: str) -> None:
        """full, strip, off; anything else (auto) is full."""
        self.mode = mode if mode in _MODES else "full"

    def cycle(self, columns: int) -> str:
        """The next mode; on a narrow screen full and strip are the same and count once."""
        order = _MODES if columns >= RAIL_COLUMNS else ("full", "off")
        place = order.index(self.mode) if self.mode in order else 0
        self.mode = order[(place + 1) % len(order)]
        return self.mode

    def place(self, columns: int) -> None:
        """Show the rail, the strip, or neither."""
        wide = columns >= RAIL_COLUMNS and self.mode == "full"
        self.rail.display = wide
        self.strip.display = not wide and self.mode != "off"

    def refresh(self) -> None:
        """Take a sample and show it; nothing is read while the gauges are off."""
        if self.mode == "off":
            return
        sample = self._read()
        self._history.add(sample)
        if self.strip.display:
            self.strip.show_sample(sample, self._history)
        else:
            self._rail_gauges.show_sample(sample, self._history)
