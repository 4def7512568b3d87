"""
Submissions: may this job be submitted, cancelled or terminated, in the world as it is now?

Each function looks at the world, changes nothing, and returns the event, or
raises a `RequestError` that says what is wrong. The driver applies the event
before it looks at the next request, so two requests cannot both win.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from batchyard.array_values import NO_VALUES
from batchyard.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    Reason,
    ResourceExhaustedError,
    Violation,
)
from batchyard.ids import BY_REQUEST, JobId, split_job_id
from batchyard_controller.core import limits
from batchyard_controller.core.events import (
    JobCancelled,
    JobPriorityChanged,
    JobSubmitted,
    JobTerminated,
)
from batchyard_controller.core.jobs.resolution import Overrides, Submission, propagated_tags, resolve
from batchyard_controller.core.model.dependencies import Dependency, DependencyType
from batchyard_controller.core.model.jobs import DefinitionStatus, Job, JobDefinition, JobKind, JobSpec
from batchyard_controller.core.model.settings import JobQueue, Platform, ResourceState
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World

from .checks import Violations, quote, refuse
from .consumables import require_consumables
from .job_rules import check_complete
from .names import check_annotations
from .node_rules import check_node_overrides
from .platform_rules import check_capability, check_fargate, check_orchestration, on_platform
from .quota_shares import require_quota_share
from .secrecy import require_secrets
from .security_rules import check_level
from .sharing_rules import check_share


def submit_job(world: World, submission: Submission, job_id: JobId, now: Instant) -> tuple[JobSubmitted | None, Job]:
    """
    Admit a job; a repeated request id returns the first job and no event.

    Raises:
        InvalidArgumentError, NotFoundError, FailedPreconditionError, ResourceExhaustedError: see the texts.
    """
    if submission.request_id:
        first = world.requests.get((submission.owner, submission.request_id))
        if first is not None:
            return None, world.jobs[first]
    _require_room(world)
    queue = world.queues.get(submission.queue)
    if queue is None:
        text = f"JobQueue {submission.queue} not found."
        raise NotFoundError(text, reason=Reason.JOB_QUEUE_NOT_FOUND, metadata={"name": submission.queue})
    if queue.state is not ResourceState.ENABLED:
        text = f"JobQueue {queue.name} is DISABLED and takes no new jobs"
        raise FailedPreconditionError(text, reason=Reason.JOB_QUEUE_DISABLED, metadata={"name": queue.name})
    _check_share(world, queue, submission)
    definition = _definition_of(world, submission)
    _check_nodes(submission, definition)
    spec, violations = resolve(submission, definition)
    environments = world.environments_of(queue)
    platform = environments[0].compute_resources.type.platform
    refuse(check_capability(spec, platform) or check_orchestration(spec, environments))
    spec = on_platform(spec, platform)
    has_too_many_tags = len(propagated_tags(spec)) > limits.TAGS_MAX
    if not world.has_spec(spec):  # else a job of the same was found right already
        check_complete(violations, spec)
        check_annotations(violations, spec.annotations)
        if platform is Platform.FARGATE:
            check_fargate(violations, "container", spec.task, complete=True)
    check_level(violations, spec, queue)
    refuse(violations)
    if submission.depends_on:
        submission = replace(submission, depends_on=_with_ids(world, submission))
    for task in spec.tasks:
        require_secrets(world, task, spec.owner, spec.queue)
    require_consumables(world, spec.consumables)
    _check_dependencies(world, submission)
    job = Job(
        id=job_id,
        name=submission.name,
        spec=world.intern(spec),
        seq=0,
        created_at_ms=now.wall_ms,
        kind=_kind(submission, spec),
        size=submission.array_size if spec.nodes is None else spec.nodes.count,
        concurrency=submission.array_concurrency,
        values=submission.array_values,
        max_fails=submission.array_max_fails,
        depends_on=submission.depends_on,
        request_id=submission.request_id,
    )
    return JobSubmitted(job=job, has_too_many_tags=has_too_many_tags), job


def _require_room(world: World) -> None:
    """Refuse new jobs where the rest of the store is needed for what becomes of those that are there."""
    room = world.room
    if room is None or not room.is_tight:
        return
    used, quota = (f"{size / (1 << 20):,.0f} MiB" for size in (room.used_bytes, room.quota_bytes))
    raise ResourceExhaustedError(
        f"the controller's store holds {used} of at most {quota} and takes no new jobs, so that those that it has can go on; "
        f"its operator is told what helps by: batchyard doctor",
        reason=Reason.STORE_FULL,
        metadata={"used_bytes": str(room.used_bytes), "limit": str(room.quota_bytes)},
    )


def _kind(submission: Submission, spec: JobSpec) -> JobKind:
    if spec.nodes is not None:
        return JobKind.NODES
    return JobKind.ARRAY if submission.array_size else JobKind.SINGLE


def _check_nodes(submission: Submission, definition: JobDefinition | None) -> None:
    """Refuse what is only for jobs with nodes, and what is not for them."""
    nodes = submission.nodes if definition is None else definition.nodes
    out: Violations = []
    if nodes is None:
        if submission.node_overrides is not None:
            text = "is only for a multi-node job; the job definition is of type container"
            out.append(Violation("node_overrides", text, Reason.CONFLICT))
    else:
        text = "is not for a multi-node job"
        if submission.array_size:
            out.append(Violation("array_size", text, Reason.CONFLICT))
        if submission.array_values != NO_VALUES:
            out.append(Violation("array_values", text, Reason.CONFLICT))
        if submission.overrides != Overrides():
            out.append(Violation("overrides", f"{text}: use node_overrides", Reason.CONFLICT))
        if submission.node_overrides is not None:
            check_node_overrides(out, "node_overrides", nodes, submission.node_overrides)
    refuse(out)


def _with_ids(world: World, submission: Submission) -> tuple[Dependency, ...]:
    """Put ids in the place of ``request:<request id>``, by which jobs of one stream name each other."""
    depends_on = submission.depends_on
    if not any(d.job_id.startswith(BY_REQUEST) for d in depends_on):
        return depends_on
    found: list[Dependency] = []
    for dependency in depends_on:
        if dependency.job_id.startswith(BY_REQUEST):
            job_id = world.requests.get((submission.owner, dependency.job_id.removeprefix(BY_REQUEST)))
            if job_id is None:
                text = f"depends_on: no job was submitted with {quote(dependency.job_id)}"
                raise NotFoundError(text, reason=Reason.DEPENDENCY_NOT_FOUND, metadata={"job_id": dependency.job_id})
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
            raise no_such_dependency(dependency.job_id)
        size_there = other.size if other.kind is JobKind.ARRAY else 0
        if dependency.type is DependencyType.N_TO_N and size_there != submission.array_size:
            size = f"an array of {other.size}" if size_there else "no array"
            text = f"N_TO_N needs arrays of equal size: job {other.id} is {size}, this one of {submission.array_size}"
            raise InvalidArgumentError.from_violations([Violation(f"depends_on[{i}]", text, Reason.ARRAY_SIZES_DIFFER)])


def no_such_dependency(job_id: str) -> NotFoundError:
    """Return the error for a job to be waited for that is not there."""
    text = f"depends_on: job {job_id} not found"
    return NotFoundError(text, reason=Reason.DEPENDENCY_NOT_FOUND, metadata={"job_id": job_id})


def _check_share(world: World, queue: JobQueue, submission: Submission) -> None:
    """
    Ask for a share where the queue has a policy, and refuse what only such a queue gives a meaning.

    The typing error is AWS's.
    """
    given = {
        "share_identifier": bool(submission.share_identifier),
        "scheduling_priority": submission.scheduling_priority is not None,
    }
    text = (
        "Job with shareIdentifier or schedulingPriority can onlybe submitted to job queue "
        f"with fair share scheduling policy. JobQueue {queue.name} has none"
    )
    if not queue.scheduling_policy:
        refuse([Violation(field, text, Reason.NO_FAIR_SHARE) for field, is_given in given.items() if is_given])
        return
    if not submission.share_identifier:
        text = f"is required, as JobQueue {queue.name} has a scheduling policy"
        refuse([Violation("share_identifier", text, Reason.REQUIRED)])
    if world.has_quota_shares(queue):
        require_quota_share(world, queue, submission.share_identifier)
        return
    out: Violations = []
    check_share(out, "share_identifier", submission.share_identifier)
    refuse(out)
    live: Mapping[str, int] = world.named.shares.get(queue.name, {})
    if submission.share_identifier not in live and len(live) >= limits.ACTIVE_SHARES_MAX:
        text = f"JobQueue {queue.name} has {len(live)} active shares, the most allowed"
        metadata = {"name": queue.name, "limit": str(limits.ACTIVE_SHARES_MAX)}
        raise ResourceExhaustedError(text, reason=Reason.TOO_MANY_SHARES, metadata=metadata)


def _definition_of(world: World, submission: Submission) -> JobDefinition | None:
    if not submission.definition:
        return None
    definition = world.find_definition(submission.definition)
    if definition is None or definition.status is not DefinitionStatus.ACTIVE:
        raise no_active_definition(submission.definition)
    return definition


def no_active_definition(name: str) -> NotFoundError:
    """Return the error for a definition that no job can be made of (AWS's words)."""
    text = f"JobDefinition name {name} does not exist or is not in ACTIVE status"
    return NotFoundError(text, reason=Reason.JOB_DEFINITION_NOT_FOUND, metadata={"name": name})


def update_job(world: World, job_id: str, scheduling_priority: int) -> JobPriorityChanged | None:
    """
    Admit another scheduling priority of a job, or of all children of an array; None when it has it already.

    Raises:
        NotFoundError: there is no such job.
        InvalidArgumentError: it is a child, or its queue has no scheduling policy.
        FailedPreconditionError: it has ended.
    """
    parent, index = _unit(world, job_id)
    unit = Unit(world.jobs[parent], index)
    job, queue = unit.job, world.queues.get(unit.job.spec.queue)
    if unit.is_child:
        what = (
            f"a node of job {job.id}, which alone" if unit.is_node else f"a child of an array; only the array {job.id}"
        )
        text = f"{quote(job_id)} is {what} has a priority"
        refuse([Violation("job_id", text, Reason.NOT_ALLOWED)])
    if job.state.is_final:
        text = f"job {job_id} has ended {job.state}; its priority has no meaning any more"
        raise FailedPreconditionError(text, reason=Reason.JOB_HAS_ENDED, metadata={"job_id": job_id})
    if queue is None or not queue.scheduling_policy:
        text = f"JobQueue {job.spec.queue} has no scheduling policy, so priorities of jobs have no meaning in it"
        refuse([Violation("scheduling_priority", text, Reason.NO_FAIR_SHARE)])
    if job.spec.scheduling_priority == scheduling_priority:
        return None
    return JobPriorityChanged(job_id=job.id, scheduling_priority=scheduling_priority)


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
    if world.find(job_id) is None:
        text = f"job {quote(job_id)} not found"
        raise NotFoundError(text, reason=Reason.JOB_NOT_FOUND, metadata={"job_id": job_id})
    return parent, index
