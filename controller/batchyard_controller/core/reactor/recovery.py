"""
Recovery: the world again, from what the store holds.

Only facts that cannot be worked out again are stored; whether a job waits for
others or for a host follows from them here. Hosts begin with fresh timers, as
nobody knows how long the controller was away.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from batchyard.ids import JobId
from batchyard.states import JobState
from batchyard_controller.core.jobs.lifecycle import restore_job
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.attempts import Attempt, EndedAttempt
from batchyard_controller.core.model.children import CHUNK, Children, Chunk, RestEnd
from batchyard_controller.core.model.hosts import Host, HostRecord
from batchyard_controller.core.model.jobs import Job, JobDefinition
from batchyard_controller.core.model.secrets import AccessKey, StoredSecret
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World, unit_group

from .attempts import restore_claim
from .progress import Out, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredState:
    """What is stored of a job beyond its submission, once there is anything."""

    state: JobState
    status_reason: str = ""
    started_at_ms: int = 0
    stopped_at_ms: int = 0
    ended_at_ms: int = 0
    is_cancelled: bool = False
    terminate_reason: str = ""
    attempts: tuple[EndedAttempt, ...] = ()
    rest_end: RestEnd | None = None

    @classmethod
    def of(cls, job: Job, children: Children | None) -> StoredState:
        """Take the parts of a job, and of an array's *children*, that are stored."""
        return cls(
            state=job.state,
            status_reason=job.status_reason,
            started_at_ms=job.started_at_ms,
            stopped_at_ms=job.stopped_at_ms,
            ended_at_ms=job.ended_at_ms,
            is_cancelled=job.is_cancelled,
            terminate_reason=job.terminate_reason,
            attempts=job.attempts,
            rest_end=None if children is None else children.rest_end,
        )


@dataclass(slots=True)
class Records:
    """Everything that the store holds, decoded."""

    environments: list[ComputeEnvironment] = field(default_factory=list)
    queues: list[JobQueue] = field(default_factory=list)
    definitions: list[JobDefinition] = field(default_factory=list)
    secrets: list[StoredSecret] = field(default_factory=list)
    access_keys: list[AccessKey] = field(default_factory=list)
    hosts: list[HostRecord] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    states: dict[JobId, StoredState] = field(default_factory=dict)
    chunks: list[tuple[JobId, int, Chunk]] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)


def restore(records: Records, now: Instant, retention: Retention) -> World:
    """Build the world from stored records."""
    world = World(retention)
    _restore_settings(world, records, now)
    unsettled = _restore_jobs(world, records)
    forgotten: Out = []  # nobody watches yet
    for job in unsettled:
        Progress(world, now, forgotten, admits=False).settle(job)
    for attempt in records.attempts:
        restore_claim(world, attempt, now, forgotten)
    for job in unsettled:
        Progress(world, now, forgotten).admit(job)
    world.form_lines()  # settling let also those stand in line who are claimed
    return world


def _restore_settings(world: World, records: Records, now: Instant) -> None:
    world.environments = {environment.name: environment for environment in records.environments}
    world.queues = {queue.name: queue for queue in records.queues}
    world.secrets = {secret.name: secret for secret in records.secrets}
    world.access_keys = {access_key.id: access_key for access_key in records.access_keys}
    for definition in sorted(records.definitions, key=lambda d: d.revision):
        world.definitions.setdefault(definition.name, []).append(definition)
    for record in records.hosts:
        host = world.hosts[record.id] = Host(record=record, heard_boot_ms=now.boot_ms)
        world.refresh_host(host)


def _restore_jobs(world: World, records: Records) -> list[Job]:
    """Put jobs back as far as stored facts say; return those that have not ended."""
    for job in sorted(records.jobs, key=lambda j: j.seq):
        world.index_job(job)
    for job_id, number, chunk in records.chunks:
        if job_id in world.children:
            world.children[job_id].adopt_chunk(number, chunk)
    for job_id, stored in records.states.items():
        if job_id in world.jobs:
            _restore_state(world, world.jobs[job_id], stored)
    for job in world.all_jobs:
        counts = world.children[job.id].counts if job.array_size else {job.state: 1}
        for state, number in counts.items():
            world.count(job.spec.queue, None, state, number)
    world.ended.extend(sorted((j for j in world.all_jobs if j.state.is_final), key=lambda j: j.ended_at_ms))
    _sweep(world, records)
    return [job for job in world.all_jobs if not job.state.is_final]


def _restore_state(world: World, job: Job, stored: StoredState) -> None:
    job.status_reason = stored.status_reason
    job.started_at_ms, job.stopped_at_ms = stored.started_at_ms, stored.stopped_at_ms
    job.ended_at_ms = stored.ended_at_ms
    job.is_cancelled, job.terminate_reason = stored.is_cancelled, stored.terminate_reason
    job.attempts = stored.attempts
    if stored.rest_end is not None:
        world.children[job.id].set_rest_end(stored.rest_end)
    if stored.state.is_final:
        restore_job(job, stored.state)


def _sweep(world: World, records: Records) -> None:
    """Have records deleted that a job left behind which was only half forgotten."""
    for job_id in records.states.keys() - world.jobs.keys():
        world.touch(job_id, "state", job_id)
    for job_id, number, _ in records.chunks:
        if job_id not in world.children:
            group = unit_group(job_id, number * CHUNK)
            world.touch(group, "children", group)
