"""
Recovery: the world again, from what the store holds.

Only facts that cannot be worked out again are stored; whether a job waits for
others or for a host follows from them here. Hosts begin with fresh timers, as
nobody knows how long the controller was away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
from batchyard_controller.core.model.policies import SchedulingPolicy
from batchyard_controller.core.model.quota_shares import QuotaShare
from batchyard_controller.core.model.secrets import AccessKey, StoredSecret
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.scaling.catalogue import Catalogue
from batchyard_controller.core.world.occupancy import bound_shares
from batchyard_controller.core.world.records import mend
from batchyard_controller.core.world.tenancy import recall, recall_cleared
from batchyard_controller.core.world.world import World, states_of

from .attempts import end_attempt, restore_claim
from .nodes import end_cut_short, follow_main, has_nodes_left, preempt_all, whole_claims
from .progress import Out, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredState:
    """What is stored of a job beyond its submission, once there is anything."""

    ending: Ending | None = None
    ended_at_ms: int = 0
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
            started_at_ms=job.started_at_ms,
            is_cancelled=job.is_cancelled,
            terminate_reason=job.terminate_reason,
            attempts=job.attempts,
            rest_end=job.children.rest_end,
        )


@dataclass(slots=True)
class Records:
    """Everything that the store holds, decoded."""

    environments: list[ComputeEnvironment] = field(default_factory=list)
    queues: list[JobQueue] = field(default_factory=list)
    policies: list[SchedulingPolicy] = field(default_factory=list)
    quota_shares: list[QuotaShare] = field(default_factory=list)
    consumables: list[ConsumableResource] = field(default_factory=list)
    definitions: list[JobDefinition] = field(default_factory=list)
    secrets: list[StoredSecret] = field(default_factory=list)
    access_keys: list[AccessKey] = field(default_factory=list)
    bindings: list[Binding] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    join_tokens: list[JoinToken] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    hosts: list[HostRecord] = field(default_factory=list)
    launches: list[Launch] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    states: dict[JobId, StoredState] = field(default_factory=dict)
    chunks: list[tuple[JobId, int, Chunk]] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)


def restore(
    records: Records,
    now: Instant,
    retention: Retention,
    catalogues: Mapping[str, Catalogue] | None = None,
    fence_ms: int = limits.FENCE_MS,
) -> World:
    """Build the world from stored records, and from what providers offer now."""
    world = World(retention, catalogues, fence_ms=fence_ms)
    _restore_settings(world, records, now)
    unsettled = _restore_jobs(world, records)
    forgotten: Out = []  # nobody watches yet
    for job in unsettled:
        Progress(world, now, forgotten, admits=False).settle(job)
    left = [job for job in world.jobs.values() if has_nodes_left(job)]
    for job in left:
        Progress(world, now, forgotten, admits=False).hold(job)
    for attempt in whole_claims(world, records.attempts):
        restore_claim(world, attempt, now, forgotten)
    recall(world, now)
    for job in unsettled:
        Progress(world, now, forgotten).admit(job)
    for job in [job for job in (*unsettled, *left) if job.kind is JobKind.NODES]:
        preempt_all(world, job)
        if job.state.is_final:
            end_cut_short(world, job, now, forgotten)
        follow_main(world, job, end_attempt, now, forgotten)
    recall_cleared(world, now)
    return world


def _restore_settings(world: World, records: Records, now: Instant) -> None:
    world.environments = {environment.name: environment for environment in records.environments}
    world.queues.update({queue.name: queue for queue in records.queues})
    world.policies = {policy.name: policy for policy in records.policies}
    world.consumables = {resource.name: resource for resource in records.consumables}
    world.quota_shares = {share.id: share for share in records.quota_shares}
    for queue in world.queues.values():
        world.bound_queue(queue)
        bound_shares(world, queue)
    for resource in world.consumables.values():
        world.fleet.bounds.set_consumable(resource)
    world.secrets = {secret.name: secret for secret in records.secrets}
    world.access_keys = {access_key.id: access_key for access_key in records.access_keys}
    world.bindings = {binding.name: binding for binding in records.bindings}
    world.tokens = {token.id: token for token in records.tokens}
    world.know_users()
    world.join_tokens = {token.id: token for token in records.join_tokens}
    world.members = {member.host_id: member for member in records.members}
    for definition in sorted(records.definitions, key=lambda d: d.revision):
        world.definitions.setdefault(definition.name, []).append(definition)
    world.launches = {launch.id: launch for launch in records.launches}
    for record in records.hosts:
        if record.gone_at_ms:
            world.gone_hosts[record.id] = record
            continue
        host = world.hosts[record.id] = Host(record=record, heard_boot_ms=now.boot_ms)
        world.refresh_host(host)
    for launch in records.launches:
        world.scaling.watch(launch, now)
        if launch.state is LaunchState.JOINED and launch.host_id in world.hosts:
            world.scaling.note_seen(launch, world.hosts[HostId(launch.host_id)].record.facts, now)


def _restore_jobs(world: World, records: Records) -> list[Job]:
    """Put jobs back as far as stored facts say; return those that have not ended."""
    for job in sorted(records.jobs, key=lambda j: j.seq):
        world.index_job(job)
    for job_id, number, chunk in records.chunks:
        if job_id in world.jobs:
            lifecycle.restore_chunk(world.jobs[job_id], number, chunk)
    for job_id, stored in records.states.items():
        if job_id in world.jobs:
            _restore_state(world.jobs[job_id], stored)
    for job in world.all_jobs:
        for state, number in states_of(job).items():
            world.count(job.spec.queue, None, state, number)
    for job in [job for job in world.jobs.values() if job.kind is JobKind.NODES and not job.state.is_final]:
        if Unit(job).main.state.is_final:
            main = Unit(job).main
            lifecycle.restore(job, main.ending, job.children.ended_at_ms(main.child), None)
            mend(world, "state", [job.id])
    world.ended.extend(sorted((j for j in world.all_jobs if j.state.is_final), key=lambda j: j.ended_at_ms))
    _sweep(world, records)
    live = [job for job in world.all_jobs if not job.state.is_final]
    for job in live:
        world.named.count(job, 1)
    return live


def _restore_state(job: Job, stored: StoredState) -> None:
    job.started_at_ms, job.is_cancelled = stored.started_at_ms, stored.is_cancelled
    job.terminate_reason, job.attempts = stored.terminate_reason, stored.attempts
    lifecycle.restore(job, stored.ending, stored.ended_at_ms, stored.rest_end)


def _sweep(world: World, records: Records) -> None:
    """Have records deleted that a job left behind which was only half forgotten."""
    mend(world, "state", set(records.states) - set(world.jobs))
    mend(world, "children", [f"{job_id}/{n}" for job_id, n, _ in records.chunks if job_id not in world.jobs])
