"""What follows when environments, queues, policies, consumables, definitions, secrets and keys change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from batchyard_controller.core.events import (
    ConsumableChanged,
    ConsumableDeleted,
    DefinitionChanged,
    EnvironmentChanged,
    EnvironmentDeleted,
    JobTerminated,
    PolicyChanged,
    PolicyDeleted,
    QueueChanged,
    QuotaShareChanged,
    RoleChanged,
    SealedChanged,
    SinkChanged,
    SinkDeleted,
    TokenChanged,
)
from batchyard_controller.core.jobs.ends import QUEUE_DELETED, SHARE_DELETED
from batchyard_controller.core.model.endings import Ending, Trigger
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.quota_shares import QuotaShare
from batchyard_controller.core.model.secrets import AccessKey, StoredSecret
from batchyard_controller.core.model.settings import JobQueue
from batchyard_controller.core.model.sinks import Sink
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world import records
from batchyard_controller.core.world.waiting import change_queue
from batchyard_controller.core.world.world import World

from .jobs import on_job_terminated
from .progress import Out, Progress

TOKEN_KEPT_MS = 30 * 24 * 3600 * 1000
"""How long a token that has become too old is still listed, so that people see why it opens nothing."""

SettingChanged = (
    EnvironmentChanged
    | EnvironmentDeleted
    | QueueChanged
    | PolicyChanged
    | PolicyDeleted
    | QuotaShareChanged
    | ConsumableChanged
    | ConsumableDeleted
    | DefinitionChanged
)


def on_setting_changed(world: World, event: SettingChanged, now: Instant) -> None:
    """Keep a changed compute environment, queue, policy, share, consumable resource or definition; who waits is asked again."""
    match event:
        case EnvironmentChanged(environment=environment):
            records.keep_plain(world, "environment", environment.name, environment)
        case EnvironmentDeleted(name=name):
            records.drop_plain(world, "environment", name)
        case QueueChanged(queue=queue):
            _keep_queue(world, queue, now)
        case PolicyChanged(policy=policy):
            records.keep_policy(world, policy)
        case PolicyDeleted(name=name):
            records.drop_policy(world, name)
        case QuotaShareChanged(share=share):
            records.keep_quota_share(world, share)
        case ConsumableChanged(resource=resource):
            records.keep_consumable(world, resource)
        case ConsumableDeleted(name=name):
            records.drop_consumable(world, name)
        case DefinitionChanged(definition=definition):
            records.keep_definition(world, definition)
        case _:
            assert_never(event)
    world.fleet.grown += 1
    world.wants_plan = True


def _keep_queue(world: World, queue: JobQueue, now: Instant) -> None:
    found = world.queues.get(queue.name)
    if found is None or found.security_level is queue.security_level:
        records.keep_queue(world, queue, now)
    else:
        change_queue(world, queue.name, lambda: records.keep_queue(world, queue, now))


def on_sealed_changed(world: World, event: SealedChanged | SinkChanged | SinkDeleted) -> None:
    """Keep and forget secrets, access keys and sinks; no job waits for one."""
    match event:
        case SinkChanged(sink=sink):
            records.keep_plain(world, "sink", sink.name, sink)
        case SinkDeleted(name=name):
            records.drop_plain(world, "sink", name)
        case SealedChanged(kept=kept, dropped=dropped):
            for record in kept:
                records.keep_plain(world, *_place(record), record)
            for record in dropped:
                records.drop_plain(world, *_place(record))
        case _:
            assert_never(event)


def _place(record: StoredSecret | AccessKey | Sink) -> tuple[str, str]:
    match record:
        case StoredSecret():
            return "secret", record.name
        case Sink():
            return "sink", record.name
        case _:
            return "access_key", record.id


def forget_old_access_keys(world: World, date_ms: int) -> None:
    """Forget access keys whose place others took, and which have ended."""
    for access_key in [each for each in world.access_keys.values() if not each.is_good(date_ms)]:
        records.drop_plain(world, "access_key", access_key.id)


def on_access_changed(world: World, event: RoleChanged | TokenChanged, now: Instant) -> None:
    """Keep or forget a role or a token; with a new token those go that were too old long ago."""
    match event:
        case RoleChanged(binding=binding, is_bound=True):
            records.keep_plain(world, "binding", binding.name, binding)
        case RoleChanged(binding=binding):
            records.drop_plain(world, "binding", binding.name)
        case TokenChanged(token=token, is_made=True):
            for other in [each for each in world.tokens.values() if now.wall_ms - each.expires_at_ms > TOKEN_KEPT_MS]:
                records.drop_plain(world, "token", other.id)
            records.keep_plain(world, "token", token.id, token)
        case TokenChanged(token=token):
            records.drop_plain(world, "token", token.id)
        case _:
            assert_never(event)


def on_queue_deleted(world: World, name: str, now: Instant, out: Out) -> None:
    """End the jobs of a deleted queue (AWS: DeleteJobQueue)."""
    _end_all(world, world.live_jobs(name), Trigger.QUEUE_DELETED, QUEUE_DELETED, now, out)
    records.drop_queue(world, name)
    world.lines.drop_queue(name)


def on_quota_share_deleted(world: World, share: QuotaShare, now: Instant, out: Out) -> None:
    """End the jobs of a deleted quota share (AWS: DeleteQuotaShare)."""
    jobs = [job for job in world.live_jobs(share.job_queue) if job.spec.share_identifier == share.name]
    _end_all(world, jobs, Trigger.SHARE_DELETED, SHARE_DELETED, now, out)
    records.drop_quota_share(world, share)
    world.fleet.grown += 1
    world.wants_plan = True


def _end_all(world: World, jobs: Iterable[Job], trigger: Trigger, reason: str, now: Instant, out: Out) -> None:
    """End those of some jobs that wait, and have the others stopped."""
    for job in jobs:
        Progress(world, now, out).fail_waiting(job, Ending(trigger=trigger))
        if not job.state.is_final:
            on_job_terminated(world, JobTerminated(job_id=job.id, index=None, reason=reason), now, out)
