"""
World: everything the controller knows, in memory, with its indexes.

The world holds and finds; it decides nothing. What is stored of it changes through
`records` alone, states through ``lifecycle`` alone.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import InitVar, dataclass, field
from weakref import WeakKeyDictionary, ref

from batchyard.arns import environment_uuid
from batchyard.ids import AttemptId, HostId, JobId, LaunchId, split_job_id
from batchyard.security import SecurityLevel
from batchyard.states import JobState
from batchyard_controller.core import limits
from batchyard_controller.core.access.directory import Directory, make_directory
from batchyard_controller.core.jobs.retention import Calendar, Retention
from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.model.consumables import ConsumableResource
from batchyard_controller.core.model.enrolment import JoinToken, Member
from batchyard_controller.core.model.hosts import Host, HostRecord
from batchyard_controller.core.model.identities import Binding, Token
from batchyard_controller.core.model.jobs import Job, JobDefinition, JobSpec
from batchyard_controller.core.model.launches import Launch, launch_id_of
from batchyard_controller.core.model.past import NOBODY_LEFT, Left
from batchyard_controller.core.model.policies import SchedulingPolicy
from batchyard_controller.core.model.quota_shares import QuotaShare
from batchyard_controller.core.model.restores import LAST_RESTORE, Restore
from batchyard_controller.core.model.room import Room
from batchyard_controller.core.model.secrets import AccessKey, StoredSecret
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue, Platform
from batchyard_controller.core.model.sinks import Sink
from batchyard_controller.core.model.units import Unit, find_unit
from batchyard_controller.core.model.usage import UsageSum
from batchyard_controller.core.model.values import Instant, utc
from batchyard_controller.core.placement.due_times import DueTimes
from batchyard_controller.core.placement.fleet import UNBOUNDED, Fleet
from batchyard_controller.core.placement.front import Front
from batchyard_controller.core.placement.line import Shape
from batchyard_controller.core.placement.lines import Lines
from batchyard_controller.core.placement.pools import Pool, Pools
from batchyard_controller.core.placement.ranking import Rankings
from batchyard_controller.core.placement.refusals import BlockedHead
from batchyard_controller.core.placement.reservations import Reservation
from batchyard_controller.core.placement.shares import Shares
from batchyard_controller.core.placement.tenants import Tenants
from batchyard_controller.core.placement.trust import is_suspected, start_limit
from batchyard_controller.core.scaling.catalogue import Catalogue
from batchyard_controller.core.scaling.memory import Memory

from .adoption import Adoption
from .brake import Brake
from .ledger import Ledger
from .named import Named
from .submitted import SubmittedJobs

_BEFORE_ALL = Instant(wall_ms=0, boot_ms=0)
RESTS = "rests after a failed start"

RequestKey = tuple[str, str]
"""A user, and a request id: nobody's answers another."""


def request_key(job: Job) -> RequestKey:
    """Return what a job's request is known by."""
    return job.spec.owner, job.request_id


@dataclass(slots=True, eq=False)
class World:
    """The controller's memory. One instance a term of leadership."""

    retention: Retention
    catalogues: InitVar[Mapping[str, Catalogue] | None] = None
    fence_ms: int = limits.FENCE_MS
    """What agents are told in this term; 0: never."""
    brake: Brake = field(default_factory=Brake)
    launches: dict[LaunchId, Launch] = field(default_factory=dict)
    """Hosts that providers were asked for, until they are stopped."""
    scaling: Memory = field(init=False)
    room: Room | None = None
    """Of the store, as it was last measured in this term."""
    calendar: Calendar | None = None
    """From the first event on."""
    ledger: Ledger = field(default_factory=Ledger)
    restores: dict[str, Restore] = field(default_factory=dict)
    """The last one, by ``LAST_RESTORE``, if there was any."""
    adoption: Adoption = field(default_factory=Adoption)
    environments: dict[str, ComputeEnvironment] = field(default_factory=dict)
    queues: dict[str, JobQueue] = field(default_factory=dict)
    policies: dict[str, SchedulingPolicy] = field(default_factory=dict)
    quota_shares: dict[str, QuotaShare] = field(default_factory=dict)
    """By ``queue/share``."""
    consumables: dict[str, ConsumableResource] = field(default_factory=dict)
    definitions: dict[str, list[JobDefinition]] = field(default_factory=dict)
    """By name; revision n stands at place n - 1."""
    secrets: dict[str, StoredSecret] = field(default_factory=dict)
    access_keys: dict[str, AccessKey] = field(default_factory=dict)
    bindings: dict[str, Binding] = field(default_factory=dict)
    """By user, role and queue; see ``Binding.name``."""
    tokens: dict[str, Token] = field(default_factory=dict)
    directory: Directory = field(default_factory=Directory)
    """What follows of the last three: who is who."""
    join_tokens: dict[str, JoinToken] = field(default_factory=dict)
    members: dict[HostId, Member] = field(default_factory=dict)
    """Hosts that have joined, seen or not yet; hosts of this machine need not."""
    sinks: dict[str, Sink] = field(default_factory=dict)
    jobs: dict[JobId, Job] = field(default_factory=dict)
    attempts: dict[AttemptId, Attempt] = field(default_factory=dict)
    live: dict[JobId, Attempt] = field(default_factory=dict)
    """The same by the id of their unit."""
    hosts: dict[HostId, Host] = field(default_factory=dict)
    occupied: dict[str, dict[HostId, int]] = field(default_factory=dict)
    """Live attempts of each queue, by host; queues and hosts without any are left out."""
    gone_hosts: dict[HostId, HostRecord] = field(default_factory=dict)
    """Of those that are no more, apart from the others: only whoever tells of former attempts looks here."""
    off_clocks: set[HostId] = field(default_factory=set)
    """Hosts whose clock is not as this controller's."""
    apart: set[JobId] = field(default_factory=set)
    """Jobs that stand in lines of their image's own."""
    requests: dict[RequestKey, JobId] = field(default_factory=dict)
    """First job of each request id of each user."""
    dependents: dict[JobId, list[JobId]] = field(default_factory=dict)
    """Jobs that wait for the end of another."""
    followers: dict[JobId, list[JobId]] = field(default_factory=dict)
    """Arrays whose children wait for the ends of another array's children."""
    ended: deque[Job] = field(default_factory=deque)
    """Jobs that have ended and are kept, in the order of their ends."""
    past: dict[str, UsageSum] = field(default_factory=dict)
    """What jobs took that are no longer kept, by the name of a ``SumKey``."""
    left: Left = NOBODY_LEFT
    left_boot_ms: int = -1
    """When they left."""
    last_seq: int = 0
    newest_ms: int = 0
    """The newest date that is known, of a submission or of the calendar, whether or not this leader's clock is right."""
    lines: Lines = field(init=False)
    """Every RUNNABLE unit, once."""
    shapes: dict[int, tuple[JobSpec, JobQueue | None, Shape]] = field(default_factory=dict)
    """Shapes of units of which nothing was tried, by their specs' identity, with that of which they were made."""
    shares: Shares = field(default_factory=Shares)
    tenants: Tenants = field(default_factory=Tenants)
    reservations: tuple[Reservation, ...] = ()
    """Of the last plan."""
    fronts: dict[str, Front] = field(default_factory=dict)
    """Who stands first in the queues that somebody asked about lately."""
    planned_at: Instant = _BEFORE_ALL
    """When the last plan was made."""
    fleet: Fleet = field(default_factory=Fleet)
    pools: Pools = field(default_factory=Pools)
    """How often spot hosts were reclaimed lately; never stored."""
    rankings: Rankings = field(init=False)
    counts: dict[str, Counter[JobState]] = field(default_factory=dict)
    """Units in each state, by queue; an array counts as its children, a multi-node job as its nodes."""
    named: Named = field(default_factory=Named)
    by_queue: dict[str, SubmittedJobs] = field(default_factory=dict)
    by_owner: dict[str, SubmittedJobs] = field(default_factory=dict)
    """Jobs of each user; not the administrator's, who asks for all."""
    all_jobs: SubmittedJobs = field(default_factory=SubmittedJobs)
    blocked: dict[str, BlockedHead] = field(default_factory=dict)
    """Who blocked the head of each queue that bounds it, at the last tick."""
    reclaimed: Counter[str] = field(default_factory=Counter)
    """Attempts that ended with their reclaimed hosts in this term, by environment."""
    used: dict[str, UsageSum] = field(default_factory=dict)
    """What attempts took and used that ended in this term, by queue."""
    wants_plan: bool = False
    """Whether something happened that a plan should look at."""
    _specs: WeakKeyDictionary[JobSpec, ref[JobSpec]] = field(default_factory=WeakKeyDictionary)

    def __post_init__(self, catalogues: Mapping[str, Catalogue] | None) -> None:
        self.scaling = Memory(catalogues or {})
        self.lines = Lines(DueTimes(self.queues))
        self.rankings = Rankings(self.fleet, self.pools)

    @property
    def restore(self) -> Restore | None:
        """The last restore of the store."""
        return self.restores.get(LAST_RESTORE)

    @property
    def is_restoring(self) -> bool:
        """Whether what the backup of that did not know is still to be learnt from hosts."""
        return self.restore is not None and not self.restore.is_over

    @property
    def spared(self) -> Collection[HostId]:
        """Hosts that may run what is not known here: none of them is stopped for being idle."""
        return self.adoption.unheard | {stray.host_id for stray in self.adoption.strays.values()}

    @property
    def generation(self) -> int:
        """Of all that is handed out now."""
        return self.restore.generation if self.restore is not None else 0

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
            self.requests[request_key(job)] = job.id
        self.last_seq = max(self.last_seq, job.seq)
        self.newest_ms = max(self.newest_ms, job.created_at_ms)
        self.all_jobs.add(job)
        self.by_queue.setdefault(job.spec.queue, SubmittedJobs()).add(job)
        if job.spec.owner:
            self.by_owner.setdefault(job.spec.owner, SubmittedJobs()).add(job)

    def note_ended(self, job: Job) -> None:
        """Add a job to those that have ended, with the newest date that is known."""
        job.note_ended_after(self.newest_ms)
        job.ended_boot_ms = self.calendar.seen_boot_ms if self.calendar is not None else None
        self.ended.append(job)

    def unindex_job(self, job: Job) -> None:
        """Take a job that has ended out of all indexes."""
        assert job.state.is_final, "live jobs are never forgotten"
        del self.jobs[job.id]
        self.requests.pop(request_key(job), None)
        self.apart.discard(job.id)
        self.all_jobs.remove(job)
        self.by_queue[job.spec.queue].remove(job)
        if job.spec.owner:
            self.by_owner[job.spec.owner].remove(job)
        self.counts[job.spec.queue].subtract(states_of(job))

    def know_users(self) -> None:
        """Put together anew who is who, after any of it has changed."""
        self.directory = make_directory(self.bindings.values(), self.tokens.values(), self.access_keys.values())

    def count(self, queue: str, before: JobState | None, after: JobState, number: int = 1) -> None:
        """Note that units of a queue moved."""
        counts = self.counts.get(queue)
        if counts is None:
            counts = self.counts[queue] = Counter()
        if before is not None:
            counts[before] -= number
        counts[after] += number

    def bound_queue(self, queue: JobQueue) -> None:
        """Tell the fleet what the jobs of a queue, and of its shares, may hold together."""
        self.fleet.bounds.set_queue(queue, self.policies.get(queue.scheduling_policy))

    def has_quota_shares(self, queue: JobQueue) -> bool:
        """Say whether a queue is one whose jobs name quota shares."""
        policy = self.policies.get(queue.scheduling_policy)
        return policy is not None and policy.quota_share is not None

    def shares_of(self, queue: str) -> list[QuotaShare]:
        """Return the quota shares of a queue, in name order."""
        return sorted((s for s in self.quota_shares.values() if s.job_queue == queue), key=lambda share: share.name)

    def find_unit(self, job_id: JobId, index: int | None) -> Unit | None:
        """Return the unit (or parent) of an id, if it exists."""
        job = self.jobs.get(job_id)
        return None if job is None else find_unit(job, index)

    def find(self, text: str) -> Unit | None:
        """Return the unit (or parent) that users call so, if it exists; a child is none of a node's id, nor the other way round."""
        unit = self.find_unit(*split_job_id(text))
        return unit if unit is not None and unit.id == text else None

    def unit_of(self, attempt: Attempt) -> Unit:
        """Return whose try an attempt is."""
        return Unit(self.jobs[attempt.job_id], attempt.index)

    def live_attempt(self, unit: Unit) -> Attempt | None:
        """Return the live attempt of a unit, if it has one; of a multi-node job its main node's."""
        return self.live.get((unit.main if unit.is_parent else unit).id)

    def main_address(self, unit: Unit) -> str:
        """Return where the other nodes of a job reach its main node; nothing while that is on no host."""
        main = self.live_attempt(unit.main) if unit.is_node else None
        return self.hosts[main.host_id].record.facts.address if main is not None else ""

    def live_jobs(self, queue: str) -> list[Job]:
        """Return the jobs of a queue that have not ended, in order of submission."""
        return [job for job in self.by_queue.get(queue, ()) if not job.state.is_final]

    def environments_of(self, queue: JobQueue) -> tuple[ComputeEnvironment, ...]:
        """Return a queue's environments in their order."""
        return tuple(self.environments[name] for name in queue.compute_environments)

    def platform_of(self, environment: str) -> Platform:
        """Return what an environment runs; EC2 of one that is gone."""
        found = self.environments.get(environment)
        return found.platform if found is not None else Platform.EC2

    def level_of(self, spec: JobSpec) -> SecurityLevel:
        """Return the security level of a job's queue."""
        queue = self.queues.get(spec.queue)
        return SecurityLevel.PRIVILEGED if queue is None else queue.security_level

    def environment_uuid(self, attempt: Attempt) -> str:
        """Return the UUID of an attempt's environment; nothing of one that is gone."""
        found = self.environments.get(attempt.compute_environment)
        return environment_uuid(found.name, found.created_at_ms) if found is not None else ""

    def refresh_host(self, host: Host) -> None:
        """Tell the fleet what a host is now, whether it gets new work, and with how many starts it is trusted."""
        away = self._away(host)
        self.fleet.set_host(host.record.id, host.record.facts, away=away, rests=away == RESTS)
        self.fleet.set_reserved(host.record.id, host.reserved)
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
        if host.record.reclaimed_at_ms:
            return f"is reclaimed at {utc(host.record.reclaimed_at_ms)}"
        if not host.is_reachable:
            return "is not connected"
        if host.record.cordoned:
            return "is cordoned"
        if retired := self.retired(host):
            return retired
        if self.has_wrong_clock(host):
            return f"is cordoned, as {host.clock_fault}"
        if is_suspected(host.trust):
            return f"is suspected: {host.trust.suspicion}"
        return RESTS if host.trust.rests_until_boot_ms else ""

    def retired(self, host: Host) -> str:
        """Say why a host that was launched gets no more work; nothing of others."""
        launch_id = launch_id_of(host.record.facts)
        launch = self.launches.get(launch_id)
        if launch is not None and launch.host_id in ("", host.record.id):
            return "" if launch.is_wanted else f"is stopped: {launch.stop_reason}"
        return "is of a launch that is over" if launch_id else ""

    def forget_host(self, host: Host) -> None:
        """Tell the fleet that a host is gone for good."""
        self.fleet.drop_host(host.record.id)
        self.adoption.forget_host(host.record.id)
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
