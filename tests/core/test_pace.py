"""Pace: slices come to last as long as they may, whatever the machine."""

from __future__ import annotations

import pytest

from batchyard_controller.core.placement.pace import SLICE_MS, STEPS_FIRST, STEPS_MAX, STEPS_MIN, Pace


@pytest.mark.parametrize("step_ms", [0.005, 0.05, 0.2])
def test_slices_come_to_last_as_long_as_they_may(step_ms: float):
    pace = Pace()
    for _ in range(12):
        pace.note(pace.steps_max, pace.steps_max * step_ms)
    assert pace.steps_max * step_ms == pytest.approx(SLICE_MS, rel=0.05)


def test_one_slow_slice_makes_the_next_half_as_long_at_most():
    """A machine that stood still for a second is no reason to crawl."""
    pace = Pace()
    pace.note(STEPS_FIRST, 1_000)
    assert pace.steps_max == STEPS_FIRST // 2


def test_no_slice_does_nothing_and_none_is_endless():
    """Even if time stands still."""
    pace = Pace()
    for _ in range(20):
        pace.note(pace.steps_max, 1_000)
    assert pace.steps_max == STEPS_MIN
    for _ in range(20):
        pace.note(pace.steps_max, 0)
    assert pace.steps_max == STEPS_MAX


def test_a_short_plan_tells_nothing():
    """It is mostly set-up."""
    pace = Pace()
    pace.note(STEPS_MIN - 1, 40)
    assert pace.steps_max == STEPS_FIRST
