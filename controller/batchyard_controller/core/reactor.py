"""
Reactor: what follows from each event.

`apply` changes the world and returns the commands that the shell carries out
once the change is stored. No clock, no wire, no loop: `now` is an argument. Every
handler is idempotent where the outside may repeat itself.
"""

from __future__ import annotations

from typing import assert_never

from batchyard.ids import AttemptId, HostId, JobId
from batchyard.states import FINAL_STATES, EndCause, JobState

from . import dependencies, limits, reasons, retry
from .commands import Command, PublishMove, SendAck, SendRevoke, SendStart, SendStop
from .events import (
    AttemptsReported,
    DefinitionChanged,
    EnvironmentChanged,
    EnvironmentDeleted,
    Event,
    HostHeard,
    HostJoined,
    HostLeft,
    HostMarked,
    JobCancelled,
    JobSubmitted,
    JobTerminated,
    Phase,
    Planned,
    QueueChanged,
    QueueDeleted,
    Report,
    Ticked,
)
from .lifecycle import Trigger, allows, move_all_children, move_child, move_job
from .model import Attempt, AttemptEnd, EndedAttempt, Host, HostRecord, Instant, Job
from .world import World, unit_group

Out = list[Command]


def apply(world: World, event: Event, now: Instant) -> Out:
    """Take one event in; return what must be carried out after the commit."""
    out: Out = []
    match event:
        case JobSubmitted():
            on_job_submitted(world, event.job, now, out)
        case JobCancelled():
            on_job_cancelled(world, event, now, out)
        case JobTerminated():
            on_job_terminated(world, event, now, out)
        case HostJoined():
            on_host_joined(world, event, now, out)
        case HostLeft():
            on_host_left(world, event)
        case HostHeard():
            on_host_heard(world, event, now)
        case HostMarked():
            on_host_marked(world, event)
        case AttemptsReported():
            on_attempts_reported(world, event.host_id, event.reports, now, out)
        case EnvironmentChanged() | EnvironmentDeleted() | QueueChanged() | DefinitionChanged():
            on_setting_changed(world, event)
        case QueueDeleted():
            on_queue_deleted(world, event.name, now, out)
        case Planned():
            on_planned(world, event, now, out)
        case Ticked():
            on_ticked(world, now, out)
        case _:
            assert_never(event)
    return out


# Jobs come in ---------------------------------------------------------------


def on_job_submitted(world: World, job: Job, now: Instant, out: Out) -> None:
    """Keep a new job and let it wait for its dependencies or for a host."""
    job.seq = world.last_seq + 1
    world.index_job(job)
    world.count(job.spec.queue, None, JobState.SUBMITTED, job.array_size or 1)
    world.touch(job.id, "job", job.id)
    settle(world, job, now, out)


def settle(world: World, job: Job, now: Instant, out: Out) -> None:
    """Move a SUBMITTED job on, by what its dependencies say."""
    state = dependencies.standing(job.depends_on, world.jobs)
    if state.failed or state.unmet:
        _move_whole(world, job, Trigger.DEPENDENCIES_UNMET, now, out)
    if state.failed:
        _fail_waiting(world, job, Trigger.DEPENDENCY_FAILED, reasons.DEPENDENCY_FAILED, now, out)
        return
    job.unmet = len(state.unmet)
    for other in state.unmet:
        world.dependents.setdefault(other, []).append(job.id)
    if not state.unmet:
        _release(world, job, now, out)


def _release(world: World, job: Job, now: Instant, out: Out) -> None:
    """Let a job whose dependencies are met wait for a host."""
    _move_whole(world, job, Trigger.DEPENDENCIES_MET, now, out)
    world.await_hosts(job)


def _move_whole(world: World, job: Job, trigger: Trigger, now: Instant, out: Out) -> None:
    """Move a single job, or an array's parent and all its children at once."""
    if not job.array_size:
        _move(world, job, None, trigger, "", now, out)
        return
    children = world.children[job.id]
    waiting = children.count(children.base)
    before = move_all_children(job, children, trigger)
    world.count(job.spec.queue, before, children.base, waiting)
    if job.state is JobState.SUBMITTED:
        parent_trigger = Trigger.CHILD_RUNNABLE if trigger is Trigger.DEPENDENCIES_MET else trigger
        parent_before = move_job(job, parent_trigger)
        out.append(PublishMove(job.id, None, parent_before, job.state, now.wall_ms))


def _move(world: World, job: Job, index: int | None, trigger: Trigger, reason: str, now: Instant, out: Out) -> None:
    """Move one unit and tell everybody who counts or watches."""
    if index is None:
        before = move_job(job, trigger, reason)
        after = job.state
    else:
        before = move_child(job, world.children[job.id], index, trigger, reason)
        after = world.children[job.id].state(index)
    world.count(job.spec.queue, before, after)
    out.append(PublishMove(job.id, index, before, after, now.wall_ms))


# Jobs end -------------------------------------------------------------------


def _touch_unit(world: World, job: Job, index: int | None) -> None:
    """Note that what is stored of a unit, its attempts apart, has changed."""
    group = unit_group(job.id, index)
    if index is None:
        world.touch(group, "state", job.id)
    else:
        world.touch(group, "children", group)


def _end_unit(world: World, job: Job, index: int | None, trigger: Trigger, reason: str, now: Instant, out: Out) -> None:
    """Move a unit to its final state and let the consequences follow."""
    _move(world, job, index, trigger, reason, now, out)
    _touch_unit(world, job, index)
    if index is None:
        _release_dependents(world, job, now, out)
    elif world.children[job.id].all_final:
        _end_array(world, job, now, out)


def _end_array(world: World, job: Job, now: Instant, out: Out) -> None:
    """End an array whose children have all ended."""
    failed = world.children[job.id].count(JobState.FAILED)
    trigger = Trigger.CHILDREN_ENDED if failed else Trigger.CHILDREN_SUCCEEDED
    before = move_job(job, trigger, reasons.CHILD_FAILED if failed else "")
    job.stopped_at_ms = now.wall_ms
    world.touch(job.id, "state", job.id)
    out.append(PublishMove(job.id, None, before, job.state, now.wall_ms))
    _release_dependents(world, job, now, out)


def _release_dependents(world: World, job: Job, now: Instant, out: Out) -> None:
    """Tell the jobs that waited for this one."""
    failed = job.state is JobState.FAILED
    for dependent_id in world.dependents.pop(job.id, ()):
        dependent = world.jobs[dependent_id]
        if dependent.state is not JobState.PENDING:
            continue
        dependent.unmet -= 1
        if failed:
            _fail_waiting(world, dependent, Trigger.DEPENDENCY_FAILED, reasons.DEPENDENCY_FAILED, now, out)
        elif dependent.unmet == 0:
            _release(world, dependent, now, out)


def _fail_waiting(world: World, job: Job, trigger: Trigger, reason: str, now: Instant, out: Out) -> None:
    """End all units of a job that have not started and that *trigger* may end."""
    if not job.array_size:
        if job.state.is_waiting:
            _end_unit(world, job, None, trigger, reason, now, out)
        return
    children = world.children[job.id]
    for index in list(children.indices(frozenset({JobState.PENDING, JobState.RUNNABLE}))):
        if allows(children.state(index), trigger):
            _end_unit(world, job, index, trigger, reason, now, out)


def on_job_cancelled(world: World, event: JobCancelled, now: Instant, out: Out) -> None:
    """End what has not started; what has started goes on (AWS: CancelJob)."""
    job = world.jobs[event.job_id]
    if event.index is None:
        if not job.state.is_final and not job.state.is_active:
            job.is_cancelled = True
            world.touch(job.id, "state", job.id)
        _fail_waiting(world, job, Trigger.CANCELLED, event.reason, now, out)
    elif world.state_of(job, event.index).is_waiting:
        world.children[job.id].set_cancelled(event.index)
        _end_unit(world, job, event.index, Trigger.CANCELLED, event.reason, now, out)


def on_job_terminated(world: World, event: JobTerminated, now: Instant, out: Out) -> None:
    """End what has not started and stop what has (AWS: TerminateJob)."""
    job = world.jobs[event.job_id]
    if event.index is not None:
        _terminate_unit(world, job, event.index, event.reason, now, out)
        return
    if job.state in FINAL_STATES:
        return
    job.terminate_reason = job.terminate_reason or event.reason
    world.touch(job.id, "state", job.id)
    if job.array_size:
        children = world.children[job.id]
        for index in list(children.indices(frozenset({JobState.STARTING, JobState.RUNNING}))):
            _terminate_unit(world, job, index, event.reason, now, out)
        _fail_waiting(world, job, Trigger.TERMINATED, event.reason, now, out)
    else:
        _terminate_unit(world, job, None, event.reason, now, out)


def _terminate_unit(world: World, job: Job, index: int | None, reason: str, now: Instant, out: Out) -> None:
    state = world.state_of(job, index)
    if state.is_final:
        return
    if index is not None:
        world.children[job.id].set_terminate_reason(index, reason)
        _touch_unit(world, job, index)
    if state.is_waiting:
        _end_unit(world, job, index, Trigger.TERMINATED, reason, now, out)
        return
    attempt = world.live_attempt(job, index)
    assert attempt is not None, f"{job.id}:{index} is {state} without an attempt"
    if not attempt.terminate_reason:
        attempt.terminate_reason = reason
        world.touch(unit_group(job.id, index), "attempt", attempt.id)
    out.append(SendStop(attempt.host_id, attempt.id))


# Placement ------------------------------------------------------------------


def on_planned(world: World, event: Planned, now: Instant, out: Out) -> None:
    """Claim hosts as a plan says, and keep why the others wait."""
    starts: dict[HostId, list[Attempt]] = {}
    for placement in event.plan.placements:
        job, index = placement.job, placement.index
        number = len(job.attempts) + 1 if index is None else world.children[job.id].tries(index) + 1
        attempt = Attempt(
            job_id=job.id,
            index=index,
            number=number,
            host_id=placement.host_id,
            compute_environment=placement.compute_environment,
            epoch=event.epoch,
            claimed_at_ms=now.wall_ms,
            gpus=placement.gpus,
        )
        world.add_attempt(attempt)
        world.touch(unit_group(job.id, index), "attempt", attempt.id)
        starts.setdefault(placement.host_id, []).append(attempt)
    for line, count in event.plan.taken:
        line.drop(count)
    for placement in event.plan.placements:
        _move(world, placement.job, placement.index, Trigger.CLAIMED, "", now, out)
    for line, refusals in event.plan.refusals:
        line.refusals = refusals
        line.refused_at = world.fleet.grown
    out.extend(SendStart(host_id, tuple(attempts)) for host_id, attempts in starts.items())


def reclaim(world: World, attempt: Attempt, now: Instant, out: Out) -> None:
    """Put a stored claim back in force."""
    job = world.jobs[attempt.job_id]
    world.add_attempt(attempt)
    _move(world, job, attempt.index, Trigger.CLAIMED, "", now, out)
    if attempt.started_at_ms:
        _move(world, job, attempt.index, Trigger.STARTED, "", now, out)


# Attempts -------------------------------------------------------------------


def on_attempts_reported(world: World, host_id: HostId, reports: tuple[Report, ...], now: Instant, out: Out) -> None:
    """Believe a host about its own attempts; ends are acknowledged after the commit."""
    host = world.hosts.get(host_id)
    if host is not None:
        _hear(host, now)
    acks: list[AttemptId] = []
    for report in reports:
        attempt = world.attempts.get(report.attempt_id)
        is_ours = attempt is not None and attempt.host_id == host_id
        if report.phase is Phase.ENDED:
            acks.append(report.attempt_id)
        if attempt is None or not is_ours:
            if report.phase is not Phase.ENDED:
                out.append(SendRevoke(host_id, report.attempt_id))
            continue
        if report.end is not None:
            end_attempt(world, attempt, report.end, now, out)
        elif report.phase is Phase.RUNNING and attempt.started_at_ms == 0:
            _start_attempt(world, attempt, report.started_at_ms, now, out)
    if acks:
        out.append(SendAck(host_id, tuple(acks)))


def _start_attempt(world: World, attempt: Attempt, started_at_ms: int, now: Instant, out: Out) -> None:
    job = world.jobs[attempt.job_id]
    attempt.started_at_ms = started_at_ms
    if attempt.index is None:
        job.started_at_ms = started_at_ms
    elif job.started_at_ms == 0:
        job.started_at_ms = started_at_ms
        world.touch(job.id, "state", job.id)
    world.touch(unit_group(job.id, attempt.index), "attempt", attempt.id)
    _move(world, job, attempt.index, Trigger.STARTED, "", now, out)


def end_attempt(world: World, attempt: Attempt, end: AttemptEnd, now: Instant, out: Out) -> None:
    """Keep how an attempt ended and decide what becomes of its job."""
    job, index = world.jobs[attempt.job_id], attempt.index
    if attempt.started_at_ms == 0 and end.started_at_ms:
        _start_attempt(world, attempt, end.started_at_ms, now, out)
    world.remove_attempt(attempt)
    world.touch(unit_group(job.id, index), "attempt", attempt.id)
    ended = EndedAttempt(
        number=attempt.number,
        host_id=attempt.host_id,
        claimed_at_ms=attempt.claimed_at_ms,
        started_at_ms=attempt.started_at_ms,
        stopped_at_ms=end.stopped_at_ms or now.wall_ms,
        exit_code=end.exit_code,
        reason=end.reason[: limits.CONTAINER_REASON_LENGTH_MAX],
        status_reason=reasons.status_reason(end, attempt.host_id, attempt.terminate_reason),
        gpu_uuids=tuple(gpu.uuid for gpu in attempt.gpus),
        epoch=attempt.epoch,
    )
    if index is None:
        job.attempts = (*job.attempts, ended)
        job.stopped_at_ms = ended.stopped_at_ms
    else:
        world.children[job.id].record_end(index, ended)
    if end.cause is EndCause.EXITED and end.exit_code == 0:
        _end_unit(world, job, index, Trigger.SUCCEEDED, ended.status_reason, now, out)
    elif attempt.terminate_reason:
        _end_unit(world, job, index, Trigger.TERMINATED, attempt.terminate_reason, now, out)
    elif retry.evaluate(job.spec.retry, end.cause, ended).is_retry:
        _retry(world, job, index, now, out)
    else:
        _end_unit(world, job, index, Trigger.FAILED, ended.status_reason, now, out)


def _retry(world: World, job: Job, index: int | None, now: Instant, out: Out) -> None:
    """Send a unit back to the front of its line."""
    _move(world, job, index, Trigger.RETRIED, "", now, out)
    _touch_unit(world, job, index)
    if index is None:
        job.stopped_at_ms = 0
        world.await_host(job, 0, 1)
    else:
        world.await_host(job, index, index + 1)


# Hosts ----------------------------------------------------------------------


def _hear(host: Host, now: Instant) -> None:
    host.heard_boot_ms = now.boot_ms
    host.heard_wall_ms = now.wall_ms


def on_host_joined(world: World, event: HostJoined, now: Instant, out: Out) -> None:
    """Compare what a host says it keeps with what it should; mend the difference."""
    host = world.hosts.get(event.host_id)
    if host is None:
        host = world.hosts[event.host_id] = Host(record=HostRecord(id=event.host_id, facts=event.facts))
        world.touch(event.host_id, "host", event.host_id)
    _set_facts(world, host, event)
    host.session = event.session
    _hear(host, now)
    world.refresh_host(host)
    on_attempts_reported(world, event.host_id, event.reports, now, out)
    said = {report.attempt_id for report in event.reports}
    unsaid = [attempt for attempt in host.attempts.values() if attempt.id not in said]
    resend = tuple(attempt for attempt in unsaid if attempt.started_at_ms == 0)
    if resend:
        # Claimed and stored, but the message was lost with a leader or a connection.
        out.append(SendStart(event.host_id, resend))
    for attempt in unsaid:
        if attempt.started_at_ms:
            # It ran here, and the same agent's journal knows nothing of it.
            end_attempt(world, attempt, AttemptEnd(cause=EndCause.LOST), now, out)
    out.extend(SendStop(event.host_id, a.id) for a in host.attempts.values() if a.terminate_reason)


def _set_facts(world: World, host: Host, event: HostJoined | HostHeard) -> None:
    if event.facts is not None and event.facts != host.record.facts:
        record = host.record
        host.record = HostRecord(id=record.id, facts=event.facts, cordoned=record.cordoned, draining=record.draining)
        world.touch(record.id, "host", record.id)
        world.refresh_host(host)


def on_host_left(world: World, event: HostLeft) -> None:
    """Give a host without a session no new work; what runs there goes on."""
    host = world.hosts.get(event.host_id)
    if host is not None and host.session == event.session:
        host.session = 0
        world.refresh_host(host)


def on_host_heard(world: World, event: HostHeard, now: Instant) -> None:
    """Restart a host's timers."""
    host = world.hosts.get(event.host_id)
    if host is not None:
        _hear(host, now)
        _set_facts(world, host, event)


def on_host_marked(world: World, event: HostMarked) -> None:
    """Cordon, drain or free a host."""
    host = world.hosts[event.host_id]
    host.record = HostRecord(
        id=event.host_id, facts=host.record.facts, cordoned=event.cordoned, draining=event.draining
    )
    world.touch(event.host_id, "host", event.host_id)
    world.refresh_host(host)


def on_ticked(world: World, now: Instant, out: Out) -> None:
    """Give up the attempts of hosts that were silent until their fence has surely passed."""
    for host in world.hosts.values():
        if host.attempts and world.is_silent(host, now, limits.FENCE_MS + limits.FENCE_MARGIN_MS):
            for attempt in list(host.attempts.values()):
                end_attempt(world, attempt, AttemptEnd(cause=EndCause.LOST), now, out)


# Settings -------------------------------------------------------------------


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


def on_queue_deleted(world: World, name: str, now: Instant, out: Out) -> None:
    """End the jobs of a deleted queue (AWS: DeleteJobQueue)."""
    live: list[JobId] = [job.id for job in world.all_jobs.jobs if job.spec.queue == name and not job.state.is_final]
    for job_id in live:
        job = world.jobs[job_id]
        _fail_waiting(world, job, Trigger.QUEUE_DELETED, reasons.QUEUE_DELETED, now, out)
        if not job.state.is_final:
            on_job_terminated(world, JobTerminated(job_id=job_id, index=None, reason=reasons.QUEUE_DELETED), now, out)
    del world.queues[name]
    world.lines.drop_queue(name)
    world.touch(name, "queue", name)
