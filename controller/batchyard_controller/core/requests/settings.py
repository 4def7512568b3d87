"""
Settings: may this environment, queue or definition be changed so, in the world as it is now?

Laws as in `submissions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from batchyard.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError, Reason, Violation
from batchyard_controller.core import limits
from batchyard_controller.core.events import (
    DefinitionChanged,
    EnvironmentChanged,
    EnvironmentDeleted,
    QueueChanged,
    QueueDeleted,
)
from batchyard_controller.core.model.jobs import DefinitionStatus, JobDefinition
from batchyard_controller.core.model.settings import (
    ComputeEnvironment,
    DispatchOrder,
    JobQueue,
    ResourceState,
)
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World

from .checks import Violations, quote, refuse, require_room
from .names import merge_annotations
from .platform_rules import check_together, of_fargate
from .policies import find_policy
from .scaling_rules import check_provider, check_scaling_change
from .settings_rules import check_kubernetes, check_queue


def create_environment(world: World, environment: ComputeEnvironment, now: Instant) -> EnvironmentChanged:
    """Admit a new compute environment."""
    if environment.name in world.environments:
        text = f"compute environment {environment.name} exists already"
        raise AlreadyExistsError(text, reason=Reason.COMPUTE_ENVIRONMENT_EXISTS, metadata={"name": environment.name})
    most = limits.COMPUTE_ENVIRONMENTS_MAX
    require_room(len(world.environments), most, "compute environments", Reason.TOO_MANY_COMPUTE_ENVIRONMENTS)
    refuse(check_provider(world, environment))
    resources = of_fargate(environment.compute_resources)
    return EnvironmentChanged(environment=replace(environment, compute_resources=resources, created_at_ms=now.wall_ms))


def update_environment(world: World, name: str, changes: Mapping[str, Any]) -> EnvironmentChanged:
    """Admit *changes* of an environment, by the names of its fields; annotations are merged."""
    found = find_environment(world, name)
    annotations = merge_annotations(found.annotations, changes.get("annotations", ()))
    changed = replace(found, **{**changes, "annotations": annotations})
    if "compute_resources" in changes:
        changed = replace(changed, compute_resources=of_fargate(changed.compute_resources))
        out = check_scaling_change(world, found, changed) + _check_neighbours(world, changed)
        check_kubernetes(out, changed)
        refuse(out)
    return EnvironmentChanged(environment=changed)


def _check_neighbours(world: World, changed: ComputeEnvironment) -> Violations:
    """Check that a changed environment leaves no queue with environments of two platforms."""
    out: Violations = []
    for queue in world.queues.values():
        if changed.name in queue.compute_environments:
            others = [e for e in world.environments_of(queue) if e.name != changed.name]
            out += check_together([changed, *others], "compute_resources.type")
    return out[:1]


def find_environment(world: World, name: str) -> ComputeEnvironment:
    """Return an environment or raise NotFoundError."""
    found = world.environments.get(name)
    if found is None:
        text = f"compute environment {quote(name)} not found"
        raise NotFoundError(text, reason=Reason.COMPUTE_ENVIRONMENT_NOT_FOUND, metadata={"name": name})
    return found


def delete_environment(world: World, name: str) -> EnvironmentDeleted:
    """Admit the end of an environment that is DISABLED and unused (AWS: DeleteComputeEnvironment)."""
    found = find_environment(world, name)
    users = [q.name for q in world.queues.values() if name in q.compute_environments]
    if users:
        raise FailedPreconditionError(
            f"Cannot delete, found existing JobQueue relationship: {', '.join(sorted(users))}",
            reason=Reason.COMPUTE_ENVIRONMENT_IN_USE,
            metadata={"name": name, "job_queue": min(users)},
        )
    if found.state is not ResourceState.DISABLED:
        text = f"compute environment {name} is ENABLED; disable it before you delete it"
        raise FailedPreconditionError(text, reason=Reason.COMPUTE_ENVIRONMENT_ENABLED, metadata={"name": name})
    return EnvironmentDeleted(name=name)


def create_queue(world: World, queue: JobQueue, now: Instant) -> QueueChanged:
    """Admit a new queue."""
    if queue.name in world.queues:
        text = f"job queue {queue.name} exists already"
        raise AlreadyExistsError(text, reason=Reason.JOB_QUEUE_EXISTS, metadata={"name": queue.name})
    require_room(len(world.queues), limits.QUEUES_MAX, "job queues", Reason.TOO_MANY_JOB_QUEUES)
    _check_environments(world, queue)
    if queue.scheduling_policy:
        find_policy(world, queue.scheduling_policy)
    _check_order(world, queue)
    return QueueChanged(queue=replace(queue, created_at_ms=now.wall_ms))


def _check_environments(world: World, queue: JobQueue) -> None:
    environments = [find_environment(world, name) for name in queue.compute_environments]
    refuse(check_together(environments, "compute_environment_order"))


def update_queue(world: World, name: str, changes: Mapping[str, Any]) -> QueueChanged:
    """Admit *changes* of a queue, by the names of its fields; annotations are merged."""
    found = find_queue(world, name)
    annotations = merge_annotations(found.annotations, changes.get("annotations", ()))
    changed = replace(found, **{**changes, "annotations": annotations})
    refuse(check_queue(changed))
    _check_environments(world, changed)
    _check_policy(world, found, changed.scheduling_policy)
    _check_order(world, changed)
    return QueueChanged(queue=changed)


def _check_policy(world: World, found: JobQueue, policy: str) -> None:
    """Refuse another kind of order: a policy is replaced, never removed, and none comes later (AWS)."""
    if policy == found.scheduling_policy:
        return
    if not found.scheduling_policy:
        text = "A scheduling policy cannot be added to a job queue that was created without one."
        raise FailedPreconditionError(text, reason=Reason.JOB_QUEUE_WITHOUT_POLICY, metadata={"name": found.name})
    if not policy:
        text = "The scheduling policy of a job queue can be replaced, but not removed."
        raise FailedPreconditionError(text, reason=Reason.JOB_QUEUE_WITH_POLICY, metadata={"name": found.name})
    before, after = find_policy(world, found.scheduling_policy), find_policy(world, policy)
    if (before.quota_share is None) != (after.quota_share is None):
        text = f"{policy} is of another kind than {found.scheduling_policy}: a job queue has quota shares, or fair shares, for good"
        refuse([Violation("scheduling_policy", text, Reason.CONFLICT)])


def _check_order(world: World, queue: JobQueue) -> None:
    """Refuse to let one share's first job hold up the others."""
    if world.has_quota_shares(queue) and queue.dispatch_order is DispatchOrder.STRICT:
        text = "STRICT does not go with quota shares, of which each is served for itself"
        refuse([Violation("dispatch_order", text, Reason.CONFLICT)])


def find_queue(world: World, name: str) -> JobQueue:
    """Return a queue or raise NotFoundError."""
    found = world.queues.get(name)
    if found is None:
        text = f"JobQueue {quote(name)} not found."
        raise NotFoundError(text, reason=Reason.JOB_QUEUE_NOT_FOUND, metadata={"name": name})
    return found


def delete_queue(world: World, name: str) -> QueueDeleted:
    """Admit the end of a DISABLED queue (AWS: DeleteJobQueue)."""
    if find_queue(world, name).state is not ResourceState.DISABLED:
        text = f"job queue {name} is ENABLED; disable it before you delete it"
        raise FailedPreconditionError(text, reason=Reason.JOB_QUEUE_ENABLED, metadata={"name": name})
    return QueueDeleted(name=name)


def register_definition(world: World, definition: JobDefinition) -> DefinitionChanged:
    """Admit the next revision of a definition; a name stays whose it was first."""
    revisions = world.definitions.get(definition.name, ())
    owner = revisions[0].owner if revisions else definition.owner
    return DefinitionChanged(definition=replace(definition, revision=len(revisions) + 1, owner=owner))


def deregister_definition(world: World, key: str) -> DefinitionChanged | None:
    """Admit that a revision becomes INACTIVE; None when it is already."""
    found = world.find_definition(key) if ":" in key else None
    if found is None:
        raise no_such_definition(key)
    if found.status is DefinitionStatus.INACTIVE:
        return None
    return DefinitionChanged(definition=replace(found, status=DefinitionStatus.INACTIVE))


def no_such_definition(key: str) -> NotFoundError:
    """Return the error for a revision that is not there."""
    text = f"job definition {quote(key)} not found"
    return NotFoundError(text, reason=Reason.JOB_DEFINITION_NOT_FOUND, metadata={"name": key})
