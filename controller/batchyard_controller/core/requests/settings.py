"""
Settings: may this environment, queue, definition or host be changed so, in the world as it is now?

Laws as in `submissions`.
"""

from __future__ import annotations

from dataclasses import replace

from batchyard.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    NotFoundError,
    Reason,
    ResourceExhaustedError,
)
from batchyard.ids import HostId
from batchyard.pairs import Pairs
from batchyard_controller.core import limits
from batchyard_controller.core.events import (
    DefinitionChanged,
    EnvironmentChanged,
    EnvironmentDeleted,
    HostMarked,
    HostRemoved,
    QueueChanged,
    QueueDeleted,
)
from batchyard_controller.core.jobs.resolution import merge
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.jobs import DefinitionStatus, JobDefinition
from batchyard_controller.core.model.settings import (
    ComputeEnvironment,
    ComputeResources,
    EnvironmentOrder,
    JobQueue,
    ResourceState,
    StateTimeLimit,
)
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World

from .checks import Violations, quote
from .job_rules import refuse
from .names import check_annotations
from .settings_rules import check_queue


def create_environment(world: World, environment: ComputeEnvironment, now: Instant) -> EnvironmentChanged:
    """Admit a new compute environment."""
    if environment.name in world.environments:
        text = f"compute environment {environment.name} exists already"
        raise AlreadyExistsError(text, reason=Reason.COMPUTE_ENVIRONMENT_EXISTS, metadata={"name": environment.name})
    if len(world.environments) >= limits.COMPUTE_ENVIRONMENTS_MAX:
        raise ResourceExhaustedError(
            f"there are {limits.COMPUTE_ENVIRONMENTS_MAX} compute environments, the most allowed",
            reason=Reason.TOO_MANY_COMPUTE_ENVIRONMENTS,
            metadata={"limit": str(limits.COMPUTE_ENVIRONMENTS_MAX)},
        )
    return EnvironmentChanged(environment=replace(environment, created_at_ms=now.wall_ms))


def update_environment(
    world: World,
    name: str,
    state: ResourceState | None,
    compute_resources: ComputeResources | None,
    unmanaged_vcpus: int | None,
    service_role: str | None,
    annotations: Pairs = (),
) -> EnvironmentChanged:
    """Admit a change of the parts that are given."""
    found = find_environment(world, name)
    changed = replace(
        found,
        state=state or found.state,
        compute_resources=compute_resources or found.compute_resources,
        unmanaged_vcpus=found.unmanaged_vcpus if unmanaged_vcpus is None else unmanaged_vcpus,
        service_role=found.service_role if service_role is None else service_role,
        annotations=_annotate(found.annotations, annotations),
    )
    return EnvironmentChanged(environment=changed)


def _annotate(kept: Pairs, given: Pairs) -> Pairs:
    """Merge annotations by key: *given* win, and an empty value removes its key."""
    if not given:
        return kept
    removed = {key for key, value in given if not value}
    annotations = tuple((key, value) for key, value in merge(kept, given) if key not in removed)
    out: Violations = []
    check_annotations(out, annotations)
    refuse(out)
    return annotations


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
    users = [q.name for q in world.queues.values() if any(s.compute_environment == name for s in q.environment_order)]
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
    if len(world.queues) >= limits.QUEUES_MAX:
        raise ResourceExhaustedError(
            f"there are {limits.QUEUES_MAX} job queues, the most allowed",
            reason=Reason.TOO_MANY_JOB_QUEUES,
            metadata={"limit": str(limits.QUEUES_MAX)},
        )
    _check_environments(world, queue)
    return QueueChanged(queue=replace(queue, created_at_ms=now.wall_ms))


def _check_environments(world: World, queue: JobQueue) -> None:
    for step in queue.environment_order:
        find_environment(world, step.compute_environment)


def update_queue(
    world: World,
    name: str,
    *,
    state: ResourceState | None,
    priority: int | None,
    order: tuple[EnvironmentOrder, ...],
    scheduling_policy: str | None,
    time_limits: tuple[StateTimeLimit, ...] | None,
    annotations: Pairs = (),
) -> QueueChanged:
    """Admit a change of the parts that are given; an empty *order* keeps the steps."""
    found = find_queue(world, name)
    changed = replace(
        found,
        state=state or found.state,
        priority=found.priority if priority is None else priority,
        environment_order=order or found.environment_order,
        scheduling_policy=found.scheduling_policy if scheduling_policy is None else scheduling_policy,
        state_time_limits=found.state_time_limits if time_limits is None else time_limits,
        annotations=_annotate(found.annotations, annotations),
    )
    refuse(check_queue(changed))
    _check_environments(world, changed)
    return QueueChanged(queue=changed)


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
    """Admit the next revision of a definition."""
    revision = len(world.definitions.get(definition.name, ())) + 1
    return DefinitionChanged(definition=replace(definition, revision=revision))


def deregister_definition(world: World, key: str) -> DefinitionChanged | None:
    """Admit that a revision becomes INACTIVE; None when it is already."""
    found = world.find_definition(key) if ":" in key else None
    if found is None:
        text = f"job definition {quote(key)} not found"
        raise NotFoundError(text, reason=Reason.JOB_DEFINITION_NOT_FOUND, metadata={"name": key})
    if found.status is DefinitionStatus.INACTIVE:
        return None
    return DefinitionChanged(definition=replace(found, status=DefinitionStatus.INACTIVE))


def find_host(world: World, name_or_id: str) -> Host:
    """Return a host by id, or by name, a connected one first; or raise NotFoundError."""
    host = world.hosts.get(HostId(name_or_id))
    if host is None:
        named = [h for h in world.hosts.values() if h.record.facts.name == name_or_id]
        host = max(named, key=lambda h: (h.session, h.heard_boot_ms), default=None)
    if host is None:
        text = f"host {quote(name_or_id)} not found"
        raise NotFoundError(text, reason=Reason.HOST_NOT_FOUND, metadata={"host": name_or_id})
    return host


def mark_host(world: World, name_or_id: str, *, cordoned: bool, draining: bool) -> HostMarked:
    """Admit that a host is cordoned, drained or freed."""
    host = find_host(world, name_or_id)
    return HostMarked(host_id=host.record.id, cordoned=cordoned, draining=draining)


def remove_host(world: World, name_or_id: str, *, force: bool) -> HostRemoved:
    """
    Admit that a host is forgotten: one that is not connected, and runs nothing unless *force* says that it cannot.

    Raises:
        NotFoundError: no such host.
        FailedPreconditionError: it is connected, or attempts count as running on it.
    """
    host = find_host(world, name_or_id)
    name, metadata = host.record.facts.name, {"host": name_or_id}
    if host.is_reachable:
        text = f"host {name} is connected and would be back at once; stop its agent first"
        raise FailedPreconditionError(text, reason=Reason.HOST_CONNECTED, metadata=metadata)
    if host.attempts and not force:
        text = (
            f"{len(host.attempts)} attempts count as running on host {name} until it has surely stopped them; "
            "if it is switched off, remove it by force, and they are lost at once"
        )
        raise FailedPreconditionError(text, reason=Reason.HOST_BUSY, metadata=metadata)
    return HostRemoved(host_id=host.record.id)
