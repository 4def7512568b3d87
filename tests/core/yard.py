"""A yard to tell stories in: a world, a clock that stands still, and short verbs."""

from __future__ import annotations

import itertools
from typing import Any

from batchyard.ids import AttemptId, HostId, JobId, split_job_id, uuid7
from batchyard.resources import Resources
from batchyard.states import EndCause, JobState
from batchyard.tasks import Container, Task, Volume
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.commands import Command, PublishMove, PublishNotice
from batchyard_controller.core.events import (
    AttemptsReported,
    ConsumableChanged,
    EnvironmentChanged,
    Event,
    HostJoined,
    JobCancelled,
    JobTerminated,
    Planned,
    PolicyChanged,
    QueueChanged,
)
from batchyard_controller.core.jobs.resolution import Submission
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.consumables import ConsumableResource, ConsumableType
from batchyard_controller.core.model.hosts import GpuFacts, HostFacts
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.policies import FairsharePolicy, SchedulingPolicy, ShareWeight
from batchyard_controller.core.model.settings import ComputeEnvironment, EnvironmentOrder, JobQueue
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.explain import explain_line
from batchyard_controller.core.placement.plan import Plan, make_plan
from batchyard_controller.core.placement.refusals import Refusal
from batchyard_controller.core.reactor.apply import apply
from batchyard_controller.core.requests import submissions
from batchyard_controller.core.views.waiting import status_reason
from batchyard_controller.core.world import invariants
from batchyard_controller.core.world.tenancy import situation
from batchyard_controller.core.world.world import World

EPOCH = 7


def container(cpu: int = 1000, memory: int = 100, gpu: int = 0, image: str = "") -> Container:
    return Container(
        image=image,
        command=("work",),
        resources=Resources(cpu_millis=cpu, memory_mib=memory, gpu_millis=gpu),
    )


def task(container: Container, *volumes: Volume) -> Task:
    return Task(containers=(container,), volumes=volumes)


def facts(name: str, cpu: int = 4000, memory: int = 4096, gpus: int = 0, **more: Any) -> HostFacts:
    values: dict[str, Any] = {
        "name": name,
        "capacity": Resources(cpu_millis=cpu, memory_mib=memory, disk_mib=1000),
        "gpus": tuple(GpuFacts(uuid=f"GPU-{name}-{i}") for i in range(gpus)),
        "runtimes": ("process", "docker"),
    }
    return HostFacts(**(values | more))


class Yard:
    """Holds a world; every verb checks the invariants behind itself."""

    def __init__(self) -> None:
        self.world = World(Retention())
        self.now = Instant(wall_ms=1_000, boot_ms=1_000)
        self._serial = itertools.count(1)
        self.moves: list[PublishMove] = []
        """What watchers were told, since somebody last took it."""
        self.notices: list[PublishNotice] = []

    def apply(self, event: Event) -> list[Command]:
        """Apply one event; return its commands, what is only published left out."""
        commands = apply(self.world, event, self.now)
        invariants.check(self.world)
        self.moves += [move for c in commands if isinstance(c, PublishMove) for move in c.each()]
        self.notices += [c for c in commands if isinstance(c, PublishNotice)]
        return [c for c in commands if not isinstance(c, PublishMove | PublishNotice)]

    def environment(self, name: str = "ce", **fields: Any) -> None:
        self.apply(EnvironmentChanged(environment=ComputeEnvironment(name=name, **fields)))

    def queue(self, name: str = "q", *environments: str, **fields: Any) -> None:
        steps = tuple(EnvironmentOrder(order=i, compute_environment=e) for i, e in enumerate(environments or ("ce",)))
        self.apply(QueueChanged(queue=JobQueue(name=name, environment_order=steps, **fields)))

    def policy(self, name: str = "p", *weights: ShareWeight) -> None:
        fairshare = FairsharePolicy(share_distribution=weights)
        self.apply(PolicyChanged(policy=SchedulingPolicy(name=name, fairshare=fairshare)))

    def consumable(self, name: str = "licence", total: int = 1, *, is_replenishable: bool = True) -> None:
        kind = ConsumableType.REPLENISHABLE if is_replenishable else ConsumableType.NON_REPLENISHABLE
        self.apply(ConsumableChanged(resource=ConsumableResource(name=name, type=kind, total=total)))

    def host(
        self, name: str, *reports: Report, session: int = 1, is_proven: bool = True, **fields: Any
    ) -> list[Command]:
        """Let a host join; one that is proven has shown, long ago and for ever, that it can start jobs."""
        return self.join(facts(name, **fields), *reports, session=session, is_proven=is_proven)

    def join(
        self, told_of: HostFacts, *reports: Report, host_id: str = "", session: int, is_proven: bool = True
    ) -> list[Command]:
        """Let a host join that says these facts of itself; hosts of one name are of one machine."""
        host_id, machine_id = HostId(host_id or told_of.name), f"machine of {told_of.name}"
        event = HostJoined(host_id=host_id, facts=told_of, session=session, machine_id=machine_id, reports=reports)
        told = self.apply(event)
        if is_proven:
            host = self.world.hosts[host_id]
            host.trust.proven_until_boot_ms = 1 << 60
            self.world.refresh_host(host)
        return told

    def submit(self, queue: str = "q", name: str = "job", **fields: Any) -> Job:
        given = fields.pop("container", container())
        if given is not None and "task" not in fields:
            fields["task"] = given if isinstance(given, Task) else task(given)
        job_id = JobId(uuid7(self.now.wall_ms, next(self._serial).to_bytes(10, "big")))
        submission = Submission(name=name, queue=queue, **fields)
        event, job = submissions.submit_job(self.world, submission, job_id, self.now)
        if event is not None:
            self.apply(event)
        return job

    def plan(self, steps_max: int | None = None) -> list[Command]:
        """Place whom there is room for, in one plan or in slices."""
        commands = []
        self.world.wants_plan = True
        rounds = 0
        while self.world.wants_plan:
            rounds += 1
            assert rounds < 200, "each plan asks for another"
            self.world.wants_plan = False
            commands += self.apply(Planned(plan=self.make_plan(steps_max), epoch=EPOCH))
        return commands

    def slice(self, steps_max: int) -> Plan:
        """Make one slice of a plan, and let it come into force."""
        plan = self.make_plan(steps_max)
        self.apply(Planned(plan=plan, epoch=EPOCH))
        return plan

    def make_plan(self, steps_max: int | None = None) -> Plan:
        world = self.world
        return make_plan(situation(world), self.now, steps_max)

    def started(self, attempt_id: str, at_ms: int = 2_000) -> list[Command]:
        return self.report(Report(attempt_id=AttemptId(attempt_id), phase=Phase.RUNNING, started_at_ms=at_ms))

    def ended(self, attempt_id: str, exit_code: int | None = 0, cause: EndCause = EndCause.EXITED) -> list[Command]:
        return self.report(ended_report(attempt_id, exit_code, cause))

    def report(self, report: Report, host: str = "") -> list[Command]:
        attempt = self.world.attempts.get(report.attempt_id)
        host_id = HostId(host) if host or attempt is None else attempt.host_id
        return self.apply(AttemptsReported(host_id=host_id, reports=(report,)))

    def cancel(self, job_id: str, reason: str = "no longer wanted") -> list[Command]:
        parent, index = split_job_id(job_id)
        return self.apply(JobCancelled(job_id=parent, index=index, reason=reason))

    def terminate(self, job_id: str, reason: str = "enough") -> list[Command]:
        parent, index = split_job_id(job_id)
        return self.apply(JobTerminated(job_id=parent, index=index, reason=reason))

    def updated(self, job_id: str, scheduling_priority: int) -> Event:
        event = submissions.update_job(self.world, job_id, scheduling_priority)
        assert event is not None
        return event

    def live(self) -> dict[str, str]:
        """Return the host of each live attempt."""
        return {str(a.id): str(a.host_id) for a in self.world.attempts.values()}

    def state(self, job_id: str) -> JobState:
        return self.unit(job_id).state

    def unit(self, job_id: str) -> Unit:
        found = self.world.find_unit(*split_job_id(job_id))
        assert found is not None, job_id
        return found

    def reason(self, job_id: str) -> str:
        """Return the status reason that users are told."""
        return status_reason(self.world, self.unit(job_id))

    def refusals(self) -> list[Refusal]:
        """Return what stands against those whom a plan has refused."""
        world = self.world
        return [
            refusal
            for queue in world.queues.values()
            for line in world.lines.of_queue(queue.name)
            if line.refused_at >= 0
            for refusal in explain_line(line, world.environments_of(queue), world.fleet)
        ]

    def run_all(self) -> None:
        """Place and end with success whatever can be, until nothing moves."""
        while True:
            self.plan()
            if not self.world.attempts:
                return
            for attempt_id in list(self.world.attempts):
                self.ended(attempt_id)


def ended_report(attempt_id: str, exit_code: int | None = 0, cause: EndCause = EndCause.EXITED) -> Report:
    end = AttemptEnd(cause=cause, started_at_ms=2_000, stopped_at_ms=3_000, exit_code=exit_code)
    return Report(attempt_id=AttemptId(attempt_id), phase=Phase.ENDED, started_at_ms=2_000, end=end)
