"""A host whose clock stays off gets no new work, by itself and for as long as it is."""

from __future__ import annotations

import pytest
from tests.core.yard import Yard

from batchyard.ids import HostId
from batchyard_controller.core.events import HostHeard
from batchyard_controller.core.limits import CLOCK_OFF_HEARTBEATS, CLOCK_OFF_MS_MAX
from batchyard_controller.core.model.hosts import Host

HOST = HostId("one")


@pytest.fixture
def yard() -> Yard:
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host(HOST, cpu=1000)
    return yard


def _hear(yard: Yard, off_ms: int, times: int = CLOCK_OFF_HEARTBEATS) -> Host:
    for _ in range(times):
        yard.apply(HostHeard(host_id=HOST, wall_ms=yard.now.wall_ms + off_ms))
    return yard.world.hosts[HOST]


@pytest.mark.parametrize("off_ms", [0, 5_000, CLOCK_OFF_MS_MAX])
def test_a_clock_within_the_bound_is_right(yard: Yard, off_ms: int) -> None:
    assert _hear(yard, off_ms, 100).clock_fault == ""


def test_a_clock_beyond_it_is_off_after_some_heartbeats(yard: Yard) -> None:
    assert _hear(yard, CLOCK_OFF_MS_MAX + 1, CLOCK_OFF_HEARTBEATS - 1).clock_fault == ""
    assert _hear(yard, CLOCK_OFF_MS_MAX + 1, 1).clock_fault == "its clock is 60 s ahead of the controller's"


def test_what_runs_goes_on_and_what_waits_is_placed_when_the_clock_is_right(yard: Yard) -> None:
    job, waits = yard.submit(), yard.submit()
    yard.plan()
    yard.started(f"{job.id}#1")
    assert _hear(yard, 10**12).is_reachable
    yard.ended(f"{job.id}#1")
    yard.plan()
    assert waits.state == "RUNNABLE"
    _hear(yard, 0, 1)
    yard.plan()
    assert waits.state == "STARTING"


def test_a_host_that_tells_no_time_is_not_judged(yard: Yard) -> None:
    """As agents of a former version."""
    for _ in range(10):
        yard.apply(HostHeard(host_id=HOST))
    assert yard.world.hosts[HOST].clock_fault == ""
