"""What follows when environments, queues, definitions, secrets and keys change."""

from __future__ import annotations

from typing import assert_never

from batchyard_controller.core.events import (
    AccessKeyCreated,
    AccessKeyRevoked,
    DefinitionChanged,
    EnvironmentChanged,
    EnvironmentDeleted,
    JobTerminated,
    QueueChanged,
    SecretDeleted,
    SecretPut,
)
from batchyard_controller.core.jobs import ends
from batchyard_controller.core.jobs.lifecycle import Trigger
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World

from .jobs import on_job_terminated
from .progress import Out, Progress


def on_setting_changed(
    world: World, event: EnvironmentChanged | EnvironmentDeleted | QueueChanged | DefinitionChanged
) -> None:
    """Keep a changed compute environment, queue or definition."""
    match event:
        case EnvironmentChanged():
            world.environments[event.environment.name] = event.environment
            world.touch(event.environment.name, "environment", event.environment.name)
        case EnvironmentDeleted():
            del world.environments[event.name]
            world.touch(event.name, "environment", event.name)
        case QueueChanged():
            world.queues[event.queue.name] = event.queue
            world.touch(event.queue.name, "queue", event.queue.name)
        case DefinitionChanged():
            definition = event.definition
            revisions = world.definitions.setdefault(definition.name, [])
            if definition.revision > len(revisions):
                revisions.append(definition)
            else:
                revisions[definition.revision - 1] = definition
            world.touch(definition.key, "definition", definition.key)
        case _:
            assert_never(event)
    world.fleet.grown += 1
    world.wants_plan = True


def on_sealed_changed(world: World, event: SecretPut | SecretDeleted | AccessKeyCreated | AccessKeyRevoked) -> None:
    """Keep or forget a secret or an access key; no job waits for one."""
    match event:
        case SecretPut(secret=secret):
            world.secrets[secret.name] = secret
            world.touch(f"secret/{secret.name}", "secret", secret.name)
        case SecretDeleted(name=name):
            del world.secrets[name]
            world.touch(f"secret/{name}", "secret", name)
        case AccessKeyCreated(access_key=access_key):
            world.access_keys[access_key.id] = access_key
            world.touch(access_key.id, "access_key", access_key.id)
        case AccessKeyRevoked(id=key_id):
            del world.access_keys[key_id]
            world.touch(key_id, "access_key", key_id)
        case _:
            assert_never(event)


def on_queue_deleted(world: World, name: str, now: Instant, out: Out) -> None:
    """End the jobs of a deleted queue (AWS: DeleteJobQueue)."""
    for job in world.live_jobs(name):
        Progress(world, now, out).fail_waiting(job, Trigger.QUEUE_DELETED, ends.QUEUE_DELETED)
        if not job.state.is_final:
            on_job_terminated(world, JobTerminated(job_id=job.id, index=None, reason=ends.QUEUE_DELETED), now, out)
    del world.queues[name]
    world.lines.drop_queue(name)
    world.touch(name, "queue", name)
