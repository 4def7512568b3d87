"""
World: everything the controller knows, in memory, with its indexes.

The world holds and finds; it decides nothing. What is stored of it changes through
`records` alone, states through ``lifecycle`` alone.
"""

from __future__ import annotations

from collections import Counter, deque
from weakref import WeakKeyDictionary, ref

from batchyard.ids import AttemptId, HostId, JobId, attempt_id
from batchyard.states import JobState
from batchyard_controller.core.jobs.retention import Calendar, Retention
from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.model.hosts import Host, HostRecord
from batchyard_controller.core.model.jobs import Job, JobDefinition, JobSpec
from batchyard_controller.core.model.policies import SchedulingPolicy
from batchyard_controller.core.model.secrets import AccessKey, StoredSecret
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue
from batchyard_controller.core.model.units import Unit, find_unit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.fleet import UNBOUNDED, Fleet
from batchyard_controller.core.placement.lines import Lines
from batchyard_controller.core.placement.pools import Pool, Pools
from batchyard_controller.core.placement.ranking import Rankings
from batchyard_controller.core.placement.refusals import BlockedHead
from batchyard_controller.core.placement.trust import is_suspected, start_limit

from .ledger import Ledger
from .submitted import SubmittedJobs

RESTS = "rests after a failed start"


class World:
    """The controller's memory. One instance a term of leadership."""

    def __init__(self, retention: Retention) -> None:
        self.retention = retention
        self.calendar: Calendar | None = None
        """From the first event on."""
        self.ledger = Ledger()
        self.environments: dict[str, ComputeEnvironment] = {}
        self.queues: dict[str, JobQueue] = {}
        self.policies: dict[str, SchedulingPolicy] = {}
        self.definitions: dict[str, list[JobDefinition]] = {}
        """By name; revision n stands at place n - 1."""
        self.secrets: dict[str, StoredSecret] = {}
        self.access_keys: dict[str, AccessKey] = {}
        self.jobs: dict[JobId, Job] = {}
        self.attempts: dict[AttemptId, Attempt] = {}
        self.hosts: dict[HostId, Host] = {}
        self.gone_hosts: dict[HostId, HostRecord] = {}
        """Of those that are no more, apart from the others: only whoever tells of former attempts looks here."""
        self.off_clocks: set[HostId] = set()
        """Hosts whose clock is not as this controller's."""
        self.apart: set[JobId] = set()
        """Jobs that stand in lines of their image's own."""
        self.requests: dict[str, JobId] = {}
        """First job of each request id."""
        self.dependents: dict[JobId, list[JobId]] = {}
        """Jobs that wait for the end of another."""
        self.followers: dict[JobId, list[JobId]] = {}
        """Arrays whose children wait for the ends of another array's children."""
        self.ended: deque[Job] = deque()
        """Jobs that have ended and are kept, in the order of their ends."""
        self.last_seq = 0
        self.lines = Lines()
        """Every RUNNABLE unit, once."""
        self.fleet = Fleet()
        self.pools = Pools()
        """How often spot hosts were reclaimed lately; never stored."""
        self.rankings = Rankings(self.fleet, self.pools)
        self.counts: dict[str, Counter[JobState]] = {}
        """Units in each state, by queue; an array counts as its children."""
        self.by_queue: dict[str, SubmittedJobs] = {}
        self.all_jobs = SubmittedJobs()
        self.blocked: dict[str, BlockedHead] = {}
        """Who blocked the head of each queue that bounds it, at the last tick."""
        self.wants_plan = False
        """Whether something happened that a plan should look at."""
        self._specs: WeakKeyDictionary[JobSpec, ref[JobSpec]] = WeakKeyDictionary()

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
        if job.request_id:
            self.requests[job.request_id] = job.id
        self.last_seq = max(self.last_seq, job.seq)
        self.all_jobs.add(job)
        self.by_queue.setdefault(job.spec.queue, SubmittedJobs()).add(job)

    def unindex_job(self, job: Job) -> None:
        """Take a job that has ended out of all indexes."""
        assert job.state.is_final, "live jobs are never forgotten"
        del self.jobs[job.id]
        self.requests.pop(job.request_id, None)
        self.apart.discard(job.id)
        self.all_jobs.remove(job)
        self.by_queue[job.spec.queue].remove(job)
        self.counts[job.spec.queue].subtract(states_of(job))

    def count(self, queue: str, before: JobState | None, after: JobState, number: int = 1) -> None:
        """Note that units of a queue moved."""
        counts = self.counts.get(queue)
        if counts is None:
            counts = self.counts[queue] = Counter()
        if before is not None:
            counts[before] -= number
        counts[after] += number

    def find_unit(self, job_id: JobId, index: int | None) -> Unit | None:
        """Return the unit (or parent) of an id, if it exists."""
        job = self.jobs.get(job_id)
        return None if job is None else find_unit(job, index)

    def unit_of(self, attempt: Attempt) -> Unit:
        """Return whose try an attempt is."""
        return Unit(self.jobs[attempt.job_id], attempt.index)

    def live_attempt(self, unit: Unit) -> Attempt | None:
        """Return the live attempt of a unit, if it has one."""
        return self.attempts.get(attempt_id(unit.id, unit.next_number))

    def live_jobs(self, queue: str) -> list[Job]:
        """Return the jobs of a queue that have not ended, in order of submission."""
        return [job for job in self.by_queue.get(queue, ()) if not job.state.is_final]

    def environments_of(self, queue: JobQueue) -> tuple[ComputeEnvironment, ...]:
        """Return a queue's environments in their order."""
        return tuple(self.environments[name] for name in queue.compute_environments)

    def refresh_host(self, host: Host) -> None:
        """Tell the fleet what a host is now, whether it gets new work, and with how many starts it is trusted."""
        away = self._away(host)
        self.fleet.set_host(host.record.id, host.record.facts, away=away, rests=away == RESTS)
        self.refresh_starts(host)
        self.wants_plan = True

    def note_pool_time(self, now: Instant) -> None:
        """Let the time since it was last told count for the pools of the spot hosts that are here."""
        facts = (host.record.facts for host in self.hosts.values() if host.is_reachable)
        self.pools.note_time(Counter(Pool.of(spot) for spot in facts if spot.purchase_option == "spot"), now)

    def note_reclaim(self, host: Host) -> None:
        """Count a host that is reclaimed, for its pool; once a host, however many attempts it takes along."""
        self.pools.note_reclaim(Pool.of(host.record.facts))

    def has_wrong_clock(self, host: Host) -> bool:
        """Say whether a host gets no new work for its clock; where most, and at least two, are off, ours is wrong."""
        return bool(host.clock_off_ms) and not self.is_own_clock_off

    @property
    def is_own_clock_off(self) -> bool:
        """Whether most hosts have a clock that is not as ours."""
        return len(self.off_clocks) > max(1, len(self.hosts) // 2)

    def _away(self, host: Host) -> str:
        """Say why a host gets no new work; nothing if it gets some."""
        if not host.is_reachable:
            return "is not connected"
        if host.record.cordoned:
            return "is cordoned"
        if self.has_wrong_clock(host):
            return f"is cordoned, as {host.clock_fault}"
        if is_suspected(host.trust):
            return f"is suspected: {host.trust.suspicion}"
        return RESTS if host.trust.rests_until_boot_ms else ""

    def forget_host(self, host: Host) -> None:
        """Tell the fleet that a host is gone for good."""
        self.fleet.drop_host(host.record.id)
        self.off_clocks.discard(host.record.id)
        self.wants_plan = True

    def refresh_starts(self, host: Host) -> None:
        """Tell the fleet with how many more starts a host is trusted."""
        limit, room = start_limit(host.trust), UNBOUNDED
        if limit is not None:
            room = limit - sum(attempt.started_at_ms == 0 for attempt in host.attempts.values())
        if self.fleet.set_start_room(host.record.id, room):
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


def states_of(job: Job) -> dict[JobState, int]:
    """Return how many units of a job are in each state."""
    return job.children.counts if job.size else {job.state: 1}
