"""History is forgotten by age, and no step of the clock makes it old."""

from __future__ import annotations

import pytest
from tests.core.law import Shelf
from tests.core.yard import Yard

from batchyard.ids import HostId
from batchyard_controller.core.events import HostMarked, Ticked
from batchyard_controller.core.jobs.retention import DAY_MS, Retention
from batchyard_controller.core.model.values import Instant


@pytest.fixture
def yard() -> Yard:
    """A yard with one job that has ended: cancelled as it waited for a host."""
    yard = Yard()
    yard.now = Instant(wall_ms=1_000_000, boot_ms=5_000)
    yard.environment()
    yard.queue()
    yard.cancel(yard.submit().id)
    return yard


def tick(yard: Yard, *, wall_ms: int, boot_ms: int) -> int:
    """Let the clocks go on, each for itself; return how many jobs are kept."""
    yard.now = Instant(wall_ms=yard.now.wall_ms + wall_ms, boot_ms=yard.now.boot_ms + boot_ms)
    yard.apply(Ticked())
    return len(yard.world.jobs)


def test_a_clock_that_is_wrong_for_a_moment_erases_nothing(yard: Yard) -> None:
    assert tick(yard, wall_ms=10 * DAY_MS, boot_ms=1_000) == 1
    assert tick(yard, wall_ms=-10 * DAY_MS, boot_ms=1_000) == 1
    assert tick(yard, wall_ms=-3_600_000, boot_ms=1_000) == 1
    assert tick(yard, wall_ms=3_600_000, boot_ms=1_000) == 1
    assert tick(yard, wall_ms=6 * DAY_MS, boot_ms=6 * DAY_MS) == 1
    assert tick(yard, wall_ms=2 * DAY_MS, boot_ms=2 * DAY_MS) == 0


def test_neither_does_one_that_is_found_wrong_at_a_start(yard: Yard) -> None:
    """A clock that is ahead looks as if the controller had been away; that time makes nothing older."""
    shelf = Shelf()
    shelf.commit(yard.world)
    yard.now = Instant(wall_ms=yard.now.wall_ms + 10 * DAY_MS, boot_ms=77)
    yard.world = shelf.restore(yard.now, Retention())
    assert tick(yard, wall_ms=1_000, boot_ms=1_000) == 1
    assert tick(yard, wall_ms=8 * DAY_MS, boot_ms=8 * DAY_MS) == 0


def test_nor_does_it_forget_hosts() -> None:
    """With their marks; although no job is kept that could tell the date."""
    yard = Yard()
    yard.now = Instant(wall_ms=100 * DAY_MS, boot_ms=5_000)
    yard.host("h1")
    yard.apply(HostMarked(host_id=HostId("h1"), cordoned=True, draining=False))
    shelf = Shelf()
    shelf.commit(yard.world)
    yard.now = Instant(wall_ms=yard.now.wall_ms + 31 * DAY_MS, boot_ms=77)
    yard.world = shelf.restore(yard.now, Retention())
    tick(yard, wall_ms=1_000, boot_ms=1_000)
    assert yard.world.hosts[HostId("h1")].record.cordoned
    tick(yard, wall_ms=31 * DAY_MS, boot_ms=31 * DAY_MS)
    assert not yard.world.hosts
