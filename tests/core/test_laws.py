"""Laws that hold whatever happens, in whatever order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from tests.core.law import Shelf, described
from tests.core.plain_rules import ACTIVE, FAILED, RUNNABLE, SUCCEEDED, WAITING, PlainJob, PlainRules
from tests.core.plain_rules import Unit as PlainUnit
from tests.core.yard import Yard, container, ended_report

from batchyard.ids import AttemptId, HostId, JobId, split_job_id
from batchyard.states import EndCause, JobState
from batchyard_controller.core import limits
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.events import BrakeReleased, HostHeard, HostLeft, HostRemoved, Ticked
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.consumables import ConsumableOperation
from batchyard_controller.core.model.dependencies import Dependency, DependencyType
from batchyard_controller.core.model.jobs import ExitAction, ExitRule, Job, RetryStrategy
from batchyard_controller.core.model.units import Unit, unit_at, units_of
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.trust import SUSPECTED_MS_MAX, WINDOW_MS
from batchyard_controller.core.requests.consumables import update_consumable
from batchyard_controller.core.requests.settings import update_queue
from batchyard_controller.core.views.waiting import waiting_reason
from batchyard_controller.core.world.world import World

SEQUENTIAL = Dependency(type=DependencyType.SEQUENTIAL)
WHOLE_KINDS = (DependencyType.WHOLE, DependencyType.AFTER_ANY, DependencyType.AFTER_FAILURE)


EXITS = (ExitRule(action=ExitAction.EXIT, on_exit_code="137"),)
PLAIN = {
    JobState.PENDING: WAITING,
    JobState.RUNNABLE: RUNNABLE,
    JobState.STARTING: ACTIVE,
    JobState.RUNNING: ACTIVE,
    JobState.SUCCEEDED: SUCCEEDED,
    JobState.FAILED: FAILED,
}


class YardMachine(RuleBasedStateMachine):
    """Random histories of a small yard, stored and loaded again on the way."""

    jobs = Bundle("jobs")

    @initialize()
    def begin(self) -> None:
        self.yard = Yard()
        self.yard.environment()
        self.yard.queue()
        self.yard.consumable("licence", 2)
        self.yard.consumable("ticket", 5, is_replenishable=False)
        self.yard.host("a", cpu=2000, gpus=1)
        self.yard.host("b", cpu=3000)
        self.finals: dict[str, JobState] = {}
        self.starts: set[str] = set()
        self.ended: list[tuple[str, str]] = []
        self.plain = PlainRules()
        self.shelf = Shelf()

    @rule(
        target=jobs,
        size=st.sampled_from([0, 0, 2, 66]),
        cpu=st.sampled_from([1000, 2000, 9000]),
        gpu=st.sampled_from([0, 0, 500, 1000]),
        attempts=st.integers(1, 3),
        infrastructure=st.sampled_from([0, 0, 2]),
        concurrency=st.sampled_from([0, 0, 1, 3]),
        sequential=st.booleans(),
        exits=st.sampled_from([(), EXITS]),
        needs=st.sampled_from(["", "", "licence", "ticket"]),
    )
    def submit(
        self,
        size: int,
        cpu: int,
        gpu: int,
        attempts: int,
        infrastructure: int,
        concurrency: int,
        sequential: bool,
        exits: tuple[ExitRule, ...],
        needs: str,
    ) -> str:
        return self._submit(
            array_size=size,
            array_concurrency=concurrency if size else 0,
            depends_on=(SEQUENTIAL,) if size and sequential else (),
            container=container(cpu=cpu, gpu=gpu),
            consumables=((needs, 1),) if needs else (),
            retry=RetryStrategy(attempts=attempts, infrastructure_retries=infrastructure, rules=exits),
        )

    @rule(target=jobs, first=jobs, second=jobs, kind=st.sampled_from(WHOLE_KINDS), sequential=st.booleans())
    def submit_dependent(self, first: str, second: str, kind: DependencyType, sequential: bool) -> Any:
        if not {first, second} <= self.yard.world.jobs.keys():
            return multiple()
        depends_on = (Dependency(job_id=first, type=kind), Dependency(job_id=second))
        return self._submit(
            depends_on=(*depends_on, SEQUENTIAL) if sequential else depends_on, array_size=70 if sequential else 0
        )

    @rule(target=jobs, other=jobs, concurrency=st.sampled_from([0, 1, 2]), sequential=st.booleans(), whole=jobs)
    def submit_n_to_n(self, other: str, concurrency: int, sequential: bool, whole: str) -> Any:
        if not {other, whole} <= self.yard.world.jobs.keys():
            return multiple()
        size = self.yard.world.jobs[JobId(other)].size
        depends_on = (Dependency(job_id=other, type=DependencyType.N_TO_N if size else DependencyType.WHOLE),)
        if sequential and size:
            depends_on = (*depends_on, SEQUENTIAL, Dependency(job_id=whole))
        return self._submit(array_size=size, array_concurrency=concurrency if size else 0, depends_on=depends_on)

    def _submit(self, **fields: Any) -> str:
        job = self.yard.submit(request_id=f"r{len(self.plain.jobs)}", **fields)
        self.plain.submit(job.id, plain_job(job))
        return job.id

    @rule()
    def plan(self) -> None:
        before = set(self.yard.live())
        held = self._held()
        self.yard.plan()
        self._check_bounds(held)
        new = set(self.yard.live()) - before
        assert not new & self.starts, "an attempt id was used twice"
        self.starts |= new
        for attempt_id in new:
            self.plain.claim(*unit_of(attempt_id))

    def _held(self) -> dict[str, int]:
        """Count up what live attempts hold of the queue's cap, and of each consumable resource."""
        specs = [self.yard.world.unit_of(attempt).job.spec for attempt in self.yard.world.attempts.values()]
        held = {
            name: sum(dict(spec.consumables).get(name, 0) for spec in specs) for name in self.yard.world.consumables
        }
        return held | {"q": len(specs)}

    def _check_bounds(self, before: dict[str, int]) -> None:
        """Whatever was lowered below what runs, a plan brings nothing above what there is."""
        queue = self.yard.world.queues["q"]
        there = {name: c.total - c.consumed for name, c in self.yard.world.consumables.items()}
        for name, held in self._held().items():
            limit = there.get(name, queue.max_running or held)
            assert held <= max(limit, before[name]), f"{held} of {limit} {name} are held, {before[name]} before"

    @rule(running=st.sampled_from([0, 1, 3]))
    def cap(self, running: int) -> None:
        self.yard.apply(update_queue(self.yard.world, "q", {"max_running": running}))

    @rule(name=st.sampled_from(["licence", "ticket"]), total=st.integers(0, 3))
    def change_total(self, name: str, total: int) -> None:
        event = update_consumable(self.yard.world, name, ConsumableOperation.SET, total, "", self.yard.now)
        assert event is not None
        self.yard.apply(event)

    @rule(data=st.data(), exit_code=st.sampled_from([0, 1, 137]), cause=st.sampled_from(EndCause))
    def end_one(self, data: st.DataObject, exit_code: int, cause: EndCause) -> None:
        live = sorted(self.yard.live())
        if live:
            self._end(data.draw(st.sampled_from(live)), exit_code, cause)

    @rule(data=st.data(), cause=st.sampled_from([EndCause.HOST_ERROR, EndCause.IMAGE_UNAVAILABLE]))
    def fail_to_start(self, data: st.DataObject, cause: EndCause) -> None:
        """Hosts that fail starts are given less and less, and who is failed by one goes to another."""
        unstarted = sorted(a.id for a in self.yard.world.attempts.values() if not a.started_at_ms)
        if unstarted:
            self._end(data.draw(st.sampled_from(unstarted)), -1, cause, ran=False)

    def _end(self, attempt_id: str, exit_code: int, cause: EndCause, *, ran: bool = True) -> None:
        host, others = self.yard.live()[attempt_id], self._has_other_taker(attempt_id)
        if ran:
            self.yard.ended(attempt_id, exit_code, cause)
        else:
            end = AttemptEnd(cause=cause, stopped_at_ms=3_000)
            self.yard.report(Report(attempt_id=AttemptId(attempt_id), phase=Phase.ENDED, end=end))
        self.plain.end(*unit_of(attempt_id), cause.value, exit_code, has_other_taker=others)
        self.ended.append((attempt_id, host))

    def _has_other_taker(self, attempt_id: str) -> bool:
        """Say whether a host works, or was heard of a moment ago, that could still get the unit's image and is large enough."""
        attempt = self.yard.world.attempts[AttemptId(attempt_id)]
        unit = self.yard.world.unit_of(attempt)
        asked = unit.task.resources
        lacking = {e.host_id for e in unit.attempts if e.cause is EndCause.IMAGE_UNAVAILABLE} | {attempt.host_id}
        return any(
            (host.session or not host.is_silent(self.yard.now, limits.CONTACT_LIMIT_MS))
            and not (host.trust.rests_until_boot_ms and host.trust.suspicion)
            and host.record.id not in lacking
            and asked.cpu_millis <= host.record.facts.capacity.cpu_millis
            and asked.gpu_millis <= 1000 * len(host.record.facts.gpus)
            for host in self.yard.world.hosts.values()
        )

    @rule(data=st.data(), exit_code=st.sampled_from([0, 1]))
    def say_again(self, data: st.DataObject, exit_code: int) -> None:
        """Replaying an end, or a wish to stop, changes nothing, whatever it says now."""
        if self.ended:
            attempt_id, host = data.draw(st.sampled_from(self.ended))
            before = _but_heard(self.yard.world)
            self.yard.report(ended_report(attempt_id, exit_code), host)
            assert _but_heard(self.yard.world) == before

    @rule(data=st.data())
    def start_one(self, data: st.DataObject) -> None:
        live = sorted(self.yard.live())
        if live:
            self.yard.started(data.draw(st.sampled_from(live)))

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        if job not in self.yard.world.jobs:
            return
        self.yard.cancel(job)
        self.plain.cancel(job, None)
        before = described(self.yard.world)
        self.yard.cancel(job)
        assert described(self.yard.world) == before

    @rule(job=jobs, index=st.integers(0, 69))
    def cancel_child(self, job: str, index: int) -> None:
        if self.yard.world.find_unit(JobId(job), index) is not None:
            self.yard.cancel(f"{job}:{index}")
            self.plain.cancel(job, index)

    @rule(job=jobs)
    def terminate(self, job: str) -> None:
        if job not in self.yard.world.jobs:
            return
        self.yard.terminate(job)
        self.plain.terminate(job, None)
        before = described(self.yard.world)
        self.yard.terminate(job)
        assert described(self.yard.world) == before

    @rule(job=jobs, index=st.integers(0, 69))
    def terminate_child(self, job: str, index: int) -> None:
        if self.yard.world.find_unit(JobId(job), index) is not None:
            self.yard.terminate(f"{job}:{index}")
            self.plain.terminate(job, index)

    @rule()
    def fences_pass(self) -> None:
        """What runs on hosts that are silent for so long is lost; the others are heard meanwhile. No brake is waited for."""
        silence_ms = limits.FENCE_MS + limits.fence_margin_ms(limits.FENCE_MS) + 1
        self._pass_time(silence_ms)
        hosts = self.yard.world.hosts.values()
        lost = sorted(a for host in hosts if not host.session for a in host.attempts)
        for host in hosts:
            if host.session:
                self.yard.apply(HostHeard(host_id=host.record.id))
        self.yard.apply(Ticked())
        if self.yard.world.brake.since_boot_ms is not None:  # all hosts are silent: an operator says that they are gone
            self.yard.apply(BrakeReleased())
            self.yard.apply(Ticked())
        for attempt_id in lost:
            self.plain.end(*unit_of(attempt_id), "LOST", -1)

    @rule()
    def history_is_forgotten(self) -> None:
        """All that has ended, and nothing else; the rest goes on as if it were still there."""
        live = {job.id for job in self.yard.world.jobs.values() if not job.state.is_final}
        self._pass_time(1)  # what is forgotten in one turn is summed in one
        kept, self.yard.world.retention = self.yard.world.retention, Retention(count=0)
        self.yard.apply(Ticked())
        self.yard.world.retention = kept
        assert self.yard.world.jobs.keys() == live

    def _pass_time(self, ms: int) -> None:
        now = self.yard.now
        self.yard.now = Instant(wall_ms=now.wall_ms + ms, boot_ms=now.boot_ms + ms)

    @rule(name=st.sampled_from("ab"))
    def host_leaves(self, name: str) -> None:
        self.yard.apply(HostLeft(host_id=HostId(name), session=self.yard.world.hosts[HostId(name)].session))

    @rule()
    def host_is_removed_or_comes_back(self) -> None:
        """One that is too small for any job."""
        host = self.yard.world.hosts.get(HostId("c"))
        if host is None:
            self.yard.host("c", cpu=500, price_per_hour=0.25)
        else:
            self.yard.apply(HostLeft(host_id=host.record.id, session=host.session))
            self.yard.apply(HostRemoved(host_id=host.record.id))

    @rule()
    def controller_restarts(self) -> None:
        """The world that is loaded again is the world that was stored."""
        self.shelf.check(self.yard.world, self.yard.now)
        self.yard.world = self.shelf.restore(self.yard.now, Retention())
        self._join()

    def _join(self) -> None:
        again = self.yard.world
        for number, name in enumerate("ab", start=2):
            gpus = len(again.hosts[HostId(name)].record.facts.gpus)
            cpu = again.hosts[HostId(name)].record.facts.capacity.cpu_millis
            self.yard.host(name, *self._reports(name), session=number, cpu=cpu, gpus=gpus)

    def teardown(self) -> None:
        """Nothing is stuck: once hosts are there and all succeeds, only what no host could hold is left waiting."""
        if not hasattr(self, "yard"):
            return
        self._join()
        self.cap(0)
        for name in ("licence", "ticket"):
            self.change_total(name, 10_000)
        self._pass_time(SUSPECTED_MS_MAX + WINDOW_MS)  # no host rests for longer
        for host in self.yard.world.hosts.values():
            self.yard.apply(HostHeard(host_id=host.record.id))
        self.yard.apply(Ticked())
        while self.yard.plan() or self.yard.live():
            for attempt_id in sorted(self.yard.live()):
                if attempt_id not in self.starts:
                    self.starts.add(attempt_id)
                    self.plain.claim(*unit_of(attempt_id))
                self._end(attempt_id, 0, EndCause.EXITED)
        self.states_are_those_of_the_plain_rules()
        for job in self.yard.world.jobs.values():
            if any(unit.state is JobState.RUNNABLE for unit in units_of(job)):
                assert job.spec.task.resources.cpu_millis == 9000, f"{job.id} is stuck"

    def _reports(self, name: str) -> list[Report]:
        return [
            Report(attempt_id=a.id, phase=Phase.RUNNING if a.started_at_ms else Phase.STARTING)
            for a in self.yard.world.hosts[HostId(name)].attempts.values()
        ]

    @invariant()
    def states_are_those_of_the_plain_rules(self) -> None:
        if hasattr(self, "yard"):
            world = self.yard.world
            for job_id, plain in self.plain.jobs.items():
                job = world.jobs.get(JobId(job_id))
                if job is None:
                    assert plain.state != WAITING, f"{job_id} was forgotten, but has not ended"
                    continue
                assert [PLAIN[unit.state] for unit in units_of(job)] == [unit.state for unit in plain.units], job_id
                assert (job.state.is_final, job.state is JobState.FAILED) == (
                    plain.state != WAITING,
                    plain.state == FAILED,
                )

    @invariant()
    def what_is_stored_is_what_is_held(self) -> None:
        if hasattr(self, "yard"):
            self.shelf.check(self.yard.world, self.yard.now)

    @invariant()
    def everybody_who_waits_says_why(self) -> None:
        if hasattr(self, "yard"):
            for job in self.yard.world.jobs.values():
                for unit in (Unit(job), unit_at(job, 0), unit_at(job, max(0, job.size - 1))):
                    why = waiting_reason(self.yard.world, unit)
                    assert bool(why) == (unit.state in (JobState.PENDING, JobState.RUNNABLE)), (unit.id, why)

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
                if job.concurrency:
                    busy = sum(job.children.count(s) for s in (JobState.RUNNABLE, JobState.STARTING, JobState.RUNNING))
                    assert busy <= job.concurrency


def _but_heard(world: World) -> dict[str, Any]:
    """Return all of a world but when hosts were heard of, which any word of theirs may change."""
    hosts = {name: replace(host.record, heard_at_ms=0) for name, host in world.hosts.items()}
    return described(world) | {"hosts": hosts}


def unit_of(attempt_id: str) -> tuple[str, int]:
    """Return the job of an attempt and the place of its unit in it."""
    job_id, index = split_job_id(attempt_id.rpartition("#")[0])
    return job_id, index or 0


def plain_job(job: Job) -> PlainJob:
    """Return what the plain rules need to know of a job."""
    kinds = [(d.type.value, d.job_id) for d in job.depends_on]
    return PlainJob(
        units=[PlainUnit() for _ in range(job.size or 1)],
        whole=[(kind, other) for kind, other in kinds if kind not in ("N_TO_N", "SEQUENTIAL")],
        n_to_n=[other for kind, other in kinds if kind == "N_TO_N"],
        is_sequential=any(kind == "SEQUENTIAL" for kind, _ in kinds),
        bound=job.concurrency,
        attempts=job.spec.retry.attempts,
        infrastructure=job.spec.retry.infrastructure_retries,
        exit_codes=tuple(rule.on_exit_code for rule in job.spec.retry.rules),
    )


def states(world: World) -> dict[str, JobState]:
    return {unit.id: unit.state for job in world.jobs.values() for unit in (Unit(job), *units_of(job))}


TestYard = YardMachine.TestCase
TestYard.settings = settings(max_examples=60, stateful_step_count=50)
TestYard.pytestmark = [pytest.mark.timeout(600)]
"""Some ten seconds of work, on a busy machine many times that."""
