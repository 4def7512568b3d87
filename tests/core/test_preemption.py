"""Preemption: who is stopped so that another starts, and that nobody else takes the room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.law import Shelf
from tests.core.yard import EPOCH, Yard, container, task

from batchyard.ids import AttemptId, HostId
from batchyard.states import EndCause, JobState
from batchyard_controller.core import limits
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.commands import SendStop
from batchyard_controller.core.events import HostJoined, HostLeft, Planned
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.jobs import Job, JobKind, RetryStrategy
from batchyard_controller.core.model.nodes import NodeRange, Nodes, Spread
from batchyard_controller.core.model.policies import ShareWeight
from batchyard_controller.core.model.settings import ComputeResources, Preemption
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests.settings import update_queue
from batchyard_controller.core.requests.submissions import update_job
from batchyard_controller.core.views.words import ending_reason
from batchyard_controller.core.world.waiting import shape_of

PREEMPTS = {"preemption": Preemption.LOWER_PRIORITY}


@pytest.fixture
def yard() -> Yard:
    made = Yard()
    made.environment()
    made.queue("low", priority=1, preemptible=True)
    made.queue("urgent", priority=5, **PREEMPTS)
    made.queue("firm", priority=1)
    return made


def asked(cpu: int = 1000, **fields: Any) -> dict[str, Any]:
    return {"container": container(cpu=cpu, **fields)}


def stopping(yard: Yard) -> list[str]:
    return sorted(a.id for a in yard.world.attempts.values() if a.preempted_for)


def stop(yard: Yard, *names: str) -> None:
    """Let the hosts say that attempts were stopped as they were told."""
    for name in names or stopping(yard):
        yard.ended(name, 137, EndCause.STOPPED)


def wait(yard: Yard, ms: int = 1000) -> None:
    yard.now = Instant(wall_ms=yard.now.wall_ms + ms, boot_ms=yard.now.boot_ms + ms)


def placed(yard: Yard, queue: str = "low", **fields: Any) -> Job:
    job = yard.submit(queue, **fields)
    yard.plan()
    assert job.state is JobState.STARTING, "there is room for it"
    wait(yard)
    return job


def test_a_full_host_is_cleared_for_a_job_of_higher_priority(yard: Yard):
    """The other is told to stop, runs again when there is room, and counts no try."""
    yard.host("h", cpu=1000)
    low = placed(yard)
    urgent = yard.submit("urgent")
    sent = yard.plan()
    assert [c for c in sent if isinstance(c, SendStop)] == [SendStop(HostId("h"), AttemptId(f"{low.id}#1"))]
    assert (low.state, urgent.state) == (JobState.STARTING, JobState.RUNNABLE)
    stop(yard)
    assert low.state is JobState.RUNNABLE
    yard.plan()
    assert (low.state, urgent.state) == (JobState.RUNNABLE, JobState.STARTING)
    yard.ended(f"{urgent.id}#1")
    yard.plan()
    yard.ended(f"{low.id}#2")
    assert (low.state, low.spec.retry.attempts) == (JobState.SUCCEEDED, 1)
    assert [(a.cause, a.preempted_for) for a in low.attempts] == [
        (EndCause.PREEMPTED, urgent.id),
        (EndCause.EXITED, ""),
    ]


def test_nobody_is_stopped_where_a_queue_does_not_allow_it(yard: Yard):
    """Neither those of a queue that is not preemptible, nor by one that does not ask, nor those of equal priority."""
    yard.host("h", cpu=2000)
    placed(yard, "firm")
    placed(yard, "low")
    yard.queue("patient", priority=9)
    yard.queue("equal", priority=1, **PREEMPTS)
    for queue in ("patient", "equal"):
        yard.submit(queue)
    yard.submit("urgent", **asked(2000))
    yard.plan()
    assert not stopping(yard)


def test_nobody_is_stopped_for_one_that_would_not_fit_all_the_same(yard: Yard):
    """All that may be stopped is less than it asks."""
    yard.host("h", cpu=4000)
    placed(yard, "firm", **asked(2000))
    placed(yard, "low", **asked(2000))
    yard.submit("urgent", **asked(3000))
    yard.plan()
    assert not stopping(yard)


def test_as_few_as_will_do_and_the_latest_first(yard: Yard):
    """One large rather than two small; of equals the one that ran least."""
    yard.host("h", cpu=4000)
    small = [placed(yard, **asked(1000)) for _ in range(2)]
    large = placed(yard, **asked(2000))
    yard.submit("urgent", **asked(2000))
    yard.plan()
    assert stopping(yard) == [f"{large.id}#1"]
    yard.submit("urgent", **asked(1000))
    yard.plan()
    assert stopping(yard) == sorted([f"{large.id}#1", f"{small[1].id}#1"])


def test_the_lowest_priority_goes_first(yard: Yard):
    """Whoever ran longest."""
    yard.queue("lower", priority=0, preemptible=True)
    yard.host("h", cpu=2000)
    lower, _ = placed(yard, "lower"), placed(yard, "low")
    yard.submit("urgent")
    yard.plan()
    assert stopping(yard) == [f"{lower.id}#1"]


def test_of_a_share_those_of_lower_scheduling_priority_are_stopped(yard: Yard):
    """In a queue that preempts and is preemptible; other shares are left alone."""
    yard.policy("p", ShareWeight(share_identifier="x"), ShareWeight(share_identifier="y"))
    yard.queue("shared", priority=1, scheduling_policy="p", preemptible=True, **PREEMPTS)
    yard.host("h", cpu=2000)
    low, _ = (
        placed(yard, "shared", share_identifier=share, scheduling_priority=priority)
        for share, priority in (("x", 3), ("y", 1))
    )
    equal = yard.submit("shared", share_identifier="x", scheduling_priority=3)
    yard.plan()
    assert not stopping(yard)
    event = update_job(yard.world, equal.id, 4)
    assert event is not None
    yard.apply(event)
    yard.plan()
    assert stopping(yard) == [f"{low.id}#1"]


def test_a_third_does_not_take_the_room(yard: Yard):
    """However short it is, and in whatever order of ends; equals in another queue of the same priority neither."""
    yard.queue("as urgent", priority=5)
    yard.host("h", cpu=3000)
    low = [placed(yard, **asked(1000)) for _ in range(3)]
    urgent = yard.submit("urgent", **asked(3000))
    yard.plan()
    assert len(stopping(yard)) == 3
    others = [yard.submit(queue, **asked(500), timeout_s=1) for queue in ("low", "as urgent", "firm")]
    for job in low:
        stop(yard, f"{job.id}#1")
        yard.plan(1)
    assert {job.state for job in others} == {JobState.RUNNABLE}
    assert urgent.state is JobState.STARTING


def test_who_leaves_room_beside_it_passes(yard: Yard):
    """More is kept for nobody than it needs."""
    yard.host("h", cpu=4000)
    placed(yard, **asked(3000))
    yard.submit("urgent", **asked(2000))
    yard.plan()
    assert len(stopping(yard)) == 1
    other = yard.submit("low", **asked(1000))
    yard.plan()
    assert other.state is JobState.STARTING


def test_whoever_has_a_higher_rank_takes_the_room(yard: Yard):
    """And the other has more stopped, if there is more."""
    yard.queue("top", priority=9)
    yard.host("h", cpu=2000)
    low = [placed(yard) for _ in range(2)]
    urgent = yard.submit("urgent")
    yard.plan()
    top = yard.submit("top")
    stop(yard)
    yard.plan()
    assert (top.state, urgent.state) == (JobState.STARTING, JobState.RUNNABLE)
    assert stopping(yard) == [f"{low[0].id}#1"]


def test_the_room_falls_to_all_when_the_one_it_was_for_is_cancelled(yard: Yard):
    """Who was stopped stays so, and starts again like anybody."""
    yard.host("h", cpu=1000)
    low = placed(yard)
    urgent = yard.submit("urgent")
    yard.plan()
    yard.cancel(urgent.id)
    assert not yard.world.reservations
    stop(yard)
    yard.plan()
    assert (low.state, list(yard.live())) == (JobState.STARTING, [f"{low.id}#2"])


def test_who_ends_by_itself_meanwhile_has_ended(yard: Yard):
    """With 0: it succeeded."""
    yard.host("h", cpu=1000)
    low = placed(yard)
    urgent = yard.submit("urgent")
    yard.plan()
    yard.ended(f"{low.id}#1", 0)
    yard.plan()
    assert (low.state, urgent.state) == (JobState.SUCCEEDED, JobState.STARTING)


def test_if_another_host_has_room_meanwhile_it_starts_there(yard: Yard):
    """And the room of who was stopped is free to all."""
    yard.host("h", cpu=1000)
    low = placed(yard)
    urgent = yard.submit("urgent")
    yard.plan()
    yard.host("i", cpu=1000)
    yard.plan()
    assert yard.live()[f"{urgent.id}#1"] == "i"
    stop(yard)
    yard.plan()
    assert low.state is JobState.STARTING


def test_hosts_are_cleared_for_several_of_a_line_at_once(yard: Yard):
    """An urgent array does not wait for one end after the other."""
    for name in "abc":
        yard.host(name, cpu=1000)
        placed(yard)
    array = yard.submit("urgent", array_size=5)
    yard.plan()
    assert len(stopping(yard)) == 3
    stop(yard)
    yard.plan()
    assert array.children.count(JobState.STARTING) == 3


def test_gpus_are_cleared_one_by_one(yard: Yard):
    """Two halves of different GPUs make no whole one: those on one GPU are stopped."""
    yard.host("h", cpu=8000, gpus=2)
    halves = [placed(yard, **asked(1000, gpu=500)) for _ in range(4)]
    gpus = {name: a.gpus[0].uuid for name, a in yard.world.attempts.items()}
    yard.submit("urgent", **asked(1000, gpu=1000))
    yard.plan()
    assert len(stopping(yard)) == 2
    assert len({gpus[AttemptId(name)] for name in stopping(yard)}) == 1
    assert f"{halves[3].id}#1" in stopping(yard)


def test_a_bound_of_vcpus_is_cleared_as_a_host_is(yard: Yard):
    """Though another host is empty."""
    yard.environment("ce", compute_resources=ComputeResources(max_vcpus=2))
    yard.host("h", cpu=2000)
    low = [placed(yard) for _ in range(2)]
    yard.host("i", cpu=2000)
    urgent = yard.submit("urgent", **asked(2000))
    yard.plan()
    assert stopping(yard) == sorted(f"{job.id}#1" for job in low)
    stop(yard)
    yard.plan()
    assert urgent.state is JobState.STARTING


def test_a_cap_is_kept_for_the_one_that_others_are_stopped_for(yard: Yard):
    """Of a queue that may run one job more nobody else takes that."""
    yard.queue("urgent", priority=5, max_running=1, **PREEMPTS)
    yard.host("h", cpu=2000)
    placed(yard, **asked(2000))
    urgent, small = yard.submit("urgent", **asked(2000)), yard.submit("urgent", **asked(500))
    yard.plan()
    assert len(stopping(yard)) == 1
    yard.host("i", cpu=500)
    yard.plan()
    assert small.state is JobState.RUNNABLE
    stop(yard)
    yard.plan()
    assert urgent.state is JobState.STARTING


@pytest.mark.parametrize(("again", "tries"), [(0, 1), (1, 2)])
def test_a_job_may_say_how_often_it_runs_again(yard: Yard, again: int, tries: int):
    """Then it ends FAILED, in AWS's words or ours."""
    yard.host("h", cpu=1000)
    low = placed(yard, retry=RetryStrategy(preemption_retries_before_termination=again))
    while not low.state.is_final:
        urgent = yard.submit("urgent")
        yard.plan()
        stop(yard)
        yard.plan()
        yard.ended(f"{urgent.id}#1")
        yard.plan()
    assert (low.state, len(low.attempts)) == (JobState.FAILED, tries)
    assert ending_reason(Unit(low)) == f"Preempted by job {urgent.id}"


def test_tries_that_were_preempted_leave_the_others_their_number(yard: Yard):
    """Of two attempts both are had, beside two preemptions."""
    yard.host("h", cpu=1000)
    low = placed(yard, retry=RetryStrategy(attempts=2))
    for number in (1, 2):
        urgent = yard.submit("urgent")
        yard.plan()
        stop(yard, f"{low.id}#{number}")
        yard.plan()
        yard.ended(f"{urgent.id}#1")
        yard.plan()
    yard.ended(f"{low.id}#3", 1)
    assert low.state is JobState.RUNNABLE
    yard.plan()
    yard.ended(f"{low.id}#4", 1)
    assert low.state is JobState.FAILED


def test_who_was_preempted_often_is_left_to_run(yard: Yard):
    """Its tries stay few enough to be kept."""
    yard.host("h", cpu=1000)
    array = yard.submit("low", array_size=2)
    for number in range(1, limits.PREEMPTIONS_MAX + 2):
        yard.plan()
        urgent = yard.submit("urgent")
        yard.plan()
        assert bool(stopping(yard)) == (number <= limits.PREEMPTIONS_MAX)
        stop(yard)
        yard.plan()
        if number <= limits.PREEMPTIONS_MAX:
            yard.ended(f"{urgent.id}#1")
    assert len(array.children.attempts(0)) == limits.PREEMPTIONS_MAX


@pytest.mark.parametrize("cause", [EndCause.LOST, EndCause.FENCED, EndCause.STOPPED, EndCause.RECLAIMED])
def test_however_it_is_cut_short_it_was_preempted(yard: Yard, cause: EndCause):
    """It had been told to stop, and infrastructure retries are not used up."""
    yard.host("h", cpu=1000)
    low = placed(yard, retry=RetryStrategy(infrastructure_retries=0))
    yard.submit("urgent")
    yard.plan()
    yard.ended(f"{low.id}#1", None, cause)
    assert (low.state, low.attempts[0].cause) == (JobState.RUNNABLE, EndCause.PREEMPTED)


def test_who_is_terminated_meanwhile_is_not_run_again(yard: Yard):
    """The user's word counts."""
    yard.host("h", cpu=1000)
    low = placed(yard)
    yard.submit("urgent")
    yard.plan()
    yard.terminate(low.id)
    stop(yard)
    assert (low.state, low.attempts[0].cause) == (JobState.FAILED, EndCause.STOPPED)


def test_after_a_restart_it_is_stopped_all_the_same_and_its_room_is_kept(yard: Yard):
    """The intent is stored with the attempt; nobody else is stopped, though the host is not there yet."""
    yard.host("h", cpu=1000)
    low = placed(yard)
    yard.host("i", cpu=1000)
    other = placed(yard, **asked(900))
    urgent = yard.submit("urgent")
    yard.plan()
    assert stopping(yard) == [f"{other.id}#1"]  # the latest
    shelf = Shelf()
    shelf.check(yard.world, yard.now)
    yard.world = shelf.restore(yard.now, Retention())
    yard.host("h", Report(attempt_id=AttemptId(f"{low.id}#1"), phase=Phase.STARTING), cpu=1000, session=2)
    yard.plan()
    assert stopping(yard) == [f"{other.id}#1"]
    report = Report(attempt_id=AttemptId(f"{other.id}#1"), phase=Phase.STARTING)
    told = yard.host("i", report, cpu=1000, session=2)
    assert SendStop(HostId("i"), AttemptId(f"{other.id}#1")) in told
    third = yard.submit("low", **asked(100), timeout_s=1)
    stop(yard)
    yard.plan()
    assert yard.live()[f"{urgent.id}#1"] == "i"
    assert not yard.world.jobs[third.id].state.is_active


def test_a_host_that_is_gone_is_kept_for_nobody(yard: Yard):
    """Another one is cleared, once those that were stopped on it have surely ended."""
    yard.host("h", cpu=1000)
    yard.host("i", cpu=1000)
    low = [placed(yard) for _ in range(2)]
    yard.submit("urgent")
    yard.plan()
    assert stopping(yard) == [f"{low[1].id}#1"]
    host_id = yard.world.attempts[AttemptId(f"{low[1].id}#1")].host_id
    yard.apply(HostLeft(host_id=host_id, session=1))
    yard.plan()
    assert len(stopping(yard)) == 1
    yard.ended(f"{low[1].id}#1", None, EndCause.LOST)
    yard.plan()
    assert stopping(yard) == [f"{low[0].id}#1"]


@pytest.mark.parametrize("steps_max", [1, 2, 5, None])
def test_slices_stop_whom_one_plan_does(yard: Yard, steps_max: int | None):
    """An array's hosts are cleared in as many slices as it takes, each for one child at least."""
    for name in "abcd":
        yard.host(name, cpu=4000)
    low = yard.submit("low", array_size=16)
    yard.plan()
    yard.submit("urgent", array_size=3, **asked(2000))
    yard.submit("urgent", **asked(4000))
    yard.plan(steps_max)
    assert low.children.count(JobState.STARTING) == 16
    hosts = Counter(a.host_id for a in yard.world.attempts.values() if a.preempted_for)
    assert sorted(hosts.values()) == [2, 4, 4]
    assert Counter(a.preempted_for for a in yard.world.attempts.values() if a.preempted_for).most_common(1)[0][1] == 4


# Laws ---------------------------------------------------------------------------------

QUEUES = {
    "low": {"priority": 1, "preemptible": True},
    "middle": {"priority": 3, "preemptible": True, **PREEMPTS},
    "urgent": {"priority": 5, **PREEMPTS},
    "firm": {"priority": 2},
    "shared": {"priority": 3, "preemptible": True, "scheduling_policy": "p", **PREEMPTS},
}
SLICES_MAX = 1_000

HOSTS = {"a": (2000, 0), "b": (3000, 1), "c": (4000, 2)}


class Story:
    """A small yard in which jobs come, are stopped for others, and end."""

    def __init__(self) -> None:
        self.is_changed = False
        """Whether ranks have changed since the last plan."""
        self.yard = Yard()
        self.yard.environment("bounded", compute_resources=ComputeResources(max_vcpus=6))
        self.yard.environment("free")
        self.yard.policy("p", ShareWeight(share_identifier="x"))
        for name, fields in QUEUES.items():
            self.yard.queue(name, *(("bounded", "free") if name != "low" else ("free",)), **fields)
        for name, (cpu, gpus) in HOSTS.items():
            self.yard.host(name, cpu=cpu, gpus=gpus)
        self.submit_gang("low", 1000, 3, 0, is_spread=True)
        self.plan(None)
        for queue, gpu in (("low", 0), ("low", 500), ("shared", 500)):  # so that hosts are full to begin with
            self.submit(queue, 500, gpu, 6, 1)
            self.plan(None)

    def submit(self, queue: str, cpu: int, gpu: int, size: int, priority: int) -> None:
        more = {"share_identifier": "x", "scheduling_priority": priority} if queue == "shared" else {}
        self.yard.submit(queue, array_size=size, container=container(cpu=cpu, gpu=gpu), **more)

    def submit_gang(self, queue: str, cpu: int, size: int, main_cpu: int, *, is_spread: bool) -> None:
        spans = [NodeRange(target_nodes=":", task=task(container(cpu=cpu)))]
        if main_cpu and size > 1:
            spans.append(NodeRange(target_nodes="0", task=task(container(cpu=main_cpu))))
        spread = Spread.HOSTS if is_spread else Spread.IF_POSSIBLE
        asked = Nodes(count=size, main=0, ranges=tuple(spans), spread=spread)
        self.yard.submit(queue, nodes=asked, task=None, container=None)

    def end(self, number: int, is_stopped: bool) -> None:
        """End an attempt; of those that were told to stop, or of the others."""
        live = sorted(a.id for a in self.yard.world.attempts.values() if bool(a.preempted_for) == is_stopped)
        if live:
            cause = EndCause.STOPPED if is_stopped else EndCause.EXITED
            end = AttemptEnd(cause=cause, exit_code=0, stopped_at_ms=self.yard.now.wall_ms)
            self.yard.report(Report(attempt_id=live[number % len(live)], phase=Phase.ENDED, end=end))

    def cancel(self, number: int) -> None:
        waiting = [job for job in self.yard.world.jobs.values() if not job.state.is_final]
        if waiting:
            self.yard.cancel(waiting[number % len(waiting)].id)

    def change(self, queue: str, priority: int, preemptible: bool) -> None:
        changed = {"priority": priority, "preemptible": preemptible}
        self.yard.apply(update_queue(self.yard.world, queue, changed))
        self.is_changed = True

    def lose(self, name: str) -> None:
        host = self.yard.world.hosts[HostId(name)]
        if host.session:
            self.yard.apply(HostLeft(host_id=host.record.id, session=host.session))
        else:
            reports = tuple(
                Report(attempt_id=a.id, phase=Phase.RUNNING if a.started_at_ms else Phase.STARTING)
                for a in host.attempts.values()
            )
            self.yard.apply(HostJoined(host_id=host.record.id, facts=host.record.facts, session=2, reports=reports))

    def plan(self, steps_max: int | None) -> None:
        """Plan in slices, and look at each."""
        world = self.yard.world
        world.wants_plan = True
        slices = 0
        while world.wants_plan:
            world.wants_plan = False
            plan = self.yard.make_plan(steps_max)
            _check(world, plan)
            if not self.is_changed:
                _check_room_is_kept(world, plan)
            _check_order(world, plan)
            self.yard.apply(Planned(plan=plan, epoch=EPOCH))
            slices += 1
            assert slices < SLICES_MAX, "each plan asks for another"
        self.is_changed = False
        wait(self.yard)


def _rank(world: Any, attempt_or_unit: Any) -> tuple[int, int]:
    spec = attempt_or_unit.job.spec
    queue = world.queues[spec.queue]
    return queue.priority, (spec.scheduling_priority or 0) if queue.scheduling_policy else 0


def _check(world: Any, plan: Any) -> None:
    """Who is stopped has a lower rank, and each of them must go so that the other fits for certain."""
    placed: dict[str, list[Unit]] = {}
    for placement in plan.placements:
        placed.setdefault(placement.host_id, []).append(Unit(world.jobs[placement.job_id], placement.index))
    for eviction in plan.evictions:
        unit = Unit(world.jobs[eviction.job_id], eviction.index)
        assert unit.state is JobState.RUNNABLE
        assert not any(p.job_id == eviction.job_id and p.index == eviction.index for p in plan.placements)
        victims = [world.attempts[name] for name in eviction.attempt_ids]
        kept = [r for r in plan.reservations if r.is_cleared and r.is_for(*_of(unit))]
        assert len(kept) == (unit.job.size if unit.is_node else 1), "hosts are kept for all nodes or none"
        assert {victim.host_id for victim in victims} & {r.host_id for r in kept}
        for victim in victims:
            if victim.is_node:  # all of a gang or none of it
                live = [a for a in world.attempts.values() if a.job_id == victim.job_id and not a.is_stopping]
                assert {a.id for a in live} <= {*eviction.attempt_ids}
            assert not victim.is_stopping
            other = world.unit_of(victim)
            assert world.queues[other.job.spec.queue].preemptible
            assert _rank(world, other) < _rank(world, unit)
            is_same_queue = other.job.spec.queue == unit.job.spec.queue
            assert is_same_queue or _rank(world, other)[0] < _rank(world, unit)[0]
        told = {name for each in plan.evictions for name in each.attempt_ids}
        for host_id in {r.host_id for r in kept}:
            here = [a for a in world.hosts[host_id].attempts.values() if not a.is_stopping]
            stay = [world.unit_of(a) for a in here if a.id not in told] + placed.get(host_id, [])
            asked = [_asking(unit, r) for r in kept if r.host_id == host_id]
            assert _fits(world, host_id, [*stay, *asked]), f"{unit.id} does not fit though others are stopped for it"


def _asking(unit: Unit, kept: Any) -> Unit:
    """Return the unit, or a node, that asks for what is kept."""
    return Unit(unit.job, next(kept.shape.parts[kept.part].indices)) if unit.is_node else unit


def _check_room_is_kept(world: Any, plan: Any) -> None:
    """What others were stopped for is taken by its unit, an equal in its line, or one of higher rank, or by nobody."""
    after = [r for r in plan.reservations if r.is_cleared and r.is_in_force]
    kept = {(r.job_id, r.index, "" if r.shape.parts else r.host_id) for r in after}
    placed = {(p.job_id, p.index) for p in plan.placements}
    lost = {r.job_id for r in world.reservations if r.is_cleared and not world.hosts[r.host_id].session}
    before = [r for r in world.reservations if r.is_cleared and r.is_in_force]
    for was in before:
        unit = Unit(world.jobs[was.job_id], was.index)
        if (was.job_id, was.index, "" if was.shape.parts else was.host_id) in kept:
            continue
        if (was.job_id, was.index) in placed or was.job_id in lost:
            continue
        mine = {r.host_id for r in before if r.job_id == was.job_id}
        came = [p for p in plan.placements if p.host_id in mine or p.compute_environment == was.environment]
        others = [Unit(world.jobs[p.job_id], p.index) for p in came]
        others += [Unit(world.jobs[r.job_id], r.index) for r in after]
        assert any(
            _rank(world, other) > _rank(world, unit) or shape_of(world, other) == was.shape for other in others
        ), f"the room of {unit.id} on {was.host_id} is kept no more"


def _check_order(world: Any, plan: Any) -> None:
    """Nobody is placed where one of a queue of higher priority, which waits on, would have had room."""
    placed = {(p.job_id, p.index) for p in plan.placements}
    asked = [shape for shape in plan.refused if not shape.resources.gpu_millis and not shape.parts]
    for shape in asked:
        priority = world.queues[shape.queue].priority
        line = world.lines.find(shape)
        unit = next(unit for unit in line.units() if _of(unit) not in placed)
        for host_id in {p.host_id for p in plan.placements if _priority(world, p) < priority}:
            if any(r.host_id == host_id and r.priority >= priority for r in (*world.reservations, *plan.reservations)):
                continue  # its room is another's
            stay = [world.unit_of(a) for a in world.hosts[host_id].attempts.values()]
            stay += [
                Unit(world.jobs[p.job_id], p.index)
                for p in plan.placements
                if p.host_id == host_id and _priority(world, p) >= priority
            ]
            assert not _fits(world, host_id, [*stay, unit]), f"{unit.id} would have had room on {host_id}"


def _priority(world: Any, placement: Any) -> int:
    priority: int = world.queues[world.jobs[placement.job_id].spec.queue].priority
    return priority


def _of(unit: Unit) -> tuple[Any, Any]:
    return unit.job.id, unit.index


def _fits(world: Any, host_id: str, units: list[Unit]) -> bool:
    """Say whether all of them have room on a host; GPUs in halves and wholes, that are packed as well as can be."""
    told = world.hosts[host_id].record.facts
    cpu = sum(unit.task.resources.cpu_millis for unit in units)
    parts = sorted((unit.task.resources.gpu_millis for unit in units), reverse=True)
    left = [1000] * len(told.gpus)
    for part in filter(None, parts):
        at = next((i for i, free in enumerate(left) if free >= part), None)
        if at is None:
            return False
        left[at] -= part
    return cpu <= told.capacity.cpu_millis


STEPS: st.SearchStrategy[Callable[[Story], None]] = st.one_of(
    *[
        st.builds(
            lambda *given: lambda story: story.submit(*given),
            st.sampled_from(["low", "middle", "middle", "urgent", "urgent", "firm", "shared", "shared"]),
            st.sampled_from([500, 1000, 2000, 3000]),
            st.sampled_from([0, 0, 500, 1000]),
            st.sampled_from([0, 0, 3]),
            st.sampled_from([1, 2]),
        )
    ]
    * 2,
    st.builds(
        lambda *given, is_spread: lambda story: story.submit_gang(*given, is_spread=is_spread),
        st.sampled_from(["low", "middle", "urgent", "urgent", "firm"]),
        st.sampled_from([500, 1000, 2000]),
        st.sampled_from([2, 3, 3, 4]),
        st.sampled_from([0, 0, 2000]),
        is_spread=st.booleans(),
    ),
    st.builds(lambda *given: lambda story: story.end(*given), st.integers(0, 99), st.just(True)),
    st.builds(lambda *given: lambda story: story.end(*given), st.integers(0, 99), st.booleans()),
    st.builds(lambda number: lambda story: story.cancel(number), st.integers(0, 99)),
    st.builds(
        lambda *given: lambda story: story.change(*given),
        st.sampled_from(["low", "middle", "shared"]),
        st.sampled_from([1, 3]),
        st.booleans(),
    ),
    st.builds(lambda name: lambda story: story.lose(name), st.sampled_from(sorted(HOSTS))),
)


@pytest.mark.timeout(300)
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(STEPS, st.sampled_from([0, None, 1, 3])), min_size=10, max_size=40))
def test_whatever_happens_those_are_stopped_that_must_and_may_be_and_all_run_in_the_end(
    steps: list[tuple[Callable[[Story], None], int | None]],
):
    """Hosts are never over-committed (the yard looks), and who was preempted runs again."""
    story = Story()
    for step, steps_max in steps:
        step(story)
        if steps_max != 0:
            story.plan(steps_max)
    yard, world = story.yard, story.yard.world
    for name in HOSTS:
        if not world.hosts[HostId(name)].session:
            story.lose(name)
    for _ in range(2000):
        story.plan(None)
        if not world.attempts:
            break
        story.end(0, is_stopped=bool(stopping(yard)))
    for job in world.jobs.values():
        assert job.state.is_final or _is_too_large(job), f"{job.id} is {job.state}"


def _is_too_large(job: Job) -> bool:
    if job.size and job.kind is JobKind.NODES:
        return job.spec.nodes is not None and (job.spec.nodes.spread is Spread.HOSTS and job.size > len(HOSTS))
    resources = job.spec.task.resources
    return not any(resources.cpu_millis <= cpu and resources.gpu_millis <= 1000 * gpus for cpu, gpus in HOSTS.values())
