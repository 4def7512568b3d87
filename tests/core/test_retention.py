"""History is forgotten by age, and no step of the clock makes it old: jobs, and the names of hosts that are gone."""

from __future__ import annotations

import pytest
from tests.core.law import Shelf
from tests.core.yard import Yard, facts

from batchyard.arns import instance_id
from batchyard.ids import HostId
from batchyard_controller.core.events import HostJoined, HostLeft, HostMarked, Ticked
from batchyard_controller.core.jobs.retention import DAY_MS, Retention
from batchyard_controller.core.model.jobs import RetryStrategy
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests.hosts import remove_host
from batchyard_controller.core.views import words


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


def test_nor_does_one_that_was_behind_make_old_what_it_dated(yard: Yard) -> None:
    """Found by the simulation: what a leader took in that was ten days behind, the next one erased at once."""
    yard.now = Instant(wall_ms=yard.now.wall_ms + 20 * DAY_MS, boot_ms=6_000)
    right = yard.submit()
    yard.now = Instant(wall_ms=yard.now.wall_ms - 10 * DAY_MS, boot_ms=7_000)
    behind = yard.submit()
    yard.cancel(right.id)
    yard.cancel(behind.id)
    shelf = Shelf()
    shelf.commit(yard.world)
    yard.now = Instant(wall_ms=yard.now.wall_ms + 10 * DAY_MS, boot_ms=77)
    yard.world = shelf.restore(yard.now, Retention())
    yard.host("h1")
    tick(yard, wall_ms=1_000, boot_ms=1_000)
    assert {right.id, behind.id} <= yard.world.jobs.keys()
    assert tick(yard, wall_ms=8 * DAY_MS, boot_ms=8 * DAY_MS) == 0


@pytest.fixture
def heard() -> Yard:
    """A yard without jobs, whose host tells the date."""
    yard = Yard()
    yard.now = Instant(wall_ms=100 * DAY_MS, boot_ms=5_000)
    yard.environment()
    yard.queue()
    yard.host("h1")
    return yard


def test_nor_does_one_that_goes_back_before_anything_is_submitted(heard: Yard) -> None:
    """Found by the simulation: only hosts told this leader the date, before its clock went ten days back."""
    assert tick(heard, wall_ms=1_000, boot_ms=1_000) == 0
    assert tick(heard, wall_ms=-10 * DAY_MS, boot_ms=1_000) == 0
    heard.cancel(heard.submit().id)
    assert led_again(heard, Shelf(), wall_ms=10 * DAY_MS) == 1
    assert tick(heard, wall_ms=8 * DAY_MS, boot_ms=8 * DAY_MS) == 0


@pytest.mark.parametrize("terms", [1, 2])
def test_nor_does_one_that_goes_back_while_a_job_of_a_week_runs(heard: Yard, terms: int) -> None:
    """What bounds its age is when it ended, not when it was submitted; and what is known of that is stored."""
    job = heard.submit()
    assert tick(heard, wall_ms=8 * DAY_MS, boot_ms=8 * DAY_MS) == 1
    heard.host("h1")
    assert tick(heard, wall_ms=-10 * DAY_MS, boot_ms=1_000) == 1
    heard.cancel(job.id)
    shelf = Shelf()
    for _ in range(terms):
        assert led_again(heard, shelf, wall_ms=10 * DAY_MS // terms) == 1
    assert tick(heard, wall_ms=8 * DAY_MS, boot_ms=8 * DAY_MS) == 0


def led_again(yard: Yard, shelf: Shelf, *, wall_ms: int) -> int:
    """Let another leader take over, whose clock differs; return how many jobs it keeps after its first tick."""
    shelf.commit(yard.world)
    yard.now = Instant(wall_ms=yard.now.wall_ms + wall_ms, boot_ms=77)
    yard.world = shelf.restore(yard.now, Retention())
    yard.host("h1")
    return tick(yard, wall_ms=1_000, boot_ms=1_000)


@pytest.mark.parametrize("submits", [False, True])
def test_nor_does_one_that_stays_wrong_over_two_terms(yard: Yard, *, submits: bool) -> None:
    """Found by the simulation: what the first of two leaders dated ahead told the second that its clock is right."""
    yard.host("h1")
    shelf = Shelf()
    for leader in range(2):
        shelf.commit(yard.world)
        yard.now = Instant(wall_ms=yard.now.wall_ms + 10 * DAY_MS * (leader == 0), boot_ms=77)
        yard.world = shelf.restore(yard.now, Retention())
        yard.apply(HostJoined(host_id=HostId("h1"), facts=facts("h1"), session=2, reports=()))
        if submits:
            yard.submit()
        assert tick(yard, wall_ms=1_000, boot_ms=1_000) == 1 + submits * (leader + 1)
    tick(yard, wall_ms=8 * DAY_MS, boot_ms=8 * DAY_MS)
    assert all(not job.state.is_final for job in yard.world.jobs.values())


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


ID = HostId("00000000-0000-4000-8000-000000000002")


def join(yard: Yard) -> None:
    """Let the host h2 join."""
    yard.apply(HostJoined(host_id=ID, facts=facts("h2"), session=1, reports=()))


@pytest.fixture
def told(yard: Yard) -> Yard:
    """A yard whose host h2, which ran a job, is removed."""
    join(yard)
    job = yard.submit(retry=RetryStrategy(attempts=1, infrastructure_retries=0))
    yard.plan()
    yard.apply(HostLeft(host_id=ID, session=1))
    yard.apply(HostMarked(host_id=ID, cordoned=True, draining=True))
    yard.apply(remove_host(yard.world, "h2", force=True))
    assert yard.reason(job.id) == f"Host EC2 (instance {instance_id(ID)}) terminated."
    return yard


def test_the_name_of_a_host_that_is_gone_is_kept_as_long_as_jobs(told: Yard) -> None:
    """A new leader knows it too, and nothing else sees the host."""
    shelf = Shelf()
    shelf.check(told.world, told.now)
    told.world = shelf.restore(told.now, Retention())
    assert (words.host_name(told.world, ID), told.world.hosts) == ("h2", {})
    tick(told, wall_ms=6 * DAY_MS, boot_ms=6 * DAY_MS)
    shelf.check(told.world, told.now)
    assert words.host_name(told.world, ID) == "h2"
    tick(told, wall_ms=10 * DAY_MS, boot_ms=1_000)
    assert words.host_name(told.world, ID) == "h2", "by no step of the clock"
    tick(told, wall_ms=-2 * DAY_MS, boot_ms=8 * DAY_MS)
    shelf.check(told.world, told.now)
    assert words.host_name(told.world, ID) == ID


def test_the_name_of_a_host_that_was_forgotten_in_time_is_kept_too(yard: Yard) -> None:
    join(yard)
    yard.apply(HostLeft(host_id=ID, session=1))
    for _ in range(30):
        tick(yard, wall_ms=DAY_MS, boot_ms=DAY_MS)
    assert (words.host_name(yard.world, ID), yard.world.hosts) == ("h2", {})
    for _ in range(7):
        tick(yard, wall_ms=DAY_MS, boot_ms=DAY_MS)
    assert words.host_name(yard.world, ID) == ID


def test_a_host_that_joins_again_is_not_gone(told: Yard) -> None:
    """It is as new: what an operator had marked is forgotten."""
    shelf = Shelf()
    join(told)
    shelf.check(told.world, told.now)
    record = told.world.hosts[ID].record
    assert (record.gone_at_ms, record.cordoned, record.draining) == (0, False, False)
    assert not told.world.gone_hosts
    tick(told, wall_ms=8 * DAY_MS, boot_ms=8 * DAY_MS)
    assert told.world.hosts.keys() == {ID}
