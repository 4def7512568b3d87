"""Job view: what users see of jobs, built from the world as it is stored."""

from __future__ import annotations

from functools import lru_cache

from batchyard.ids import HostId, child_id
from batchyard.runtimes import runtime_of
from batchyard.states import JobState
from batchyard.v1 import job_definition_pb2, job_pb2
from batchyard_controller.convert.containers import container_message, retry_message
from batchyard_controller.convert.jobs import dependency_messages, job_state_number
from batchyard_controller.core.jobs.dependencies import counterparts, is_sequential
from batchyard_controller.core.jobs.variables import log_stream_name
from batchyard_controller.core.model.attempts import Attempt, EndedAttempt
from batchyard_controller.core.model.children import Children
from batchyard_controller.core.model.containers import Container
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.placement.explain import explain
from batchyard_controller.core.placement.feasibility import access_of
from batchyard_controller.core.placement.refusals import Refusal
from batchyard_controller.core.views import blocked, history
from batchyard_controller.core.world.world import World, shape_of


@lru_cache(maxsize=1024)
def _container(container: Container) -> job_definition_pb2.ContainerProperties:
    return container_message(container)


def job_message(world: World, job: Job, index: int | None) -> job_pb2.Job:
    """Describe a job, an array parent or one child."""
    summary = summary_message(world, job, index)
    live = history.live_attempt(world, job, index)
    attempts = [_ended_message(world, job, index, ended) for ended in history.ended_attempts(world, job, index)]
    if live is not None:
        attempts.append(_live_message(world, live))
    spec = job.spec
    return job_pb2.Job(
        id=summary.id,
        name=job.name,
        queue=spec.queue,
        job_definition=spec.definition,
        state=summary.state,
        status_reason=summary.status_reason,
        created_at_ms=job.created_at_ms,
        started_at_ms=summary.started_at_ms,
        stopped_at_ms=summary.stopped_at_ms,
        attempts=attempts,
        container=_container(spec.container),
        parameters=dict(spec.parameters),
        array=summary.array if summary.HasField("array") else None,
        depends_on=dependency_messages(job.depends_on),
        retry_strategy=retry_message(spec.retry),
        timeout_s=spec.timeout_s,
        share_identifier=spec.share_identifier,
        scheduling_priority=spec.scheduling_priority,
        propagate_tags=spec.propagate_tags,
        tags=dict(spec.tags),
        is_cancelled=history.is_cancelled(world, job, index),
        is_terminated=history.is_terminated(world, job, index),
        exit_code=summary.exit_code if summary.HasField("exit_code") else None,
        waiting_reason=waiting_reason(world, job, index),
        annotations=dict(spec.annotations),
    )


def summary_message(world: World, job: Job, index: int | None, state: JobState | None = None) -> job_pb2.JobSummary:
    """Describe a job in short; *state* stands in for the present one (for past moves)."""
    ended = history.ended_attempts(world, job, index)
    live = history.live_attempt(world, job, index)
    last = ended[-1] if ended else None
    host_id = live.host_id if live is not None else last.host_id if last is not None else ""
    started, stopped = history.span(world, job, index)
    reason = job.status_reason if index is None else world.children[job.id].status_reason(index)
    if world.is_runnable(job, index):
        reason = blocked.status_reason(world, job, index)
    return job_pb2.JobSummary(
        id=job.id if index is None else child_id(job.id, index),
        name=job.name,
        queue=job.spec.queue,
        state=job_state_number(state or world.state_of(job, index)),
        status_reason=reason,
        created_at_ms=job.created_at_ms,
        started_at_ms=started,
        stopped_at_ms=stopped,
        exit_code=last.exit_code if last is not None and live is None else None,
        array=_array(world, job, index),
        job_definition=job.spec.definition,
        host_name=_host_name(world, host_id),
        attempts=len(ended) + (live is not None),
        reason=last.reason if last is not None and live is None else "",
    )


def _array(world: World, job: Job, index: int | None) -> job_pb2.ArrayProperties | None:
    if not job.array_size:
        return None
    if index is not None:
        return job_pb2.ArrayProperties(size=job.array_size, index=index)
    counts = world.children[job.id].counts
    return job_pb2.ArrayProperties(
        size=job.array_size,
        concurrency=job.array_concurrency,
        status_summary={str(s): counts.get(s, 0) for s in JobState},
        status_summary_updated_at_ms=world.children[job.id].updated_at_ms or job.created_at_ms,
    )


def _children(world: World, job: Job) -> Children:
    return world.children[job.id]


def _host_name(world: World, host_id: str) -> str:
    host = world.hosts.get(HostId(host_id))
    return host.record.facts.name if host is not None else host_id


def _ended_message(world: World, job: Job, index: int | None, ended: EndedAttempt) -> job_pb2.Attempt:
    attempt_id = f"{job.id if index is None else child_id(job.id, index)}#{ended.number}"
    return job_pb2.Attempt(
        id=attempt_id,
        number=ended.number,
        state=job_pb2.JOB_STATE_SUCCEEDED if history.has_succeeded(ended) else job_pb2.JOB_STATE_FAILED,
        host_id=ended.host_id,
        host_name=_host_name(world, ended.host_id),
        claimed_at_ms=ended.claimed_at_ms,
        started_at_ms=ended.started_at_ms,
        stopped_at_ms=ended.stopped_at_ms,
        exit_code=ended.exit_code,
        reason=ended.reason,
        status_reason=ended.status_reason,
        log_stream_name=log_stream_name(job, attempt_id) if ended.started_at_ms else "",
        gpu_uuids=ended.gpu_uuids,
        epoch=ended.epoch,
    )


def _live_message(world: World, attempt: Attempt) -> job_pb2.Attempt:
    running = attempt.started_at_ms != 0
    return job_pb2.Attempt(
        id=attempt.id,
        number=attempt.number,
        state=job_pb2.JOB_STATE_RUNNING if running else job_pb2.JOB_STATE_STARTING,
        host_id=attempt.host_id,
        host_name=_host_name(world, attempt.host_id),
        claimed_at_ms=attempt.claimed_at_ms,
        started_at_ms=attempt.started_at_ms,
        log_stream_name=log_stream_name(world.jobs[attempt.job_id], attempt.id) if running else "",
        gpu_uuids=[gpu.uuid for gpu in attempt.gpus],
        epoch=attempt.epoch,
    )


# Why a job waits ------------------------------------------------------------


def refusals(world: World, job: Job) -> tuple[Refusal, ...]:
    """Return what stands against placing a job now."""
    queue = world.queues.get(job.spec.queue)
    if queue is None:
        return (Refusal(kind="queue", message=f"job queue {job.spec.queue} is gone"),)
    line = world.lines.find(shape_of(job))
    if line is not None and line.refusals and line.refused_at == world.fleet.grown:
        return line.refusals
    steps = sorted(queue.environment_order, key=lambda s: s.order)
    return explain(shape_of(job), tuple(world.environments[s.compute_environment] for s in steps), world.fleet)


def waiting_reason(world: World, job: Job, index: int | None) -> str:
    """Say in one sentence why a job waits; nothing if it does not."""
    match world.state_of(job, index):
        case JobState.RUNNABLE:
            return "waits for a host: " + "; ".join(r.message for r in refusals(world, job))
        case JobState.PENDING if job.unmet:
            return f"waits for {job.unmet} of its {len(job.depends_on)} dependencies"
        case JobState.PENDING if index is None and job.array_size:
            return _array_reason(world, job)
        case JobState.PENDING if index is not None:
            return _child_reason(world, job, index)
        case _:
            return ""


def _child_reason(world: World, job: Job, index: int) -> str:
    others = [(other, index) for other in counterparts(job) if other in world.children]
    if index > 0 and is_sequential(job):
        others.append((job.id, index - 1))
    states = [(child_id(other, i), world.children[other].state(i)) for other, i in others]
    waited = [f"{child} ({state})" for child, state in states if not state.is_final]
    if waited:
        return f"waits for {', '.join(waited)}"
    return f"waits for its turn: at most {job.array_concurrency} children of the array at once"


def _array_reason(world: World, job: Job) -> str:
    counts = world.children[job.id].counts
    parts = ", ".join(f"{counts[state]} {state}" for state in JobState if counts.get(state))
    text = f"children: {parts}"
    if counts.get(JobState.RUNNABLE):
        text += "; the next waits for a host: " + "; ".join(r.message for r in refusals(world, job))
    return text


def explain_message(world: World, job: Job, index: int | None) -> job_pb2.ExplainJobResponse:
    """Say why a job is where it is."""
    state = world.state_of(job, index)
    waiting = state is JobState.RUNNABLE or (
        index is None and job.array_size > 0 and world.children[job.id].count(JobState.RUNNABLE) > 0
    )
    listed = refusals(world, job) if waiting else ()
    return job_pb2.ExplainJobResponse(
        job_id=job.id if index is None else child_id(job.id, index),
        state=job_state_number(state),
        summary=_summary(world, job, index, state),
        refusals=[
            job_pb2.Refusal(
                kind=r.kind,
                asked=r.asked,
                free=r.free,
                largest_free=r.largest_free,
                largest_capacity=r.largest_capacity,
                message=r.message,
            )
            for r in listed
        ],
        position=world.lines.ahead_of(job, index) + 1 if waiting else 0,
        eligible_hosts=_eligible_hosts(world, job) if waiting else 0,
    )


def _summary(world: World, job: Job, index: int | None, state: JobState) -> str:
    live = history.live_attempt(world, job, index)
    if live is not None:
        return f"{state.lower()} on host {_host_name(world, live.host_id)}, attempt {live.number}"
    if state.is_final:
        reason = job.status_reason if index is None else _children(world, job).status_reason(index)
        return f"ended {state}" + (f": {reason}" if reason else "")
    return waiting_reason(world, job, index) or f"is {state}"


def _eligible_hosts(world: World, job: Job) -> int:
    queue = world.queues.get(job.spec.queue)
    if queue is None:
        return 0
    runtime, access = runtime_of(job.spec.container.image), access_of(job.spec.container)
    rows = set()
    for step in queue.environment_order:
        environment = world.environments[step.compute_environment]
        mask = world.fleet.members(environment, runtime, access) & world.fleet.usable
        rows.update(mask.nonzero()[0].tolist())
    return len(rows)
