"""Slices: whoever is asked in another slice than those before him is told the same."""

from __future__ import annotations

import pytest
from tests.core.yard import Yard, container

from batchyard.states import JobState
from batchyard_controller.core.model.settings import DispatchOrder
from batchyard_controller.core.model.values import Instant


@pytest.fixture
def yard() -> Yard:
    made = Yard()
    made.environment()
    made.queue()
    return made


@pytest.mark.parametrize("steps_max", [None, 1, 2, 3])
def test_who_is_promised_a_host_once_a_missed_promise_is_kept_does_not_hang_on_slices(
    yard: Yard, steps_max: int | None
):
    """The first of those who were turned away from it, although it was asked before and others after."""
    yard.policy()
    yard.queue("fair", scheduling_policy="p")
    yard.host("h")
    whole = container(cpu=4000)
    runs = yard.submit("fair", container=whole, share_identifier="a")
    yard.plan()
    missed = yard.submit("fair", container=whole, share_identifier="a", timeout_s=36_000)
    yard.plan()
    yard.now = Instant(wall_ms=yard.now.wall_ms + 8_000_000, boot_ms=yard.now.boot_ms + 8_000_000)
    yard.plan()
    yard.ended(f"{runs.id}#1")
    first, _ = yard.submit(container=whole, timeout_s=60), yard.submit(container=whole, timeout_s=60_000)
    yard.plan(steps_max)
    assert yard.live() == {f"{missed.id}#1": "h"}
    assert [r.job_id for r in yard.world.reservations] == [first.id]


@pytest.mark.parametrize("steps_max", [None, 1])
def test_who_passes_for_less_than_half_a_minute_does_not_hang_on_slices(yard: Yard, steps_max: int | None):
    """What was placed a moment ago in the same plan ends when it would be said to end in the next."""
    yard.queue("short", dispatch_order=DispatchOrder.SUBMISSION_TIME)
    yard.host("h")
    asked = [(2000, 20), (4000, 3600), (2000, 25)]
    jobs = [yard.submit("short", container=container(cpu=cpu), timeout_s=timeout_s) for cpu, timeout_s in asked]
    yard.plan(steps_max)
    assert yard.live().keys() == {f"{jobs[0].id}#1", f"{jobs[2].id}#1"}


@pytest.mark.parametrize("steps_max", [None, 1])
def test_a_queue_in_which_nobody_passes_is_asked_in_each_round(yard: Yard, steps_max: int | None):
    """Though it was not the one that the first slice came to: it may be another share's turn by then."""
    yard.policy()
    yard.queue("rigid", scheduling_policy="p", dispatch_order=DispatchOrder.STRICT)
    yard.queue("urgent", priority=3)
    yard.host("h", cpu=2000)
    yard.submit("rigid", container=container(cpu=1000), share_identifier="a")
    yard.submit("rigid", container=container(cpu=2000), share_identifier="a")
    yard.plan(steps_max)
    yard.submit("urgent", container=container(cpu=4000))
    other = yard.submit("rigid", container=container(cpu=1000), share_identifier="b")
    yard.plan(steps_max)
    assert other.state is JobState.STARTING


@pytest.mark.parametrize("steps_max", [None, 1])
def test_who_stops_a_queue_passes_as_soon_as_time_lets_it(yard: Yard, steps_max: int | None):
    """Nothing has grown, but the host that is kept for another is free for longer than was thought."""
    yard.queue("rigid", dispatch_order=DispatchOrder.STRICT)
    yard.queue("urgent", priority=3)
    yard.host("h")
    runs = yard.submit(container=container(cpu=2000))
    yard.plan()
    yard.started(f"{runs.id}#1", at_ms=1_000)
    yard.submit("urgent", container=container(cpu=4000))
    strict = yard.submit("rigid", container=container(cpu=2000), timeout_s=3_650)
    yard.plan(steps_max)
    assert strict.state is JobState.RUNNABLE
    yard.now = Instant(wall_ms=3_602_000, boot_ms=3_602_000)
    yard.plan(steps_max)
    assert strict.state is JobState.STARTING
