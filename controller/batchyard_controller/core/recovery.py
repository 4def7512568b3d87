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

from .children import Chunk
from .lifecycle import restore_job
from .model import (
    Attempt,
    ComputeEnvironment,
    EndedAttempt,
    Host,
    HostRecord,
    Instant,
    Job,
    JobDefinition,
    JobQueue,
)
from .reactor import Out, reclaim, settle
from .world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredState:
    """What is stored of a job beyond its submission, once there is anything."""

    state: JobState
    status_reason: str = ""
    started_at_ms: int = 0
    stopped_at_ms: int = 0
    is_cancelled: bool = False
    terminate_reason: str = ""
    attempts: tuple[EndedAttempt, ...] = ()

    @classmethod
    def of(cls, job: Job) -> StoredState:
        """Take the parts of a job that are stored."""
        return cls(
            state=job.state,
            status_reason=job.status_reason,
            started_at_ms=job.started_at_ms,
            stopped_at_ms=job.stopped_at_ms,
            is_cancelled=job.is_cancelled,
            terminate_reason=job.terminate_reason,
            attempts=job.attempts,
        )


@dataclass(slots=True)
class Records:
    """Everything that the store holds, decoded."""

    environments: list[ComputeEnvironment] = field(default_factory=list)
    queues: list[JobQueue] = field(default_factory=list)
    definitions: list[JobDefinition] = field(default_factory=list)
    hosts: list[HostRecord] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    states: dict[JobId, StoredState] = field(default_factory=dict)
    chunks: list[tuple[JobId, int, Chunk]] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)


def restore(records: Records, now: Instant) -> World:
    """Build the world from stored records."""
    world = World()
    _restore_settings(world, records, now)
    unsettled = _restore_jobs(world, records)
    forgotten: Out = []  # nobody watches yet
    for job in unsettled:
        settle(world, job, now, forgotten)
    for attempt in records.attempts:
        reclaim(world, attempt, now, forgotten)
    world.form_lines()  # settling let also those stand in line who are claimed
    return world


def _restore_settings(world: World, records: Records, now: Instant) -> None:
    world.environments = {environment.name: environment for environment in records.environments}
    world.queues = {queue.name: queue for queue in records.queues}
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
        world.children[job_id].adopt_chunk(number, chunk)
    unsettled: list[Job] = []
    for job in world.all_jobs.jobs:
        stored = records.states.get(job.id)
        if stored is not None:
            job.status_reason = stored.status_reason
            job.started_at_ms, job.stopped_at_ms = stored.started_at_ms, stored.stopped_at_ms
            job.is_cancelled, job.terminate_reason = stored.is_cancelled, stored.terminate_reason
            job.attempts = stored.attempts
        if stored is not None and stored.state.is_final:
            restore_job(job, stored.state)
        else:
            unsettled.append(job)
        counts = world.children[job.id].counts if job.array_size else {job.state: 1}
        for state, number in counts.items():
            world.count(job.spec.queue, None, state, number)
    return unsettled
