"""
World: everything the controller knows, in memory, with its indexes.

The world holds and finds; it decides nothing. Records change through the
reactor. Whoever changes a stored record calls `touch`, so that the driver knows
what to write; records of one group are written together.
"""

from __future__ import annotations

from collections import Counter, deque
from weakref import WeakKeyDictionary, ref

from batchyard.ids import AttemptId, HostId, JobId
from batchyard.runtimes import runtime_of
from batchyard.states import JobState
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.model.children import CHUNK, Children
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.jobs import BlockedHead, Job, JobDefinition, JobSpec
from batchyard_controller.core.model.secrets import AccessKey, StoredSecret
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.feasibility import access_of
from batchyard_controller.core.placement.fleet import Fleet
from batchyard_controller.core.placement.lines import Lines, Shape

from .submitted import SubmittedJobs

Touch = tuple[str, str]
"""Kind of record (a field of `World`, see codec) and its key."""


class World:
    """The controller's memory. One instance a term of leadership."""

    def __init__(self, retention: Retention) -> None:
        self.retention = retention
        self.environments: dict[str, ComputeEnvironment] = {}
        self.queues: dict[str, JobQueue] = {}
        self.definitions: dict[str, list[JobDefinition]] = {}
        """By name; revision n stands at place n - 1."""
        self.secrets: dict[str, StoredSecret] = {}
        self.access_keys: dict[str, AccessKey] = {}
        self.jobs: dict[JobId, Job] = {}
        self.children: dict[JobId, Children] = {}
        self.attempts: dict[AttemptId, Attempt] = {}
        self.hosts: dict[HostId, Host] = {}
        self.requests: dict[str, JobId] = {}
        """First job of each request id."""
        self.dependents: dict[JobId, list[JobId]] = {}
        """Jobs that wait for the end of another."""
        self.followers: dict[JobId, list[JobId]] = {}
        """Arrays whose children wait for the ends of another array's children."""
        self.ended: deque[Job] = deque()
        """Jobs that have ended and are kept, in the order of their ends."""
        self.last_seq = 0
        self.lines = Lines(self.is_runnable)
        self.fleet = Fleet()
        self.counts: dict[str, Counter[JobState]] = {}
        """Units in each state, by queue; an array counts as its children."""
        self.by_queue: dict[str, SubmittedJobs] = {}
        self.all_jobs = SubmittedJobs()
        self.touched: dict[str, dict[Touch, None]] = {}
        """Stored records that changed since the last commit, by group, in order."""
        self.blocked: dict[str, BlockedHead] = {}
        """Who blocked the head of each queue that bounds it, at the last tick."""
        self.wants_plan = False
        """Whether something happened that a plan should look at."""
        self._specs: WeakKeyDictionary[JobSpec, ref[JobSpec]] = WeakKeyDictionary()

    def touch(self, group: str, kind: str, key: str) -> None:
        """Note that a stored record changed."""
        self.touched.setdefault(group, {})[kind, key] = None

    def take_touched(self) -> dict[str, dict[Touch, None]]:
        """Hand over what changed and start afresh."""
        touched, self.touched = self.touched, {}
        return touched

    def has_spec(self, spec: JobSpec) -> bool:
        """Say whether a job has this spec."""
        return spec in self._specs

    def intern(self, spec: JobSpec) -> JobSpec:
        """Return the one copy of a spec that is kept in memory for as long as a job has it."""
        return self._specs.setdefault(spec, ref(spec))() or spec

    def index_job(self, job: Job) -> None:
        """Add a job to all indexes."""
        assert job.id not in self.jobs, f"job {job.id} added twice"
        self.jobs[job.id] = job
        if job.array_size:
            self.children[job.id] = Children(job.array_size, JobState.SUBMITTED)
        if job.request_id:
            self.requests[job.request_id] = job.id
        self.last_seq = max(self.last_seq, job.seq)
        self.all_jobs.add(job)
        self.by_queue.setdefault(job.spec.queue, SubmittedJobs()).add(job)

    def count(self, queue: str, before: JobState | None, after: JobState, number: int = 1) -> None:
        """Note that units of a queue moved."""
        counts = self.counts.setdefault(queue, Counter())
        if before is not None:
            counts[before] -= number
        counts[after] += number

    def is_runnable(self, job: Job, index: int | None) -> bool:
        """Say whether a unit still waits for a host; lines may hold jobs that ended and were forgotten."""
        return not job.state.is_final and self.state_of(job, index) is JobState.RUNNABLE

    def state_of(self, job: Job, index: int | None) -> JobState:
        """Return the state of a job (None) or of a child."""
        return job.state if index is None else self.children[job.id].state(index)

    def find_unit(self, job_id: JobId, index: int | None) -> Job | None:
        """Return the job of an id, if it exists and, for a child, is an array of that size."""
        job = self.jobs.get(job_id)
        if job is None or (index is not None and index >= job.array_size):
            return None
        return job

    def live_jobs(self, queue: str) -> list[Job]:
        """Return the jobs of a queue that have not ended, in order of submission."""
        return [job for job in self.by_queue.get(queue, ()) if not job.state.is_final]

    def forget_job(self, job: Job) -> None:
        """Drop all that is known of a job that has ended; its records are deleted after it, one group a chunk."""
        assert job.state.is_final, "live jobs are never forgotten"
        del self.jobs[job.id]
        self.requests.pop(job.request_id, None)
        self.all_jobs.remove(job)
        self.by_queue[job.spec.queue].remove(job)
        counts = {job.state: 1}
        self.touch(job.id, "job", job.id)
        self.touch(job.id, "state", job.id)
        if job.array_size:
            children = self.children.pop(job.id)
            counts = children.counts
            for number in children.chunks:
                group = unit_group(job.id, number * CHUNK)
                self.touch(group, "children", group)
        self.counts[job.spec.queue].subtract(counts)

    def leave_line(self, job: Job) -> None:
        """Let no unit of a job stand in line, as none of them waits any longer."""
        line = self.lines.find(shape_of(job))
        if line is not None:
            line.remove(job)

    def await_host(self, job: Job, start: int, stop: int) -> None:
        """Let runnable children [start, stop), or a single job (0, 1), take their place in line."""
        self.lines.push(shape_of(job), job, start, stop)
        self.wants_plan = True

    def await_hosts(self, job: Job) -> None:
        """Let all runnable units of a job take their place in line."""
        if job.array_size:
            for start, stop in self.children[job.id].runs(JobState.RUNNABLE):
                self.await_host(job, start, stop)
        elif job.state is JobState.RUNNABLE:
            self.await_host(job, 0, 1)

    def form_lines(self) -> None:
        """Let everybody runnable stand in line once, in order of submission."""
        self.lines = Lines(self.is_runnable)
        for job in self.all_jobs:
            if not job.state.is_final:
                self.await_hosts(job)

    def add_attempt(self, attempt: Attempt) -> None:
        """Hold a host's resources for an attempt."""
        spec = self.jobs[attempt.job_id].spec
        self.attempts[attempt.id] = attempt
        self.hosts[attempt.host_id].attempts[attempt.id] = attempt
        self.fleet.claim(attempt.host_id, spec.container.resources, attempt.gpus, attempt.compute_environment)

    def remove_attempt(self, attempt: Attempt) -> None:
        """Give back what an attempt held."""
        spec = self.jobs[attempt.job_id].spec
        del self.attempts[attempt.id]
        del self.hosts[attempt.host_id].attempts[attempt.id]
        self.fleet.release(attempt.host_id, spec.container.resources, attempt.gpus, attempt.compute_environment)
        self.wants_plan = True

    def live_attempt(self, job: Job, index: int | None) -> Attempt | None:
        """Return the live attempt of a unit, if it has one."""
        number = len(job.attempts) + 1 if index is None else self.children[job.id].tries(index) + 1
        probe = Attempt(
            job_id=job.id,
            index=index,
            number=number,
            host_id=HostId(""),
            compute_environment="",
            epoch=0,
            claimed_at_ms=0,
        )
        return self.attempts.get(probe.id)

    def refresh_host(self, host: Host) -> None:
        """Tell the fleet what a host is now and whether it gets new work."""
        usable = host.session != 0 and not host.record.cordoned
        self.fleet.set_host(host.record.id, host.record.facts, usable=usable)
        self.wants_plan = True

    def find_definition(self, text: str) -> JobDefinition | None:
        """Return ``name:revision``, or for ``name`` the latest ACTIVE revision."""
        name, colon, number = text.partition(":")
        revisions = self.definitions.get(name, [])
        if not colon:
            return next((d for d in reversed(revisions) if d.status == "ACTIVE"), None)
        if number.isascii() and number.isdigit() and len(number) < 10 and 1 <= int(number) <= len(revisions):
            return revisions[int(number) - 1]
        return None

    def is_silent(self, host: Host, now: Instant, limit_ms: int) -> bool:
        """Say whether a host was not heard for longer than *limit_ms*."""
        return now.boot_ms - host.heard_boot_ms > limit_ms


def shape_of(job: Job) -> Shape:
    """Return what placement asks of a job."""
    container = job.spec.container
    return Shape(job.spec.queue, container.resources, runtime_of(container.image), access_of(container))


def unit_group(job_id: JobId, index: int | None) -> str:
    """Return the group in which records of a unit are written together."""
    return job_id if index is None else f"{job_id}/{index // CHUNK}"
