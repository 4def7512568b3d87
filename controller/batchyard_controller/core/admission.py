"""
Admission: may this request become an event, in the world as it is now?

Each function looks at the world, changes nothing, and returns the event, or
raises a `RequestError` that says what is wrong. The driver applies the event
before it looks at the next request, so two requests cannot both win.
"""

from __future__ import annotations

from dataclasses import replace

from batchyard.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    Violation,
)
from batchyard.ids import BY_REQUEST, HostId, JobId, split_job_id

from . import limits
from .checks import Violations, quote
from .events import (
    DefinitionChanged,
    EnvironmentChanged,
    EnvironmentDeleted,
    HostMarked,
    JobCancelled,
    JobSubmitted,
    JobTerminated,
    QueueChanged,
    QueueDeleted,
)
from .model import (
    ComputeEnvironment,
    ComputeResources,
    DefinitionStatus,
    Dependency,
    DependencyType,
    EnvironmentOrder,
    Host,
    Instant,
    Job,
    JobDefinition,
    JobQueue,
    Pairs,
    ResourceState,
    StateTimeLimit,
)
from .resolution import Submission, merge, propagated_tags, resolve
from .secrecy import require_secrets
from .validation import check_annotations, check_container, check_queue, refuse
from .world import World


def submit_job(world: World, submission: Submission, job_id: JobId, now: Instant) -> tuple[JobSubmitted | None, Job]:
    """
    Admit a job; a repeated request id returns the first job and no event.

    Raises:
        InvalidArgumentError, NotFoundError, FailedPreconditionError: see the texts.
    """
    if submission.request_id:
        first = world.requests.get(submission.request_id)
        if first is not None:
            return None, world.jobs[first]
    queue = world.queues.get(submission.queue)
    if queue is None:
        raise NotFoundError(f"JobQueue {submission.queue} not found.")
    if queue.state is not ResourceState.ENABLED:
        raise FailedPreconditionError(f"JobQueue {queue.name} is DISABLED and takes no new jobs")
    _refuse_fair_share(queue, submission)
    spec, violations = resolve(submission, _definition_of(world, submission))
    has_too_many_tags = len(propagated_tags(spec)) > limits.TAGS_MAX
    if not world.has_spec(spec):  # else a job of the same was found right already
        check_container(violations, "container", spec.container, complete=True)
        check_annotations(violations, spec.annotations)
    refuse(violations)
    if submission.depends_on:
        submission = replace(submission, depends_on=_with_ids(world, submission.depends_on))
    require_secrets(world, spec.container)
    _check_dependencies(world, submission)
    job = Job(
        id=job_id,
        name=submission.name,
        spec=world.intern(spec),
        seq=0,
        created_at_ms=now.wall_ms,
        array_size=submission.array_size,
        array_concurrency=submission.array_concurrency,
        depends_on=submission.depends_on,
        request_id=submission.request_id,
    )
    return JobSubmitted(job=job, has_too_many_tags=has_too_many_tags), job


def _with_ids(world: World, depends_on: tuple[Dependency, ...]) -> tuple[Dependency, ...]:
    """Put ids in the place of ``request:<request id>``, by which jobs of one stream name each other."""
    if not any(d.job_id.startswith(BY_REQUEST) for d in depends_on):
        return depends_on
    found: list[Dependency] = []
    for dependency in depends_on:
        if dependency.job_id.startswith(BY_REQUEST):
            job_id = world.requests.get(dependency.job_id.removeprefix(BY_REQUEST))
            if job_id is None:
                raise NotFoundError(f"depends_on: no job was submitted with {quote(dependency.job_id)}")
            found.append(replace(dependency, job_id=job_id))
        else:
            found.append(dependency)
    return tuple(found)


def _check_dependencies(world: World, submission: Submission) -> None:
    """Refuse ids that name no job, and arrays that do not match (ours: AWS says nothing of unequal sizes)."""
    for i, dependency in enumerate(submission.depends_on):
        if dependency.type is DependencyType.SEQUENTIAL:
            continue
        other = world.jobs.get(JobId(dependency.job_id))
        if other is None:
            raise NotFoundError(f"depends_on: job {dependency.job_id} not found")
        if dependency.type is DependencyType.N_TO_N and other.array_size != submission.array_size:
            size = f"an array of {other.array_size}" if other.array_size else "no array"
            text = f"N_TO_N needs arrays of equal size: job {other.id} is {size}, this one of {submission.array_size}"
            raise InvalidArgumentError.from_violations([Violation(f"depends_on[{i}]", text)])


def _refuse_fair_share(queue: JobQueue, submission: Submission) -> None:
    """Refuse what only a queue with a fair share policy gives a meaning (the typing error is AWS's)."""
    given = {
        "share_identifier": bool(submission.share_identifier),
        "scheduling_priority": submission.scheduling_priority is not None,
    }
    text = (
        "Job with shareIdentifier or schedulingPriority can onlybe submitted to job queue "
        f"with fair share scheduling policy. JobQueue {queue.name} has none"
    )
    if not queue.scheduling_policy:
        refuse([Violation(field, text) for field, is_given in given.items() if is_given])


def _definition_of(world: World, submission: Submission) -> JobDefinition | None:
    if not submission.definition:
        return None
    definition = world.find_definition(submission.definition)
    if definition is None or definition.status is not DefinitionStatus.ACTIVE:
        raise NotFoundError(f"JobDefinition name {submission.definition} does not exist or is not in ACTIVE status")
    return definition


def cancel_job(world: World, job_id: str, reason: str) -> JobCancelled:
    """Admit a cancellation; a job that has started or ended is left alone (AWS: CancelJob)."""
    parent, index = _unit(world, job_id)
    return JobCancelled(job_id=parent, index=index, reason=reason)


def terminate_job(world: World, job_id: str, reason: str) -> JobTerminated:
    """Admit a termination; a job that has ended is left alone (AWS: TerminateJob)."""
    parent, index = _unit(world, job_id)
    return JobTerminated(job_id=parent, index=index, reason=reason)


def _unit(world: World, job_id: str) -> tuple[JobId, int | None]:
    parent, index = split_job_id(job_id)
    if world.find_unit(parent, index) is None:
        raise NotFoundError(f"job {quote(job_id)} not found")
    return parent, index


def create_environment(world: World, environment: ComputeEnvironment, now: Instant) -> EnvironmentChanged:
    """Admit a new compute environment."""
    if environment.name in world.environments:
        raise AlreadyExistsError(f"compute environment {environment.name} exists already")
    if len(world.environments) >= limits.COMPUTE_ENVIRONMENTS_MAX:
        raise ResourceExhaustedError(
            f"there are {limits.COMPUTE_ENVIRONMENTS_MAX} compute environments, the most allowed"
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
    if changed.compute_resources.type is not found.compute_resources.type:
        _check_type_change(world, changed)
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


def _check_type_change(world: World, changed: ComputeEnvironment) -> None:
    """Refuse a type that a queue's other environments do not have."""
    for queue in world.queues.values():
        names = {step.compute_environment for step in queue.environment_order}
        if changed.name in names and len(names) > 1:
            text = f"job queue {queue.name} has other compute environments, and all of a queue must be of one type"
            raise InvalidArgumentError.from_violations([Violation("compute_resources.type", text)])


def find_environment(world: World, name: str) -> ComputeEnvironment:
    """Return an environment or raise NotFoundError."""
    found = world.environments.get(name)
    if found is None:
        raise NotFoundError(f"compute environment {quote(name)} not found")
    return found


def delete_environment(world: World, name: str) -> EnvironmentDeleted:
    """Admit the end of an environment that is DISABLED and unused (AWS: DeleteComputeEnvironment)."""
    found = find_environment(world, name)
    users = [q.name for q in world.queues.values() if any(s.compute_environment == name for s in q.environment_order)]
    if users:
        raise FailedPreconditionError(
            f"Cannot delete, found existing JobQueue relationship: {', '.join(sorted(users))}"
        )
    if found.state is not ResourceState.DISABLED:
        raise FailedPreconditionError(f"compute environment {name} is ENABLED; disable it before you delete it")
    return EnvironmentDeleted(name=name)


def create_queue(world: World, queue: JobQueue, now: Instant) -> QueueChanged:
    """Admit a new queue."""
    if queue.name in world.queues:
        raise AlreadyExistsError(f"job queue {queue.name} exists already")
    if len(world.queues) >= limits.QUEUES_MAX:
        raise ResourceExhaustedError(f"there are {limits.QUEUES_MAX} job queues, the most allowed")
    _check_environments(world, queue)
    return QueueChanged(queue=replace(queue, created_at_ms=now.wall_ms))


def _check_environments(world: World, queue: JobQueue) -> None:
    types = {
        find_environment(world, step.compute_environment).compute_resources.type for step in queue.environment_order
    }
    if len(types) > 1:
        text = "all compute environments of a queue must be of one type, EC2 or SPOT"
        raise InvalidArgumentError.from_violations([Violation("compute_environment_order", text)])


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
        raise NotFoundError(f"JobQueue {quote(name)} not found.")
    return found


def delete_queue(world: World, name: str) -> QueueDeleted:
    """Admit the end of a DISABLED queue (AWS: DeleteJobQueue)."""
    if find_queue(world, name).state is not ResourceState.DISABLED:
        raise FailedPreconditionError(f"job queue {name} is ENABLED; disable it before you delete it")
    return QueueDeleted(name=name)


def register_definition(world: World, definition: JobDefinition) -> DefinitionChanged:
    """Admit the next revision of a definition."""
    revision = len(world.definitions.get(definition.name, ())) + 1
    return DefinitionChanged(definition=replace(definition, revision=revision))


def deregister_definition(world: World, key: str) -> DefinitionChanged | None:
    """Admit that a revision becomes INACTIVE; None when it is already."""
    found = world.find_definition(key) if ":" in key else None
    if found is None:
        raise NotFoundError(f"job definition {quote(key)} not found")
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
        raise NotFoundError(f"host {quote(name_or_id)} not found")
    return host


def mark_host(world: World, name_or_id: str, *, cordoned: bool, draining: bool) -> HostMarked:
    """Admit that a host is cordoned, drained or freed."""
    host = find_host(world, name_or_id)
    return HostMarked(host_id=host.record.id, cordoned=cordoned, draining=draining)
