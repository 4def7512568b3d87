"""Laws that hold whatever happens, in whatever order."""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from tests.core.yard import Yard, container

from batchyard.ids import HostId, JobId
from batchyard.states import EndCause, JobState
from batchyard_controller.core import invariants
from batchyard_controller.core.events import HostLeft
from batchyard_controller.core.model import Dependency, DependencyType, RetryStrategy
from batchyard_controller.core.recovery import restore
from batchyard_controller.core.retention import Retention
from batchyard_controller.core.world import World
from batchyard_controller.store.codec import encode_touched, load_records
from batchyard_controller.store.memory import MemoryStore

SEQUENTIAL = Dependency(type=DependencyType.SEQUENTIAL)
WHOLE_KINDS = (DependencyType.WHOLE, DependencyType.AFTER_ANY, DependencyType.AFTER_FAILURE)


class YardMachine(RuleBasedStateMachine):
    """Random histories of a small yard, stored and loaded again on the way."""

    jobs = Bundle("jobs")

    @initialize()
    def begin(self) -> None:
        self.yard = Yard()
        self.yard.environment()
        self.yard.queue()
        self.yard.host("a", cpu=2000, gpus=1)
        self.yard.host("b", cpu=3000)
        self.finals: dict[str, JobState] = {}
        self.starts: set[str] = set()
        self.store = MemoryStore()
        self.epoch = asyncio.run(self.store.campaign("law"))

    @rule(
        target=jobs,
        size=st.sampled_from([0, 0, 2, 66]),
        cpu=st.sampled_from([1000, 2000, 9000]),
        gpu=st.sampled_from([0, 0, 500, 1000]),
        attempts=st.integers(1, 3),
        infrastructure=st.sampled_from([0, 0, 2]),
        concurrency=st.sampled_from([0, 0, 1, 3]),
        sequential=st.booleans(),
    )
    def submit(
        self, size: int, cpu: int, gpu: int, attempts: int, infrastructure: int, concurrency: int, sequential: bool
    ) -> str:
        return self.yard.submit(
            array_size=size,
            array_concurrency=concurrency if size else 0,
            depends_on=(SEQUENTIAL,) if size and sequential else (),
            container=container(cpu=cpu, gpu=gpu),
            retry=RetryStrategy(attempts=attempts, infrastructure_retries=infrastructure),
        ).id

    @rule(target=jobs, first=jobs, second=jobs, kind=st.sampled_from(WHOLE_KINDS), sequential=st.booleans())
    def submit_dependent(self, first: str, second: str, kind: DependencyType, sequential: bool) -> str:
        depends_on = (Dependency(job_id=first, type=kind), Dependency(job_id=second))
        return self.yard.submit(
            depends_on=(*depends_on, SEQUENTIAL) if sequential else depends_on, array_size=70 if sequential else 0
        ).id

    @rule(target=jobs, other=jobs, concurrency=st.sampled_from([0, 1, 2]), sequential=st.booleans(), whole=jobs)
    def submit_n_to_n(self, other: str, concurrency: int, sequential: bool, whole: str) -> str:
        size = self.yard.world.jobs[JobId(other)].array_size
        depends_on = (Dependency(job_id=other, type=DependencyType.N_TO_N if size else DependencyType.WHOLE),)
        if sequential and size:
            depends_on = (*depends_on, SEQUENTIAL, Dependency(job_id=whole))
        return self.yard.submit(array_size=size, array_concurrency=concurrency if size else 0, depends_on=depends_on).id

    @rule()
    def plan(self) -> None:
        before = set(self.yard.live())
        self.yard.plan()
        new = set(self.yard.live()) - before
        assert not new & self.starts, "an attempt id was used twice"
        self.starts |= new

    @rule(data=st.data(), exit_code=st.sampled_from([0, 1, 137]), cause=st.sampled_from(EndCause))
    def end_one(self, data: st.DataObject, exit_code: int, cause: EndCause) -> None:
        live = sorted(self.yard.live())
        if live:
            self.yard.ended(data.draw(st.sampled_from(live)), exit_code, cause)

    @rule(data=st.data())
    def start_one(self, data: st.DataObject) -> None:
        live = sorted(self.yard.live())
        if live:
            self.yard.started(data.draw(st.sampled_from(live)))

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        self.yard.cancel(job)

    @rule(job=jobs, index=st.integers(0, 69))
    def cancel_child(self, job: str, index: int) -> None:
        if index < self.yard.world.jobs[JobId(job)].array_size:
            self.yard.cancel(f"{job}:{index}")

    @rule(job=jobs)
    def terminate(self, job: str) -> None:
        self.yard.terminate(job)

    @rule(name=st.sampled_from("ab"))
    def host_leaves(self, name: str) -> None:
        self.yard.apply(HostLeft(host_id=HostId(name), session=self.yard.world.hosts[HostId(name)].session))

    @rule()
    def controller_restarts(self) -> None:
        """The world that is loaded again is the world that was stored."""
        world = self.yard.world
        asyncio.run(self.store.commit(encode_touched(world, world.take_touched()), self.epoch))
        again = restore(asyncio.run(load_records(self.store)), self.yard.now, Retention())
        invariants.check(again)
        assert describe(again) == describe(world)
        self.yard.world = again
        for number, name in enumerate("ab", start=2):
            gpus = len(again.hosts[HostId(name)].record.facts.gpus)
            cpu = again.hosts[HostId(name)].record.facts.capacity.cpu_millis
            self.yard.host(name, *self._reports(name), session=number, cpu=cpu, gpus=gpus)

    def _reports(self, name: str) -> list[object]:
        from batchyard_controller.core.events import Phase, Report  # noqa: PLC0415

        return [
            Report(attempt_id=a.id, phase=Phase.RUNNING if a.started_at_ms else Phase.STARTING)
            for a in self.yard.world.hosts[HostId(name)].attempts.values()
        ]

    @invariant()
    def final_states_stay(self) -> None:
        if not hasattr(self, "yard"):
            return
        for job_id, state in states(self.yard.world).items():
            assert self.finals.get(job_id, state) is state, f"{job_id} left {self.finals[job_id]}"
            if state.is_final:
                self.finals[job_id] = state

    @invariant()
    def attempts_never_exceed_their_limit(self) -> None:
        if hasattr(self, "yard"):
            for attempt in self.yard.world.attempts.values():
                retry = self.yard.world.jobs[attempt.job_id].spec.retry
                assert attempt.number <= retry.attempts + retry.infrastructure_retries

    @invariant()
    def arrays_keep_to_their_bound(self) -> None:
        if hasattr(self, "yard"):
            for job in self.yard.world.jobs.values():
                if job.array_concurrency:
                    children = self.yard.world.children[job.id]
                    busy = sum(children.count(s) for s in (JobState.RUNNABLE, JobState.STARTING, JobState.RUNNING))
                    assert busy <= job.array_concurrency


def states(world: World) -> dict[str, JobState]:
    found: dict[str, JobState] = {}
    for job in world.jobs.values():
        found[job.id] = job.state
        for index in range(job.array_size):
            found[f"{job.id}:{index}"] = world.children[job.id].state(index)
    return found


def describe(world: World) -> object:
    """Everything that must survive a restart."""
    return (
        states(world),
        {j.id: (j.status_reason, j.attempts, j.terminate_reason, j.is_cancelled) for j in world.jobs.values()},
        {j.id: [world.children[j.id].attempts(i) for i in range(j.array_size)] for j in world.jobs.values()},
        sorted(world.attempts),
        {q: {s: n for s, n in c.items() if n} for q, c in world.counts.items()},
    )


TestYard = YardMachine.TestCase
TestYard.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
