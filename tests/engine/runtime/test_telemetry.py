"""Rates count tokens over the seconds of the steps that made them."""

from engine.runtime.telemetry import Telemetry


def test_rates_are_unknown_before_the_first_step():
    assert Telemetry().rates() == (None, None)


def test_prefill_and_decode_are_counted_apart():
    telemetry = Telemetry()
    telemetry.record(2.0, 256, 0)
    telemetry.record(0.5, 0, 2)
    telemetry.record(0.5, 0, 1)
    decode, prefill = telemetry.rates()
    assert decode == 3.0
    assert prefill == 128.0
    assert telemetry.num_steps == 3
    assert telemetry.last_seconds == 0.5


def test_old_steps_are_forgotten(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    telemetry = Telemetry(window=5.0)
    telemetry.record(1.0, 0, 1)
    now[0] = 104.0
    telemetry.record(1.0, 64, 0)
    assert telemetry.rates() == (1.0, 64.0)
    now[0] = 106.0
    assert telemetry.rates() == (None, 64.0)
    telemetry.record(1.0, 0, 3)
    assert telemetry.rates() == (3.0, 64.0)
