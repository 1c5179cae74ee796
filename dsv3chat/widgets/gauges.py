"""The gauges: a rail beside the transcript on wide screens, one line on narrow ones. Knows no engine and no timer.

Both are one widget with one piece of Content each, so a refresh is one repaint of a small region.
"""

from __future__ import annotations

from collections import deque

from textual.content import Content
from textual.widgets import Static

from dsv3chat.monitor import Sample
from dsv3chat.widgets.charts import bar, compact, gib, rate, sparkline, thousands
from engine import Gpu, MemoryInfo

HISTORY_SECONDS = 60
WARN_FRACTION = 0.9  # of the KV pool; profile.md

_DIM = "$text-muted"
_WARN = "bold $text-warning"
_FILL = "$primary"  # of bars
_LINE = "$secondary"  # of the last minute


class History:
    """One value a second for the last minute, per gauge; of prefill, which is over in a moment, the last one."""

    def __init__(self) -> None:
        self.ram: deque[float | None] = deque(maxlen=HISTORY_SECONDS)
        self.vram: deque[float | None] = deque(maxlen=HISTORY_SECONDS)
        self.decode: deque[float | None] = deque(maxlen=HISTORY_SECONDS)
        self.last_prefill: float | None = None

    def add(self, sample: Sample) -> None:
        memory, stats = sample.memory, sample.stats
        self.ram.append(None if memory is None else _ram_used(memory) / memory.limit_bytes)
        self.vram.append(_vram_share(sample.gpus[0]) if sample.gpus else None)
        self.decode.append(None if stats is None else stats.decode_tokens_per_s)
        if stats is not None and stats.prefill_tokens_per_s is not None:
            self.last_prefill = stats.prefill_tokens_per_s


def _ram_used(memory: MemoryInfo) -> int:
    """Bytes of the limit that are taken: what others hold counts where the limit is the machine's."""
    return max(0, memory.limit_bytes - memory.available_bytes)


def _vram_share(gpu: Gpu) -> float | None:
    if gpu.total_bytes is None or gpu.free_bytes is None:
        return None
    return (gpu.total_bytes - gpu.free_bytes) / gpu.total_bytes


def kv_fraction(sample: Sample) -> float | None:
    """Share of the KV pool that running requests hold; None when unknown."""
    stats = sample.stats
    return stats.kv_pages_used / stats.kv_pages_total if stats is not None and stats.kv_pages_total else None


def kv_warns(sample: Sample) -> bool:
    """At or above 90 %: further requests will wait."""
    fraction = kv_fraction(sample)
    return fraction is not None and fraction >= WARN_FRACTION


def rail_content(sample: Sample, history: History, width: int) -> Content:
    """All gauges below each other, `width` cells wide."""
    rule = Content.styled("─" * width, _DIM)
    sections = [
        _vram(sample, history, width),
        _ram(sample, history, width),
        _speed(sample, history, width),
        _kv(sample, width),
        _queue(sample),
    ]
    lines: list[Content] = []
    for section in sections:
        lines += [*([rule] if lines else []), *section]
    return Content("\n").join(lines)


def _head(name: str, value: str, width: int, style: str = "bold") -> Content:
    gap = max(1, width - len(name) - len(value))
    return Content.assemble((name, _DIM), " " * gap, (value, style))


def _trail(values: deque[float | None], width: int) -> Content:
    label = " 60 s"
    return Content.assemble((sparkline(tuple(values), width - len(label)), _LINE), (label, _DIM))


def _vram(sample: Sample, history: History, width: int) -> list[Content]:
    if not sample.gpus:
        return [_head("VRAM", "no GPU", width)]
    lines: list[Content] = []
    for index, gpu in enumerate(sample.gpus):
        name = "VRAM" if len(sample.gpus) == 1 else f"VRAM {index}"
        share = _vram_share(gpu)
        if share is None or gpu.total_bytes is None:
            lines.append(_head(name, "n/a", width))
            continue
        value = f"{gib(round(share * gpu.total_bytes))}/{gib(gpu.total_bytes)} GiB {share:4.0%}"
        lines += [_head(name, value, width), Content.styled(bar(share, width), _FILL)]
    gpu = sample.gpus[0]
    facts = [
        f"{gpu.temperature_c} °C" if gpu.temperature_c is not None else "",
        f"{gpu.power_w:.0f} W" if gpu.power_w is not None else "",
        f"sm {gpu.utilization_percent}%" if gpu.utilization_percent is not None else "",
    ]
    return [*lines, _trail(history.vram, width), Content.styled(" · ".join(f for f in facts if f), _DIM)]


def _ram(sample: Sample, history: History, width: int) -> list[Content]:
    memory = sample.memory
    if memory is None:
        return [_head("RAM", "n/a", width)]
    share = _ram_used(memory) / memory.limit_bytes
    own = "n/a" if sample.own_rss_bytes is None else f"{gib(sample.own_rss_bytes)} GiB"
    weights = sample.stats.weights_bytes.get("ram") if sample.stats else None
    held = "" if weights is None else f" · weights {gib(weights)}"
    lines = [
        _head("RAM", f"{gib(_ram_used(memory))}/{gib(memory.limit_bytes)} GiB {share:4.0%}", width),
        Content.styled(bar(share, width), _FILL),
        _trail(history.ram, width),
        Content.styled(f"own {own}{held}", _DIM),
    ]
    if memory.limit_source != "machine":
        lines.append(Content.styled("limited by a cgroup", _DIM))
    return lines


def _speed(sample: Sample, history: History, width: int) -> list[Content]:
    stats = sample.stats
    decode = None if stats is None else stats.decode_tokens_per_s
    now = None if stats is None else stats.prefill_tokens_per_s
    over = now is None and history.last_prefill is not None
    return [
        _head("DECODE", f"{rate(decode)} tok/s", width, "bold $text-accent"),
        _trail(history.decode, width),
        _head(
            "last prefill" if over else "prefill",
            f"{rate(history.last_prefill if over else now)} tok/s",
            width,
            "",
        ),
    ]


def _kv(sample: Sample, width: int) -> list[Content]:
    stats, fraction = sample.stats, kv_fraction(sample)
    if stats is None or fraction is None:
        return [_head("KV CACHE", "n/a", width)]
    value = f"{thousands(stats.kv_tokens_used)}/{thousands(stats.kv_tokens_total)} tok {fraction:4.0%}"
    lines = [_head("KV", value, width), Content.styled(bar(fraction, width), _FILL)]
    if kv_warns(sample):
        lines.append(Content.styled("▲ above 90 %: requests wait", _WARN))
    if stats.prefix_query_tokens:
        share = stats.prefix_hit_tokens / stats.prefix_query_tokens
        lines.append(
            Content.styled(f"prefix reused {thousands(stats.prefix_hit_tokens)} ({share:.0%})", _DIM)
        )
    lines.append(Content.styled(f"{gib(stats.kv_bytes)} GiB held for it", _DIM))
    return lines


def _queue(sample: Sample) -> list[Content]:
    stats = sample.stats
    lag = "n/a" if sample.ui_lag_p95_ms is None else f"{sample.ui_lag_p95_ms:.0f} ms"
    queue = "n/a" if stats is None else f"{stats.num_running} running · {stats.num_waiting} waiting"
    lines = [Content.assemble(("QUEUE  ", _DIM), queue)]
    if stats is not None and stats.num_preemptions:
        lines.append(Content.styled(f"{stats.num_preemptions} preempted so far", _DIM))
    return [*lines, Content.assemble(("ui lag p95 ", _DIM), lag)]


def strip_content(sample: Sample, history: History, width: int) -> Content:
    """The same on one line, the most telling first; what does not fit is left out from the end."""
    stats, memory, fraction = sample.stats, sample.memory, kv_fraction(sample)
    cells = 8 if width >= 78 else 5
    parts: list[Content] = []
    if sample.gpus:
        vram = _vram_share(sample.gpus[0])
        shown = "n/a" if vram is None else f"{bar(vram, cells)} {vram:.0%}"
        parts.append(Content.assemble(("VRAM ", _DIM), shown))
    else:
        parts.append(Content.assemble(("VRAM ", _DIM), "no GPU"))
    if memory is None:
        parts.append(Content.assemble(("RAM ", _DIM), "n/a"))
    else:
        share = _ram_used(memory) / memory.limit_bytes
        parts.append(Content.assemble(("RAM ", _DIM), (bar(share, cells), _FILL), f" {share:.0%}"))
    if fraction is None:
        parts.append(Content.assemble(("KV ", _DIM), "n/a"))
    else:
        warn, style = ("▲", _WARN) if kv_warns(sample) else ("", _FILL)
        parts.append(Content.assemble(("KV ", _DIM), (f"{warn}{bar(fraction, cells)} {fraction:.0%}", style)))
    decode = None if stats is None else stats.decode_tokens_per_s
    parts.append(Content.assemble((rate(decode), "bold $text-accent"), (" tok/s", _DIM)))
    if stats is not None and stats.num_waiting:
        parts.append(Content.assemble(f"{compact(stats.num_waiting)}", (" waiting", _DIM)))
    parts.append(Content.styled(sparkline(tuple(history.decode), 10), _LINE))
    line = parts[0]
    for part in parts[1:]:
        if line.cell_length + 2 + part.cell_length > width:
            break
        line = Content.assemble(line, "  ", part)
    return line


class GaugeRail(Static):
    """All gauges in a column beside the transcript."""

    DEFAULT_CSS = """
    GaugeRail { width: 33; height: 1fr; padding: 0 1; border-left: solid $panel-lighten-1; }
    """

    def show_sample(self, sample: Sample, history: History) -> None:
        """Repaint with a new sample."""
        width = self.content_size.width or 30
        self.update(rail_content(sample, history, width), layout=False)


class GaugeStrip(Static):
    """The gauges in one line under the header."""

    DEFAULT_CSS = """
    GaugeStrip { height: 1; padding: 0 1; }
    """

    def show_sample(self, sample: Sample, history: History) -> None:
        """Repaint with a new sample."""
        self.update(strip_content(sample, history, self.content_size.width or 78), layout=False)
