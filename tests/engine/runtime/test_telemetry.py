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


def test_old_steps_are_forgotten():
    telemetry = Telemetry(window=0.0)
    telemetry.record(1.0, 0, 1)
    assert telemetry.rates() == (None, None)
