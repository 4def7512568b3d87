"""The trail: what is told with what it rests on, what is kept, what is found."""

from __future__ import annotations

import pytest
from tests.core.yard import Yard, container, ended_report

from batchyard.ids import HostId, JobId
from batchyard.states import EndCause, JobState
from batchyard_controller.core.commands import Happening, PublishMove, PublishNotice, Subject, Why
from batchyard_controller.core.events import AttemptsReported, SealedChanged, Ticked
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.dependencies import Dependency
from batchyard_controller.core.model.endings import Trigger
from batchyard_controller.core.model.restores import in_generation
from batchyard_controller.core.model.sinks import Sink
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.refusals import Block
from batchyard_controller.core.reactor.recovery import restore
from batchyard_controller.core.views.happenings import move_text, notice_text
from batchyard_controller.store.codec import encode_touched, load_records
from batchyard_controller.store.memory import MemoryData, MemoryStore
from batchyard_controller.store.moves import LOST_KEY, PREFIX, join, told_by
from batchyard_controller.store.packing import check
from batchyard_controller.store.protocol import Atom, Put, UnknownOutcomeError
from batchyard_controller.trail import Trail, TrailBounds, write_cursor

NOW = Instant(wall_ms=5_000, boot_ms=5_000)


def move(job: str, group: str = "", index: int | None = None, at_ms: int = 5_000, words: str = "") -> PublishMove:
    why = Why(Trigger.TERMINATED, words=words)
    return PublishMove(JobId(job), index, JobState.RUNNABLE, JobState.FAILED, at_ms, 0, why, group=group or job)


def atom(name: str, size: int = 1) -> Atom:
    return tuple(Put(f"state/{name}/{i}", b"{}") for i in range(size))


def told_in(atoms: list[Atom]) -> list[list[str]]:
    """Return, of each atom, the names of what changes and then of who is told to have moved."""
    names = []
    for each in atoms:
        keys = dict.fromkeys(change.key.split("/")[1] for change in each if not change.key.startswith(PREFIX))
        names.append(list(keys))
    return names


def test_a_move_is_stored_with_its_records_and_what_follows_with_its_cause():
    groups = [(name, atom(name, 60)) for name in ("a", "b")]
    follows = move("c", group="a")
    atoms, batches = join(groups, [move("a"), move("b"), follows], 7, 1)
    check(atoms)
    assert told_in(atoms) == [["a"], ["b"]]
    assert [[each.job_id for each in told_by(batch)] for batch in batches] == [["a", "c"], ["b"]]
    assert [(batch.start, batch.end) for batch in batches] == [((7, 1), (7, 2)), ((7, 3), (7, 3))]
    assert [atoms[i][-1].key for i in (0, 1)] == [batch.key for batch in batches]


def test_of_one_unit_moves_stay_in_order_wherever_their_records_are():
    groups = [("b", atom("b", 60)), ("a", atom("a", 60))]
    released, claimed = move("b", group="a"), move("b", group="b")
    _, batches = join(groups, [move("a"), released, claimed], 7, 1)
    told = [each for batch in batches for each in told_by(batch)]
    assert [(each.job_id, each.at_ms) for each in told] == [("b", 5_000), ("b", 5_000), ("a", 5_000)]


def test_more_than_a_transaction_holds_is_told_before_its_cause():
    """Rather twice than never, if the transactions are cut between the two."""
    follow = [move(f"f{i}", group="a", words="x" * 1000) for i in range(2_000)]
    atoms, batches = join([("a", atom("a"))], [move("a"), *follow], 7, 1)
    check(atoms)
    assert sum(batch.size for batch in batches) == 2_001
    assert [name for name, each in zip(told_in(atoms), atoms, strict=True) if name] == [["a"]]
    assert told_in(atoms)[-1] == ["a"], "the cause comes last"


def test_what_changes_nothing_is_told_alone():
    notice = PublishNotice(Subject.HOST, "h", Happening.LEFT, 5_000)
    atoms, (batch,) = join([], [notice], 7, 3)
    assert [change.key for change in atoms[0]] == [batch.key]
    assert told_by(batch) == (notice,)


def test_moves_and_notices_come_back_as_they_were_told():
    why = Why(Trigger.RETRIED, "other", 2, "h-1", 137, EndCause.OUT_OF_MEMORY, "too much")
    moved = PublishMove(JobId("a"), 3, JobState.RUNNING, JobState.RUNNABLE, 4_000, 9, why)
    notice = PublishNotice(Subject.HOST, "h-1", Happening.DOUBTED, 4_001, "why")
    _, (batch,) = join([], [notice, moved, notice], 7, 1)
    assert told_by(batch) == (notice, moved, notice)


async def grown(trail: Trail, store: MemoryStore, names: list[str], now: Instant = NOW) -> None:
    """Let a trail grow by one record a name."""
    for name in names:
        published = [move(name, at_ms=now.wall_ms)]
        await store.commit(trail.join([(name, atom(name))], published, now, None), trail.end[0])
        trail.publish()


async def test_trail_outlives_its_term_and_places_too():
    store = MemoryStore()
    first = Trail(await store.campaign("a"))
    await first.recall(store)
    await grown(first, store, ["a", "b"])
    cursor = write_cursor((first.end[0], 1), 0)
    second = Trail(await store.campaign("b"))
    assert second.resume(cursor) is None, "not before it is recalled"
    await second.recall(store)
    await grown(second, store, ["c"])
    place = second.resume(cursor)
    assert place is not None
    assert [told.job_id for _, told in second.look(place, 10).told] == ["b", "c"]
    for unknown in ("9-1-0", f"{first.end[0]}-3-0", f"{second.end[0]}-2-0"):
        assert second.resume(unknown) is None, unknown


async def test_after_a_restore_nothing_is_skipped_that_a_lost_term_had_numbers_for():
    """A relay may have delivered what the backup does not know; a watcher saw what is no more."""
    store = MemoryStore()
    trail = Trail(await store.campaign("a"))
    await trail.recall(store)
    await grown(trail, store, ["a"])
    lost = (5, 100)
    restored = Trail(in_generation(28_488_836, await store.campaign("b")))
    await restored.recall(store)
    published = [move("new")]
    await store.commit(restored.join([("new", atom("new"))], published, NOW, None), 2)
    restored.publish()
    assert [told.job_id for _, told in restored.look(lost, 10).told] == ["new"]
    assert restored.resume(write_cursor(lost, 0)) is None
    again = Trail(in_generation(28_488_836, await store.campaign("c")))
    await again.recall(store)
    assert [told.job_id for _, told in again.look((0, 0), 10).told] == ["a", "new"]


async def test_no_more_is_kept_than_was_said(monkeypatch: pytest.MonkeyPatch):
    store = MemoryStore()
    trail = Trail(await store.campaign("a"), TrailBounds(moves_max=50, backlog_max=100))
    await trail.recall(store)
    begin = write_cursor(trail.end, 0)
    await grown(trail, store, [f"j{i}" for i in range(200)])
    kept = [key async for page in store.load(PREFIX) for key, _ in page if key != LOST_KEY]
    assert 50 <= len(kept) <= 50 + 32
    assert trail.resume(begin) is None
    assert trail.since((1, 3), 10) is None
    again = Trail(await store.campaign("b"))
    await again.recall(store)
    assert again.lost == trail.lost
    assert [key async for page in store.load(PREFIX) for key, _ in page if key != LOST_KEY] == kept


async def test_what_is_waited_for_is_kept_up_to_a_bound():
    store = MemoryStore()
    trail = Trail(await store.campaign("a"), TrailBounds(moves_max=50, backlog_max=150))
    await trail.recall(store)
    for i in range(300):
        await store.commit(trail.join([], [move(f"j{i}")], NOW, (0, 0)), 1)
        trail.publish()
        if i == 149:
            assert trail.lost == (0, 0)
    assert (1, 110) <= trail.lost <= (1, 150)


async def test_old_moves_go(monkeypatch: pytest.MonkeyPatch):
    store = MemoryStore()
    trail = Trail(await store.campaign("a"), TrailBounds(age_ms=1_000))
    await trail.recall(store)
    await grown(trail, store, [f"j{i}" for i in range(40)])
    await grown(trail, store, ["new"], Instant(wall_ms=NOW.wall_ms + 2_000, boot_ms=0))
    assert trail.lost == (1, 40)


async def test_only_what_names_it_is_looked_at():
    store = MemoryStore()
    trail = Trail(await store.campaign("a"))
    await trail.recall(store)
    await grown(trail, store, ["abc", "xyz", "abc"])
    part = trail.look((0, 0), 10, b"abc")
    assert [place for place, _ in part.told] == [(1, 1), (1, 3)]
    assert part.end == trail.end


async def test_the_latest_come_first_over_terms_and_records():
    store = MemoryStore()
    first = Trail(await store.campaign("a"))
    await first.recall(store)
    await grown(first, store, ["a", "b"])
    trail = Trail(await store.campaign("b"))
    await trail.recall(store)
    published = [move(name) for name in "cde"]
    await store.commit(trail.join([("c", atom("c"))], published, NOW, None), 2)
    trail.publish()
    whole = trail.look_back(None, 10)
    assert ([told.job_id for _, told in whole.told], whole.end) == (["e", "d", "c", "b", "a"], (0, 0))
    begun = trail.look_back(None, 1)
    assert ([told.job_id for _, told in begun.told], begun.end) == (["e", "d", "c"], (2, 1)), "whole records"
    assert [told.job_id for _, told in trail.look_back((2, 2), 10).told] == ["c", "b", "a"]
    assert [told.job_id for _, told in trail.look_back((2, 1), 10).told] == ["b", "a"]
    assert [told.job_id for _, told in trail.look_back(None, 10, b'"b"').told] == ["b"]
    assert not trail.look_back(None, 10, since_ms=NOW.wall_ms + 1).told


def _turn(yard: Yard) -> tuple[list[tuple[str, Atom]], list[PublishMove]]:
    """Return what changed since it was last asked, and what was told of it."""
    touched = yard.world.ledger.take()
    moves, yard.moves = yard.moves, []
    return list(zip(touched, encode_touched(yard.world, touched), strict=True)), moves


async def test_wherever_a_commit_is_cut_the_trail_tells_of_what_is_stored(yard: Yard):
    """Also of what follows from the end of another: each job's last move leads to where a new leader finds it."""
    yard.host("big", cpu=400_000, memory=100_000)
    firsts = [yard.submit() for _ in range(200)]
    for first in firsts:
        yard.submit(depends_on=(Dependency(job_id=first.id),))
    yard.plan()
    data = MemoryData()
    store = MemoryStore(data)
    epoch = await store.campaign("first")
    await store.commit(Trail(epoch).join(*_turn(yard), yard.now, None), epoch)
    await store.resign()
    yard.apply(AttemptsReported(host_id=HostId("big"), reports=tuple(map(ended_report, yard.live()))))
    yard.plan()
    groups, published = _turn(yard)
    atoms = len(Trail(1).join(groups, published, yard.now, None))
    assert atoms > 3
    for cut in range(atoms + 1):
        copy = MemoryData()
        copy.pairs, copy.epoch = dict(data.pairs), data.epoch
        leader = MemoryStore(copy)
        epoch = await leader.campaign("a")
        copy.cut_next_commit(cut)
        with pytest.raises(UnknownOutcomeError):
            await leader.commit(Trail(epoch).join(groups, published, yard.now, None), epoch)
        heir = MemoryStore(copy)
        trail = Trail(await heir.campaign("b"))
        await trail.recall(heir)
        world = restore(await load_records(heir), yard.now, Retention())
        last = {told.job_id: told.after for _, told in trail.look((0, 0), 10_000).told if isinstance(told, PublishMove)}
        assert {job.id: job.state for job in world.jobs.values()} == last, f"after {cut} of {atoms} atoms"


def test_a_blocked_queue_is_told_once_where_somebody_is_told(yard: Yard):
    yard.submit(container=container(cpu=64_000))
    yard.plan()

    def tick(later_ms: int) -> None:
        yard.now = Instant(wall_ms=yard.now.wall_ms + later_ms, boot_ms=yard.now.boot_ms + later_ms)
        yard.apply(Ticked())

    yard.notices.clear()
    tick(0)
    tick(70_000)
    assert not [n for n in yard.notices if n.subject is Subject.QUEUE], "there is no sink"
    yard.apply(SealedChanged(kept=(Sink(name="s", url="file:s"),)))
    for later_ms in (0, 59_999, 1, 60_000):
        tick(later_ms)
    (notice,) = [n for n in yard.notices if n.subject is Subject.QUEUE]
    assert (notice.id, notice.what, notice.words) == ("q", Happening.BLOCKED, Block.BEYOND_HOSTS)
    assert notice_text(notice).endswith("attached to the job queue.")


def test_moves_say_why(yard: Yard):
    job = yard.submit()
    yard.plan()
    moves = [m for m in yard.moves if m.job_id == job.id]
    assert [m.why.trigger for m in moves] == [Trigger.RELEASED, Trigger.CLAIMED]
    assert moves[1].why.host_id == HostId("h1")
    assert move_text(yard.world, moves[1]) == "it was placed on a host; attempt 1 on h1"
    assert [(n.what, n.id) for n in yard.notices] == [(Happening.JOINED, "h1")]
    assert notice_text(yard.notices[0]) == "its agent connected"
