"""What jobs took that are no longer kept: each is summed once, whatever is cut short, and bounded."""

from __future__ import annotations

import asyncio

import pytest
from tests.core.law import Shelf
from tests.core.test_node_laws import nodes
from tests.core.yard import Yard

from batchyard_controller.core.events import JobsArchived, Ticked
from batchyard_controller.core.jobs.retention import DAY_MS, SETTLE_MS, Retention, forgettable
from batchyard_controller.core.model.hosts import HEARD_SAVE_MS
from batchyard_controller.core.model.identities import ADMINISTRATOR
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.past import SumKey, day_of
from batchyard_controller.core.model.usage import UsageSum
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.reactor.recovery import restore
from batchyard_controller.core.views.listing import JobFilter
from batchyard_controller.core.views.usage import UsageKey, UsageQuery, sum_usage
from batchyard_controller.core.world import leaving
from batchyard_controller.core.world.world import World
from batchyard_controller.store.codec import encode_touched, load_records
from batchyard_controller.store.memory import MemoryStore
from batchyard_controller.store.protocol import UnknownOutcomeError

RETENTION = Retention(age_ms=DAY_MS, count=1_000)


def summed(world: World, *keys: UsageKey, **fields: object) -> dict[tuple[str, ...], int]:
    """Return how many attempts are summed, by keys."""
    found: dict[tuple[str, ...], int] = {}
    query, beyond = UsageQuery(keys=keys, **fields), None  # type: ignore[arg-type]
    while True:
        look = sum_usage(world, query, beyond)
        for key, each in look.sums.items():
            found[key] = found.get(key, 0) + each.attempts
        if look.next_beyond is None:
            return found
        beyond = look.next_beyond


@pytest.fixture
def yard() -> Yard:
    """A yard in which four jobs of two users, and an array of five, have run."""
    yard = Yard()
    yard.now = Instant(wall_ms=50_000_000, boot_ms=5_000)
    yard.world.retention = RETENTION
    yard.environment()
    yard.queue()
    yard.host("h")
    for owner in ("", "ann", "ann", "tenant/bob"):
        yard.submit(owner=owner)
    yard.submit(array_size=5)
    yard.run_all()
    return yard


def later(yard: Yard, days: float = 2) -> None:
    """Let so much time pass, and its ticks come."""
    ms = int(days * DAY_MS)
    yard.now = Instant(wall_ms=yard.now.wall_ms + ms, boot_ms=yard.now.boot_ms + ms)
    yard.apply(Ticked())


def test_sums_stay_when_jobs_go_and_say_the_same(yard: Yard) -> None:
    keys = (UsageKey.USER, UsageKey.QUEUE, UsageKey.DEFINITION, UsageKey.DAY)
    before = summed(yard.world, *keys)
    assert sum(before.values()) == 9
    later(yard)
    assert not yard.world.jobs
    assert summed(yard.world, *keys) == before
    assert summed(yard.world, UsageKey.USER) == {(ADMINISTRATOR,): 6, ("ann",): 2, ("tenant/bob",): 1}
    assert summed(yard.world, UsageKey.JOB) == {("",): 9}
    assert summed(yard.world, jobs=JobFilter(owner="ann")) == {(): 2}
    assert summed(yard.world, jobs=JobFilter(name="job")) == {}
    midnight = yard.now.wall_ms // DAY_MS * DAY_MS
    assert summed(yard.world, ended_after_ms=midnight) == {}
    assert summed(yard.world, ended_before_ms=midnight) == {(): 9}


def test_a_restart_knows_the_sums_and_gives_no_number_twice(yard: Yard) -> None:
    shelf = Shelf()
    shelf.check(yard.world, yard.now)
    later(yard)
    shelf.check(yard.world, yard.now)  # restores what is stored, and compares
    assert yard.submit().seq == 6


@pytest.mark.parametrize("atoms", range(8))
def test_a_commit_that_is_cut_short_sums_no_job_twice_and_loses_none(yard: Yard, atoms: int) -> None:
    async def cut() -> int:
        store = MemoryStore()
        epoch = await store.campaign("a")
        await store.commit(encode_touched(yard.world, yard.world.ledger.take()), epoch)
        later(yard)
        store._data.cut_next_commit(atoms)
        with pytest.raises(UnknownOutcomeError):
            await store.commit(encode_touched(yard.world, yard.world.ledger.take()), epoch)
        yard.world = restore(await load_records(store), yard.now, RETENTION)
        left = len(yard.world.jobs)
        epoch = await store.campaign("b")
        await store.commit(encode_touched(yard.world, yard.world.ledger.take()), epoch)
        later(yard)  # a new leader believes no date at first
        later(yard)
        await store.commit(encode_touched(yard.world, yard.world.ledger.take()), epoch)
        again = restore(await load_records(store), yard.now, RETENTION)
        assert summed(again) == {(): 9}
        assert not again.jobs
        assert not [key for page in [page async for page in store.load("job")] for key, _ in page]
        return left

    assert asyncio.run(cut()) == (5 if atoms == 0 else 0)


def due_now(yard: Yard, *, in_need: bool = False) -> list[Job]:
    """Return who leaves now."""
    assert yard.world.calendar is not None
    return forgettable(yard.world.ended, yard.world.retention, yard.world.calendar, in_need=in_need)


def test_what_has_just_ended_stays_for_a_minute_whatever_the_date_and_the_clock(yard: Yard) -> None:
    """The date of a new leader may be an hour behind, and clocks are set; a store in need cannot wait for these."""
    yard.world.retention = Retention(count=0, is_archived=True)
    assert yard.world.calendar is not None
    yard.world.calendar.date_ms -= HEARD_SAVE_MS
    assert due_now(yard) == []
    for boot_ms, wall_ms, number in ((SETTLE_MS - 1, -DAY_MS, 0), (1, 2 * DAY_MS, 5)):
        yard.now = Instant(wall_ms=yard.now.wall_ms + wall_ms, boot_ms=yard.now.boot_ms + boot_ms)
        yard.apply(Ticked())
        assert len(due_now(yard)) == number


def test_only_what_is_in_the_archive_goes_where_there_is_one(yard: Yard) -> None:
    yard.world.retention = Retention(count=2, is_archived=True)
    later(yard)
    assert len(yard.world.jobs) == 5
    due = due_now(yard)
    assert len(due) == 3
    assert len(due_now(yard, in_need=True)) == 5
    yard.now = Instant(wall_ms=yard.now.wall_ms, boot_ms=yard.now.boot_ms + 1)
    yard.apply(JobsArchived(jobs=tuple(due)))
    assert len(yard.world.jobs) == len(yard.world.ended) == 2
    assert summed(yard.world) == {(): 9}


def test_nodes_that_are_still_being_stopped_hold_up_nobody_else(yard: Yard) -> None:
    job = yard.submit(nodes=nodes(2), task=None, container=None)
    yard.plan()
    for index in (0, 1):
        yard.started(f"{job.id}#{index}#1")
        yard.plan()
    yard.ended(f"{job.id}#0#1")
    assert (job.state.is_final, job.children.all_final) == (True, False)
    yard.world.ended.rotate()  # it is the first to be forgotten
    assert yard.world.ended[0] is job
    yard.world.retention = Retention(count=0)
    due = due_now(yard)
    assert due == list(yard.world.ended)[1:]


def test_sums_are_bounded_by_age_and_by_number(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    later(yard)
    assert len(yard.world.past) == 3
    monkeypatch.setattr(leaving, "KEPT_MAX", 2)
    later(yard, days=0.1)
    assert not yard.world.past
    yard.world.past[SumKey("1960-01-01", "q", "", "").name] = UsageSum(attempts=1)
    later(yard, days=0.1)
    assert not yard.world.past
    assert day_of(0) == "1970-01-01"
