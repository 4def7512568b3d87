"""
Recovery: the world again, from what the store holds.

Only facts that cannot be worked out again are stored; whether a job waits for
others or for a host follows from them here. Hosts begin with fresh timers, as
nobody knows how long the controller was away.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from batchyard.ids import HostId, JobId
from batchyard_controller.core import limits
from batchyard_controller.core.jobs import lifecycle
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.attempts import Attempt, EndedAttempt
from batchyard_controller.core.model.children import RestEnd
from batchyard_controller.core.model.chunks import Chunk
from batchyard_controller.core.model.consumables import ConsumableResource
from batchyard_controller.core.model.endings import Ending
from batchyard_controller.core.model.enrolment import JoinToken, Member
from batchyard_controller.core.model.hosts import Host, HostRecord
from batchyard_controller.core.model.identities import Binding, Token
from batchyard_controller.core.model.jobs import Job, JobDefinition, JobKind
from batchyard_controller.core.model.launches import Launch, LaunchState
from batchyard_controller.core.model.past import NOBODY_LEFT, Left
from batchyard_controller.core.model.policies import SchedulingPolicy
from batchyard_controller.core.model.quota_shares import QuotaShare
from batchyard_controller.core.model.restores import Restore
from batchyard_controller.core.model.secrets import AccessKey, StoredSecret
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue
from batchyard_controller.core.model.sinks import Sink
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.usage import UsageSum
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.scaling.catalogue import Catalogue
from batchyard_controller.core.world.brake import Brake
from batchyard_controller.core.world.occupancy import bound_shares
from batchyard_controller.core.world.records import mend
from batchyard_controller.core.world.tenancy import recall, recall_cleared
from batchyard_controller.core.world.world import World, states_of

from . import adoption
from .attempts import end_attempt, restore_claim
from .nodes import end_cut_short, follow_main, has_nodes_left, preempt_all, whole_claims
from .progress import Out, Progress

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredState:
    """What is stored of a job beyond its submission, once there is anything."""

    ending: Ending | None = None
    ended_at_ms: int = 0
    ended_after_ms: int = 0
    started_at_ms: int = 0
    is_cancelled: bool = False
    terminate_reason: str = ""
    attempts: tuple[EndedAttempt, ...] = ()
    rest_end: RestEnd | None = None

    @classmethod
    def of(cls, job: Job) -> StoredState:
        """Take the parts of a job that are stored."""
        return cls(
            ending=job.ending,
            ended_at_ms=job.ended_at_ms,
            ended_after_ms=job.ended_after_ms,
            started_at_ms=job.started_at_ms,
            is_cancelled=job.is_cancelled,
            terminate_reason=job.terminate_reason,
            attempts=job.attempts,
            rest_end=job.children.rest_end,
        )


@dataclass(slots=True)
class Records:
    """Everything that the store holds, decoded, each by the name in its key."""

    restores: dict[str, Restore] = field(default_factory=dict)
    environments: dict[str, ComputeEnvironment] = field(default_factory=dict)
    queues: dict[str, JobQueue] = field(default_factory=dict)
    policies: dict[str, SchedulingPolicy] = field(default_factory=dict)
    quota_shares: dict[str, QuotaShare] = field(default_factory=dict)
    consumables: dict[str, ConsumableResource] = field(default_factory=dict)
    definitions: dict[str, JobDefinition] = field(default_factory=dict)
    secrets: dict[str, StoredSecret] = field(default_factory=dict)
    access_keys: dict[str, AccessKey] = field(default_factory=dict)
    bindings: dict[str, Binding] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    join_tokens: dict[str, JoinToken] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    sinks: dict[str, Sink] = field(default_factory=dict)
    hosts: dict[str, HostRecord] = field(default_factory=dict)
    launches: dict[str, Launch] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    states: dict[str, StoredState] = field(default_factory=dict)
    chunks: dict[str, Chunk] = field(default_factory=dict)
    """By ``job/number``."""
    attempts: dict[str, Attempt] = field(default_factory=dict)
    left: dict[str, Left] = field(default_factory=dict)
    usage: dict[str, UsageSum] = field(default_factory=dict)


Steps = Generator[None, None, T]
"""Work in slices: after each the event loop may have its turn."""

_SLICE = 500
"""Jobs in a slice of the work; a few milliseconds."""


def restore(
    records: Records,
    now: Instant,
    retention: Retention,
    catalogues: Mapping[str, Catalogue] | None = None,
    fence_ms: int = limits.FENCE_MS,
    brake_percent: int = limits.BRAKE_PERCENT,
) -> World:
    """Build the world from stored records, and from what providers offer now."""
    steps = restoring(records, now, retention, catalogues, fence_ms, brake_percent)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            world: World = end.value
            return world


def restoring(
    records: Records,
    now: Instant,
    retention: Retention,
    catalogues: Mapping[str, Catalogue] | None = None,
    fence_ms: int = limits.FENCE_MS,
    brake_percent: int = limits.BRAKE_PERCENT,
) -> Steps[World]:
    """Build the world as ``restore`` does, in slices. The records become its own: they are used up."""
    world = World(retention, catalogues, fence_ms=fence_ms, brake=Brake(percent=brake_percent))
    _restore_settings(world, records, now)
    adoption.begin(world, now)
    unsettled = yield from _restore_jobs(world, records)
    forgotten: Out = []  # nobody watches yet
    for part in _slices(unsettled):
        for job in part:
            Progress(world, now, forgotten, admits=False).settle(job)
        yield
    left = [job for job in world.jobs.values() if has_nodes_left(job)]
    for job in left:
        Progress(world, now, forgotten, admits=False).hold(job)
    for attempts in _slices(list(whole_claims(world, records.attempts.values()))):
        for attempt in attempts:
            restore_claim(world, attempt, now, forgotten)
        yield
    recall(world, now)
    for part in _slices(unsettled):
        for job in part:
            Progress(world, now, forgotten).admit(job)
        yield
    for job in [job for job in (*unsettled, *left) if job.kind is JobKind.NODES]:
        preempt_all(world, job)
        if job.state.is_final:
            end_cut_short(world, job, now, forgotten)
        follow_main(world, job, end_attempt, now, forgotten)
    recall_cleared(world, now)
    return world


def _slices(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + _SLICE] for start in range(0, len(items), _SLICE))


def _restore_settings(world: World, records: Records, now: Instant) -> None:
    world.restores = dict(records.restores)
    world.environments = dict(records.environments)
    world.queues.update(records.queues)
    world.policies = dict(records.policies)
    world.consumables = dict(records.consumables)
    world.quota_shares = dict(records.quota_shares)
    for queue in world.queues.values():
        world.bound_queue(queue)
        bound_shares(world, queue)
    for resource in world.consumables.values():
        world.fleet.bounds.set_consumable(resource)
    world.secrets = dict(records.secrets)
    world.access_keys = dict(records.access_keys)
    world.bindings = dict(records.bindings)
    world.tokens = dict(records.tokens)
    world.know_users()
    world.join_tokens = dict(records.join_tokens)
    world.sinks = dict(records.sinks)
    world.members = {member.host_id: member for member in records.members.values()}
    for definition in sorted(records.definitions.values(), key=lambda d: d.revision):
        world.definitions.setdefault(definition.name, []).append(definition)
    world.launches = {launch.id: launch for launch in records.launches.values()}
    for record in records.hosts.values():
        world.newest_ms = max(world.newest_ms, record.heard_at_ms)
        if record.gone_at_ms:
            world.gone_hosts[record.id] = record
            continue
        host = world.hosts[record.id] = Host(record=record, heard_boot_ms=now.boot_ms)
        world.refresh_host(host)
    for launch in records.launches.values():
        world.scaling.watch(launch, now)
        if launch.state is LaunchState.JOINED and launch.host_id in world.hosts:
            world.scaling.note_seen(launch, world.hosts[HostId(launch.host_id)].record.facts, now)


def _restore_jobs(world: World, records: Records) -> Steps[list[Job]]:
    """Put jobs back as far as stored facts say; return those that have not ended."""
    world.left = next(iter(records.left.values()), NOBODY_LEFT)
    world.past = dict(records.usage)
    world.last_seq = world.left.seq
    summed = [job_id for job_id in world.left.ids if records.jobs.pop(job_id, None) is not None]
    mend(world, "job", summed)
    for part in _slices(sorted(records.jobs.values(), key=lambda j: j.seq)):
        for job in part:
            world.index_job(job)
        yield
    for chunks in _slices(list(records.chunks.items())):
        for name, chunk in chunks:
            job_id, _, number = name.partition("/")
            if job_id in world.jobs:
                lifecycle.restore_chunk(world.jobs[JobId(job_id)], int(number), chunk)
        yield
    for states in _slices(list(records.states.items())):
        for job_id, stored in states:
            if job_id in world.jobs:
                _restore_state(world.jobs[JobId(job_id)], stored)
        yield
    yield from _count_states(world)
    for job in [job for job in world.jobs.values() if job.kind is JobKind.NODES and not job.state.is_final]:
        if Unit(job).main.state.is_final:
            main = Unit(job).main
            lifecycle.restore(job, main.ending, job.children.ended_at_ms(main.child), None)
            job.note_ended_after(world.newest_ms)
            mend(world, "state", [job.id])
    world.ended.extend(sorted((j for j in world.all_jobs if j.state.is_final), key=lambda j: j.aged_from_ms))
    _sweep(world, records)
    live = [job for job in world.all_jobs if not job.state.is_final]
    for part in _slices(live):
        for job in part:
            world.named.count(job, 1)
        yield
    return live


def _count_states(world: World) -> Steps[None]:
    for part in _slices(list(world.all_jobs)):
        for job in part:
            for state, number in states_of(job).items():
                world.count(job.spec.queue, None, state, number)
        yield


def _restore_state(job: Job, stored: StoredState) -> None:
    job.started_at_ms, job.is_cancelled = stored.started_at_ms, stored.is_cancelled
    job.terminate_reason, job.attempts = stored.terminate_reason, stored.attempts
    job.ended_after_ms = stored.ended_after_ms
    lifecycle.restore(job, stored.ending, stored.ended_at_ms, stored.rest_end)


def _sweep(world: World, records: Records) -> None:
    """Have records deleted that a job left behind which was only half forgotten."""
    mend(world, "state", set(records.states) - set(world.jobs))
    mend(world, "children", [name for name in records.chunks if name.partition("/")[0] not in world.jobs])


def restore_ended(records: Records) -> list[Job]:
    """Return jobs that have ended as they were, of a world of which nothing else is known."""
    for name, chunk in records.chunks.items():
        job_id, _, number = name.partition("/")
        lifecycle.restore_chunk(records.jobs[job_id], int(number), chunk)
    for job_id, job in records.jobs.items():
        _restore_state(job, records.states.get(job_id, StoredState()))
    return list(records.jobs.values())
