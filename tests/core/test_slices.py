"""Slices: whoever is asked in another slice than those before him is told the same."""

from __future__ import annotations

import pytest
from tests.core.test_node_laws import nodes
from tests.core.yard import Yard, container

from batchyard.states import JobState
from batchyard_controller.core.model.settings import ComputeResources, DispatchOrder
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


@pytest.mark.parametrize("steps_max", [None, 1, 2])
def test_those_who_pass_beside_a_missed_promise_leave_room_together(yard: Yard, steps_max: int | None):
    """Each alone would, and all are said to have ended by then; but that was said of those before them too."""
    yard.queue(max_overtake_s=60)
    yard.host("h")
    yard.submit(container=container(cpu=2000))
    yard.plan()
    large = yard.submit(container=container(cpu=3000))
    yard.plan()
    yard.now = Instant(wall_ms=3_590_000, boot_ms=3_590_000)
    yard.submit(array_size=3, container=container(cpu=500), timeout_s=60)
    yard.plan(steps_max)
    assert len(yard.live()) == 3
    for timeout_s in (50, 55):  # not in later rounds either
        yard.now = Instant(wall_ms=yard.now.wall_ms + 1000, boot_ms=yard.now.boot_ms + 1000)
        yard.submit(container=container(cpu=500), timeout_s=timeout_s)
        yard.plan(steps_max)
    assert large.state is JobState.RUNNABLE
    assert len(yard.live()) == 3


@pytest.mark.parametrize("steps_max", [None, 1, 2])
def test_those_who_pass_beside_a_gang_that_is_put_off_leave_room_together(yard: Yard, steps_max: int | None):
    yard.queue(dispatch_order=DispatchOrder.SUBMISSION_TIME)
    yard.host("one")
    yard.host("two", cpu=3000)
    yard.submit(container=container(cpu=4000))
    yard.plan()
    yard.submit(nodes=nodes(2, cpu=2000), task=None, container=None)
    yard.plan()
    yard.now = Instant(wall_ms=2_000, boot_ms=2_000)
    passing = yard.submit(array_size=3, container=container(cpu=500), timeout_s=600)
    yard.plan(steps_max)
    assert {name for name in yard.live() if name.startswith(passing.id)} == {f"{passing.id}:{i}#1" for i in (0, 1)}


@pytest.mark.parametrize("steps_max", [None, 1])
def test_a_gang_is_promised_the_same_hosts_until_its_round_is_over(yard: Yard, steps_max: int | None):
    """Though one who passes takes one of them until it starts, and another would have room sooner."""
    yard.environment("ce", compute_resources=ComputeResources(max_vcpus=10))
    yard.queue(dispatch_order=DispatchOrder.SUBMISSION_TIME)
    yard.host("busy", cpu=7000)
    yard.submit(container=container(cpu=7000), timeout_s=600)
    yard.plan()
    for name in ("one", "two", "three"):
        yard.host(name, cpu=2000)
    yard.submit(nodes=nodes(2, cpu=2000), task=None, container=None)
    short = yard.submit(container=container(cpu=1000), timeout_s=60)
    long = yard.submit(container=container(cpu=2000), timeout_s=6000)
    yard.plan(steps_max)
    assert sorted(r.host_id for r in yard.world.reservations) == ["one", "two"]
    assert {yard.live()[f"{short.id}#1"], yard.live()[f"{long.id}#1"]} == {"one", "three"}
