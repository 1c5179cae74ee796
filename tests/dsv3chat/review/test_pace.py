"""The time that is left, from tokens and a clock."""

import pytest

from dsv3chat.review.pace import PREFILL_SHARE, Pace


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_nothing_is_known_before_anything_ran(clock):
    pace = Pace(1000, None, clock)
    assert pace.seconds_left() is None
    pace.begin()
    clock.now += 5
    assert pace.seconds_left() is None
    assert pace.rate() is None


def test_the_last_reviews_rate_serves_until_this_one_has_its_own(clock):
    pace = Pace(1000, 50.0, clock)
    assert pace.seconds_left() == 20.0
    pace.begin()
    clock.now += 10
    pace.done(0, 500)
    assert pace.seconds_left() == pytest.approx(10.0)  # 50 tokens a second, measured


def test_measured_speed_decides_once_there_is_some(clock):
    pace = Pace(1000, 50.0, clock)
    pace.begin()
    clock.now += 10
    pace.done(0, 100)
    assert pace.rate() == pytest.approx(10.0)
    assert pace.seconds_left() == pytest.approx(90.0)


def test_a_running_chunk_counts_by_its_prefilled_part(clock):
    pace = Pace(1000, None, clock)
    pace.begin()
    clock.now += 10
    pace.prefilled(0, 500)
    done = 500 * PREFILL_SHARE
    assert pace.seconds_left() == pytest.approx((1000 - done) / (done / 10))
    pace.done(0, 500)
    assert pace.seconds_left() == pytest.approx(10.0)


def test_at_the_end_nothing_is_left(clock):
    assert Pace(0, None, clock).seconds_left() == 0.0
    pace = Pace(100, None, clock)
    pace.begin()
    clock.now += 1
    pace.done(0, 100)
    assert pace.seconds_left() == 0.0


def test_time_counts_from_the_first_question_and_not_from_the_loading(clock):
    pace = Pace(1000, None, clock)
    clock.now += 1000
    pace.begin()
    clock.now += 10
    pace.begin()
    pace.done(0, 500)
    assert pace.rate() == pytest.approx(50.0)
