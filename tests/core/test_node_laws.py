"""Laws of multi-node jobs, in random histories with restarts, lost hosts and commits that were cut in two."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from tests.core.law import Shelf
from tests.core.yard import Yard, container, ended_report, task

from batchyard.ids import AttemptId, HostId, JobId
from batchyard.states import ACTIVE_STATES, EndCause, JobState
from batchyard_controller.core import limits
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.commands import Command, SendStart, SendStop
from batchyard_controller.core.events import AttemptsReported, HostHeard, HostLeft, Ticked
from batchyard_controller.core.model.jobs import Job, JobKind, RetryStrategy
from batchyard_controller.core.model.nodes import NodeRange, Nodes, Spread
from batchyard_controller.core.model.settings import Preemption
from batchyard_controller.core.model.units import Unit, units_of
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.reactor.recovery import restore
from batchyard_controller.core.world import invariants
from batchyard_controller.core.world.world import World
from batchyard_controller.store.codec import encode_touched, load_records
from batchyard_controller.store.memory import MemoryStore

HOSTS = ("a", "b", "c")


def nodes(count: int, *, cpu: int = 1000, main: int = 0, main_cpu: int = 0, **more: Any) -> Nodes:
    """Return nodes that all ask for the same, but for the main one if that asks for something else."""
    ranges = [NodeRange(target_nodes=":", task=task(container(cpu=cpu)))]
    if main_cpu:
        ranges.append(NodeRange(target_nodes=str(main), task=task(container(cpu=main_cpu))))
    return Nodes(count=count, main=main, ranges=tuple(ranges), **more)


class CutShelf(Shelf):
    """A shelf whose last commit may be cut: only its first atoms are stored, as when a leader dies in between."""

    def cut(self, world: World, kept: int, now: Instant) -> World:
        """Store the first atoms of what changed, and return the world that the next leader makes of that."""
        atoms = encode_touched(world, world.ledger.take())
        store: MemoryStore = self._store
        asyncio.run(store.commit(atoms[:kept], self._epoch))
        return restore(asyncio.run(load_records(store)), now, world.retention)


class NodesMachine(RuleBasedStateMachine):
    """Random histories of nodes and single jobs on three hosts."""

    jobs = Bundle("jobs")

    @initialize()
    def begin(self) -> None:
        self.yard = Yard()
        self.yard.environment()
        self.yard.queue(priority=1, preemptible=True)
        self.yard.queue("urgent", priority=5, preemption=Preemption.LOWER_PRIORITY)
        self.facts = {"a": 2000, "b": 3000, "c": 2000}
        for name, cpu in self.facts.items():
            self.yard.host(name, cpu=cpu)
        self.shelf = CutShelf()
        self.is_planned = True
        """Whether a plan was made since the world was restored."""
        self.told: dict[str, set[str]] = {name: set() for name in HOSTS}
        """Attempts of which hosts were told, and that they have not reported the end of."""
        self.startable: set[str] = set()
        """Attempts of which a host was told that they start; what is only told to stop never runs."""
        self.ran: set[str] = set()
        self.numbers: set[str] = set()
        self._commit([])

    # What happens -------------------------------------------------------------------

    @rule(
        target=jobs,
        count=st.sampled_from([1, 2, 3, 3, 4, 66]),
        main=st.sampled_from([0, 0, 1]),
        main_cpu=st.sampled_from([0, 2000]),
        attempts=st.integers(1, 3),
        together=st.booleans(),
        spread=st.sampled_from(Spread),
        queue=st.sampled_from(["q", "q", "urgent"]),
    )
    def submit(
        self, count: int, main: int, main_cpu: int, attempts: int, together: bool, spread: Spread, queue: str
    ) -> str:
        wanted = nodes(
            count,
            main=min(main, count - 1),
            cpu=10 if count > 4 else 1000,
            main_cpu=main_cpu if 1 < count <= 4 else 0,
            fail_together=together,
            spread=spread,
        )
        retry = RetryStrategy(attempts=attempts, infrastructure_retries=0)
        job = self.yard.submit(queue, nodes=wanted, task=None, container=None, retry=retry)
        self._commit([])
        return job.id

    @rule(cpu=st.sampled_from([1000, 2000]), queue=st.sampled_from(["q", "q", "urgent"]))
    def submit_single(self, cpu: int, queue: str) -> None:
        self.yard.submit(queue, container=container(cpu=cpu))
        self._commit([])

    @rule()
    def plan(self) -> None:
        before = self.yard.live().keys()
        sent, self.is_planned = self.yard.plan(), True
        new = self.yard.live().keys() - before
        assert not new & self.numbers, "an attempt id was used twice"
        self._commit(sent)

    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        waiting = sorted(
            name
            for name in self._reachable() & self.startable
            if not self.yard.world.attempts[AttemptId(name)].started_at_ms
        )
        if waiting:
            name = data.draw(st.sampled_from(waiting))
            self._commit(self.yard.started(name, self.yard.now.wall_ms))

    @rule(data=st.data(), code=st.sampled_from([0, 0, 1]), cause=st.sampled_from([EndCause.EXITED, EndCause.STOPPED]))
    def end(self, data: st.DataObject, code: int, cause: EndCause) -> None:
        if live := sorted(self._reachable()):
            self._end(data.draw(st.sampled_from(live)), code, cause)

    def _end(self, name: str, code: int, cause: EndCause) -> None:
        host_id = self.yard.world.attempts[AttemptId(name)].host_id
        self.told[host_id].discard(name)
        self._commit(self.yard.ended(name, code, cause))

    @rule(job_id=jobs)
    def terminate(self, job_id: str) -> None:
        if job_id in self.yard.world.jobs:
            self._commit(self.yard.terminate(job_id))

    @rule(job_id=jobs, index=st.integers(0, 3))
    def terminate_node(self, job_id: str, index: int) -> None:
        job = self.yard.world.jobs.get(JobId(job_id))
        if job is not None and index < job.size:
            self._commit(self.yard.terminate(f"{job_id}#{index}"))

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        if job_id in self.yard.world.jobs:
            self._commit(self.yard.cancel(job_id))

    @rule(name=st.sampled_from(HOSTS))
    def lose(self, name: str) -> None:
        """Let a host be silent for longer than the fence; its agent has killed all by then."""
        host = self.yard.world.hosts[HostId(name)]
        self.yard.apply(HostLeft(host_id=HostId(name), session=host.session))
        ms = limits.FENCE_MS + limits.fence_margin_ms(limits.FENCE_MS) + 1
        self.yard.now = Instant(wall_ms=self.yard.now.wall_ms + ms, boot_ms=self.yard.now.boot_ms + ms)
        for other in HOSTS:
            if other != name:
                self.yard.apply(HostHeard(host_id=HostId(other)))
        self.told[name].clear()
        self._commit(self.yard.apply(Ticked()))
        self._join(name)

    @rule(name=st.sampled_from(HOSTS))
    def rejoin(self, name: str) -> None:
        """Let the session of a host break, and what was sent last be lost with it."""
        self._join(name)

    def _join(self, name: str) -> None:
        reports = [
            Report(
                attempt_id=AttemptId(each),
                phase=Phase.RUNNING
                if (a := self.yard.world.attempts.get(AttemptId(each))) and a.started_at_ms
                else Phase.STARTING,
            )
            for each in sorted(self.told[name])
        ]
        self._commit(self.yard.host(name, *reports, session=2, cpu=self.facts[name]))

    @rule()
    def restart(self) -> None:
        self.yard.world, self.is_planned = self.shelf.restore(self.yard.now, self.yard.world.retention), False
        for name in HOSTS:
            self._join(name)

    @rule(data=st.data(), what=st.sampled_from(["plan", "end", "terminate"]), kept=st.integers(0, 6))
    def cut(self, data: st.DataObject, what: str, kept: int) -> None:
        """Let a leader die in the midst of a commit: nothing of that turn was sent."""
        yard = self.yard
        live = sorted(self._reachable())
        if what == "plan":
            yard.plan()
        elif what == "end" and live:
            name = data.draw(st.sampled_from(live))
            host_id = yard.world.attempts[AttemptId(name)].host_id
            self.told[host_id].discard(name)
            yard.report(ended_report(name, 1))
        elif what == "terminate" and yard.world.jobs:
            yard.terminate(data.draw(st.sampled_from(sorted(yard.world.jobs))))
        yard.world, self.is_planned = self.shelf.cut(yard.world, kept, yard.now), False
        invariants.check(yard.world)
        if what == "end" and live:  # it was not acknowledged, and is told again
            yard.apply(AttemptsReported(host_id=host_id, reports=(ended_report(name, 1),)))
        for name in HOSTS:
            self._join(name)

    def _reachable(self) -> set[str]:
        """Return the live attempts of which their hosts know."""
        return {name for told in self.told.values() for name in told} & set(self.yard.live())

    def _commit(self, sent: list[Command]) -> None:
        """Store what changed, and only then let hosts hear what was sent."""
        self.shelf.check(self.yard.world, self.yard.now)
        self.numbers |= self.yard.live().keys()
        for command in sent:
            if isinstance(command, SendStart):
                names = {attempt.id for attempt in command.attempts}
                self.told[command.host_id] |= names
                self.startable |= names
            elif isinstance(command, SendStop):
                self.told[command.host_id].add(command.attempt_id)  # an agent stops what it never heard of, too

    def teardown(self) -> None:
        """Whatever happened, with hosts that listen all comes to an end."""
        if not hasattr(self, "yard"):
            return
        for name in HOSTS:
            self._join(name)
        while True:
            self.plan()
            live = sorted(self._reachable())
            if not live:
                break
            for name in live:
                if name in self.yard.live():
                    stopping = self.yard.world.attempts[AttemptId(name)].is_stopping
                    self._end(name, 0, EndCause.STOPPED if stopping else EndCause.EXITED)
        assert not self.yard.live(), "an attempt is left of which no host knows"
        for job in self.yard.world.jobs.values():
            assert job.state is not JobState.PENDING, f"{job.id} waits for nothing"
            if job.state is JobState.RUNNABLE:
                assert _never_fits(job), f"{job.id} is stuck"

    # Laws ---------------------------------------------------------------------------

    @invariant()
    def all_nodes_run_one_try_or_none(self) -> None:
        """I-a."""
        for job, live in self._gangs():
            number = Unit(job).next_number
            current = {index for index, attempt in live.items() if attempt.number == number}
            if current:
                ended = {node.child for node in units_of(job) if node.next_number > number}
                assert current | ended == set(range(job.size)), f"{job.id} has some claims of try {number} only"

    @invariant()
    def nobody_runs_before_the_main_node(self) -> None:
        """I-b."""
        for job, live in self._gangs():
            main = Unit(job).main
            for index, attempt in live.items():
                if index == main.index or not attempt.started_at_ms:
                    continue
                leader = live.get(main.child)
                if leader is not None and leader.number == attempt.number:
                    assert leader.started_at_ms, f"{attempt.id} runs, and its main node does not"
                else:
                    assert main.attempts[-1].number == attempt.number
                    assert main.attempts[-1].started_at_ms, f"{attempt.id} runs, and its main node never did"

    @invariant()
    def the_job_is_where_its_main_node_is(self) -> None:
        """I-c."""
        for job, _ in self._gangs():
            main = Unit(job).main
            assert job.state is main.state, f"{job.id} is {job.state}, its main node {main.state}"
            assert job.ending == main.ending

    @invariant()
    def nodes_wait_together(self) -> None:
        for job, live in self._gangs():
            states = {node.state for node in units_of(job)}
            if JobState.RUNNABLE in states:
                assert states == {JobState.RUNNABLE}, f"{job.id} waits for hosts in part"
                assert not live

    @invariant()
    def numbers_are_in_step(self) -> None:
        """No two live attempts of a node (I-d); who waits has been tried as often as the others."""
        for job, live in self._gangs():
            if job.state is JobState.RUNNABLE:
                assert len({node.next_number for node in units_of(job)}) == 1
            assert {a.number for a in live.values()} <= {Unit(job).next_number, Unit(job).next_number - 1}
            assert len({a.number for a in live.values()}) <= 1, f"{job.id} runs two tries at once"

    @invariant()
    def all_nodes_make_room_or_none(self) -> None:
        for job, live in self._gangs():
            if any(attempt.preempted_for for attempt in live.values()):
                assert all(attempt.is_stopping for attempt in live.values()), f"{job.id} makes room in part"

    @invariant()
    def hosts_are_kept_for_all_nodes_or_none(self) -> None:
        for job, _ in self._gangs():
            kept = [r for r in self.yard.world.reservations if r.is_cleared and r.job_id == job.id]
            if kept and all(host.session for host in self.yard.world.hosts.values()) and self.is_planned:
                assert len(kept) == job.size, f"{job.id} has hosts for {len(kept)} of {job.size} nodes"

    @invariant()
    def hosts_that_are_told_hold_a_claim(self) -> None:
        """Who is told to run something, and has not said that it ended, is believed to run it, or to have lost it."""
        if hasattr(self, "yard"):
            for name, attempt in ((a.id, a) for a in self.yard.world.attempts.values()):
                if attempt.started_at_ms:
                    assert name in self.told[attempt.host_id], f"{name} runs on a host that was never told"

    def _gangs(self) -> list[tuple[Job, dict[int, Any]]]:
        if not hasattr(self, "yard"):
            return []
        world = self.yard.world
        found = []
        for job in (job for job in world.jobs.values() if job.kind is JobKind.NODES):
            live = {n.child: a for n in units_of(job) if n.state in ACTIVE_STATES and (a := world.live_attempt(n))}
            found.append((job, live))
        return found


def _never_fits(job: Job) -> bool:
    asked = job.spec.nodes
    assert asked is not None
    return (asked.spread is Spread.HOSTS and asked.count > len(HOSTS)) or job.spec.resources.cpu_millis > 7000


TestNodes = NodesMachine.TestCase
TestNodes.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
TestNodes.pytestmark = [pytest.mark.timeout(600)]


@pytest.mark.parametrize("boot_id", ["1", "2"])
def test_a_node_that_is_told_to_start_as_its_host_joins_ends_by_its_agents_word(boot_id: str) -> None:
    """
    Its main node's start and end come in one report. Found by the simulation: it was given up, and ran.

    So it was after a reboot, which takes away what was told before alone.
    """
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host("a", boot_id="1")
    job = yard.submit(container=None, nodes=nodes(2), retry=RetryStrategy(attempts=2))
    yard.plan()
    main, other = sorted(yard.live())
    commands = yard.host("a", ended_report(main, exit_code=1), session=2, boot_id=boot_id)
    assert [type(command) for command in commands][:2] == [SendStart, SendStop]
    assert set(yard.live()) == {other}, "it may run by now"
    yard.ended(other, 143, EndCause.STOPPED)
    assert yard.state(job.id) is JobState.RUNNABLE


def test_a_node_whose_host_is_away_is_told_to_start_as_that_joins(spread: tuple[Yard, Job]) -> None:
    yard, _ = spread
    main, other = sorted(yard.live())
    away = HostId(yard.live()[other])
    yard.apply(HostLeft(host_id=away, session=1))
    assert yard.started(main) == []
    (start,) = yard.host(away, session=2)
    assert isinstance(start, SendStart)
    assert (start.session, [attempt.id for attempt in start.attempts]) == (2, [other])


def test_a_node_whose_host_is_away_is_told_nothing_if_its_main_node_ends_before_that_joins(
    spread: tuple[Yard, Job],
) -> None:
    """Found by the simulation: it was told over the session that began meanwhile, and given up as that joined."""
    yard, job = spread
    main, other = sorted(yard.live())
    away = HostId(yard.live()[other])
    yard.apply(HostLeft(host_id=away, session=1))
    assert SendStart not in map(type, yard.report(ended_report(main, exit_code=1)))
    assert SendStart not in map(type, yard.host(away, session=2))
    assert (yard.live(), yard.state(job.id)) == ({}, JobState.RUNNABLE)


@pytest.fixture
def spread() -> tuple[Yard, Job]:
    """Return a job of two nodes that are placed on a host each."""
    yard = Yard()
    yard.environment()
    yard.queue()
    for name in HOSTS[:2]:
        yard.host(name)
    job = yard.submit(container=None, nodes=nodes(2, cpu=3000), retry=RetryStrategy(attempts=2))
    yard.plan()
    return yard, job
