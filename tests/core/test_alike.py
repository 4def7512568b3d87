"""Children that go through the same are taken together: nobody can tell it from one by one."""

from __future__ import annotations

from random import Random

import pytest
from tests.core.law import Shelf, described
from tests.core.yard import Yard, container, ended_report

from batchyard.ids import AttemptId, HostId
from batchyard.states import EndCause
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.commands import PublishMove
from batchyard_controller.core.events import AttemptsReported
from batchyard_controller.core.model.dependencies import Dependency, DependencyType
from batchyard_controller.core.model.jobs import RetryStrategy
from batchyard_controller.core.reactor.apply import apply
from batchyard_controller.store.moves import join, told_by


def _reports(yard: Yard, host: str, dice: Random) -> tuple[Report, ...]:
    """Return what a host might say of its attempts: that some run, that most have ended, now and then one thing twice."""
    told: list[Report] = []
    for name in sorted(yard.world.hosts[HostId(host)].attempts):
        if dice.random() < 0.3:
            told.append(Report(attempt_id=AttemptId(name), phase=Phase.RUNNING, started_at_ms=2_000))
        if dice.random() < 0.7:
            code = dice.choice((0, 0, 0, 0, 3))
            told.append(ended_report(name, code, EndCause.STOPPED if dice.random() < 0.02 else EndCause.EXITED))
        if told and dice.random() < 0.05:
            told.append(told[-1])
    dice.shuffle(told)
    return tuple(told)


def _play(yard: Yard, seed: int, *, together: bool) -> None:
    """Let jobs of all kinds run to their end, with reports and claims many at once or one by one."""
    dice, shelf = Random(seed), Shelf()
    yard.environment()
    yard.queue()
    for host, cpu, gpus in (("a", 90_000, 0), ("b", 60_000, 4)):
        yard.host(host, cpu=cpu, memory=100_000, gpus=gpus)
    first = yard.submit(array_size=150, retry=RetryStrategy(attempts=2))
    yard.submit(array_size=150, depends_on=(Dependency(job_id=first.id, type=DependencyType.N_TO_N),))
    yard.submit(array_size=30, array_concurrency=4)
    yard.submit(array_size=4, depends_on=(Dependency(type=DependencyType.SEQUENTIAL),))
    yard.submit(array_size=6, container=container(gpu=500))
    for _ in range(5):
        yard.submit()
    for _ in range(200):
        yard.plan(None if together else 1)
        if not yard.world.attempts:
            break
        for host in ("a", "b"):
            reports = _reports(yard, host, dice)
            for some in (reports,) if together else [(each,) for each in reports]:
                yard.apply(AttemptsReported(host_id=HostId(host), reports=some))
        if together:
            shelf.check(yard.world, yard.now)
    assert not yard.world.attempts


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(3))
def test_together_is_as_one_by_one(seed: int):
    one, other = Yard(), Yard()
    _play(one, seed, together=True)
    _play(other, seed, together=False)
    assert described(one.world) == described(other.world)
    for moves in (one.moves, other.moves):
        moves.sort(key=lambda move: (move.job_id, -1 if move.index is None else move.index))
    assert [_told(move) for move in one.moves] == [_told(move) for move in other.moves]


def _told(move: PublishMove) -> tuple[object, ...]:
    return (move.job_id, move.index, move.before, move.after, move.why)


def test_children_that_moved_alike_are_kept_as_one_and_told_each_by_itself():
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host("a", cpu=64_000, memory=100_000)
    yard.submit(array_size=64)
    yard.plan()
    told = [move for move in yard.moves if move.index is not None]
    assert [move.index for move in told] == list(range(64))
    alone = told[0]
    batches = join([], [alone._replace(others=tuple(range(1, 64)))], 7, 10)[1]
    assert [(batch.start, batch.end) for batch in batches] == [((7, 10), (7, 73))]
    assert [each._replace(group="") for each in told_by(batches[0])] == [each._replace(group="") for each in told]
    one_by_one = join([], told, 7, 10)[1]
    assert len(batches[0].raw) < len(one_by_one[0].raw) / 10


def test_one_report_of_all_is_one_move_a_chunk():
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host("a", cpu=100_000, memory=100_000)
    yard.submit(array_size=100)
    yard.plan()
    reports = tuple(map(ended_report, yard.live()))
    out = apply(yard.world, AttemptsReported(host_id=HostId("a"), reports=reports), yard.now)
    sizes = [move.size for move in out if isinstance(move, PublishMove) and move.index is not None]
    assert sizes == [64, 64, 36, 36]
