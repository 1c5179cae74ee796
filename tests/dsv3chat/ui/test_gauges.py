"""The gauges say what is known, say n/a for what is not, and fit their width."""

from dataclasses import replace

import pytest

from dsv3chat.monitor import Monitor, Sample
from dsv3chat.widgets.charts import bar, rate, sparkline
from dsv3chat.widgets.gauges import History, kv_warns, rail_content, strip_content
from engine import Gpu, MemoryInfo, StepStats

STATS = StepStats(
    num_steps=10,
    num_running=1,
    num_waiting=2,
    kv_pages_used=64,
    kv_pages_total=512,
    kv_page_tokens=16,
    kv_pages_reusable=10,
    prefix_hit_tokens=930,
    prefix_query_tokens=1000,
    num_preemptions=0,
    decode_tokens_per_s=24.06,
    prefill_tokens_per_s=None,
    weights_bytes={"ram": 300 * 2**20},
    kv_bytes=2**28,
)
MEMORY = MemoryInfo(
    total_bytes=24 * 2**30, limit_bytes=24 * 2**30, available_bytes=18 * 2**30, limit_source="machine"
)
SAMPLE = Sample((), "no NVIDIA driver", MEMORY, 2**30, STATS, 9.4)
UNKNOWN = Sample((), "no NVIDIA driver", None, None, None, None)


def lines(sample: Sample, width: int = 31) -> list[str]:
    history = History()
    history.add(sample)
    return rail_content(sample, history, width).plain.split("\n")


def test_rail_shows_what_the_engine_and_the_machine_report():
    text = "\n".join(lines(SAMPLE))
    for part in (
        "no GPU",
        "6.0/24.0 GiB  25%",
        "24.1 tok/s",
        "1\u202f024/8\u202f192 tok",
        "12%",
        "1 running · 2 waiting",
        "9 ms",
    ):
        assert part in text, part
    assert "prefill" in text
    assert "n/a tok/s" in text  # prefill is unknown, and not 0


def test_the_last_prefill_stays_readable_when_it_is_over():
    history = History()
    history.add(replace(SAMPLE, stats=replace(STATS, prefill_tokens_per_s=148.0)))
    history.add(SAMPLE)
    (line,) = [x for x in rail_content(SAMPLE, history, 31).plain.split("\n") if "prefill" in x]
    assert line.startswith("last prefill")
    assert line.endswith("148 tok/s")


def test_unknown_is_never_zero():
    text = "\n".join(lines(UNKNOWN))
    assert text.count("n/a") >= 4
    assert " 0" not in text.replace("60 s", "")


@pytest.mark.parametrize("width", [20, 31, 44])
@pytest.mark.parametrize("sample", [SAMPLE, UNKNOWN])
def test_bars_and_lines_fit_the_rail(sample, width):
    long = [line for line in lines(sample, width) if len(line) > max(width, 33)]
    assert not long


@pytest.mark.parametrize(("used", "warns"), [(460, False), (461, True), (512, True)])
def test_kv_warns_from_ninety_percent(used, warns):
    sample = replace(SAMPLE, stats=replace(STATS, kv_pages_used=used))
    assert kv_warns(sample) is warns
    assert any("above 90 %" in line for line in lines(sample)) is warns


@pytest.mark.parametrize("width", [40, 60, 80, 110])
@pytest.mark.parametrize("sample", [SAMPLE, UNKNOWN])
def test_strip_is_one_line_that_fits(sample, width):
    history = History()
    history.add(sample)
    strip = strip_content(sample, history, width)
    assert "\n" not in strip.plain
    assert strip.cell_length <= width


def test_gpu_is_shown_when_there_is_one():
    gpu = Gpu(
        index=0,
        name="RTX 4090",
        total_bytes=24 * 2**30,
        free_bytes=3 * 2**30,
        compute_capability=(8, 9),
        driver="580",
        utilization_percent=38,
        temperature_c=71,
        power_w=212.0,
    )
    text = "\n".join(lines(replace(SAMPLE, gpus=(gpu,), no_gpu_reason="")))
    assert "21.0/24.0 GiB  88%" in text
    assert "71 °C · 212 W · sm 38%" in text


def test_monitor_survives_a_source_that_fails():
    def broken():
        raise OSError("gone")

    sample = Monitor(lambda: None, read_memory=broken, read_gpus=lambda: ((), "none")).sample()
    assert sample.memory is None
    assert sample.own_rss_bytes


@pytest.mark.parametrize(
    ("fraction", "drawn"), [(0, "░░░░"), (0.5, "██░░"), (1, "████"), (7, "████"), (-1, "░░░░"), (0.3, "█▎░░")]
)
def test_bar_is_exact_to_an_eighth(fraction, drawn):
    assert bar(fraction, 4) == drawn


def test_sparkline_keeps_gaps_and_peaks():
    assert sparkline([0.0, 4.0, None, 8.0], 4) == "▁▄ █"
    assert sparkline([], 3) == "   "
    assert len(sparkline([1.0] * 60, 24)) == 24


def test_rate_names_the_unknown():
    assert (rate(None), rate(0.71), rate(312.4)) == ("n/a", "0.7", "312")
