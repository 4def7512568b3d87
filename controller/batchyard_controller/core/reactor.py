"""
Reactor: what follows from each event.

`apply` changes the world and returns the commands that the shell carries out
once the change is stored. No clock, no wire, no loop: `now` is an argument. Every
handler is idempotent where the outside may repeat itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from batchyard.ids import AttemptId, HostId
from batchyard.states import ACTIVE_STATES, FINAL_STATES, EndCause, JobState

from . import blocked, limits, reasons, retry
from .commands import SendAck, SendRevoke, SendStart, SendStop
from .events import (
    AccessKeyCreated,
    AccessKeyRevoked,
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
    JobTagged,
    JobTerminated,
    Phase,
    Planned,
    QueueChanged,
    QueueDeleted,
    Report,
    SecretDeleted,
    SecretPut,
    Ticked,
)
from .lifecycle import Trigger
from .model import Attempt, AttemptEnd, EndedAttempt, Host, HostRecord, Instant, Job
from .progress import Out, Progress
from .retention import forgettable
from .world import World, unit_group


def apply(world: World, event: Event, now: Instant) -> Out:
    """Take one event in; return what must be carried out after the commit."""
    out: Out = []
    match event:
        case JobSubmitted():
            on_job_submitted(world, event, now, out)
        case JobTagged():
            on_job_tagged(world, event)
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
        case SecretPut() | SecretDeleted() | AccessKeyCreated() | AccessKeyRevoked():
            on_sealed_changed(world, event)
        case QueueDeleted():
            on_queue_deleted(world, event.name, now, out)
        case Planned():
            on_planned(world, event, now, out)
        case Ticked():
            on_ticked(world, now, out)
        case _:
            assert_never(event)
    return out


# Jobs -------------------------------------------------------------------------


def on_job_submitted(world: World, event: JobSubmitted, now: Instant, out: Out) -> None:
    """Keep a new job and let it wait for its dependencies or for a host."""
    job = event.job
    job.seq = world.last_seq + 1
    world.index_job(job)
    world.count(job.spec.queue, None, JobState.SUBMITTED, job.array_size or 1)
    world.touch(job.id, "job", job.id)
    progress = Progress(world, now, out)
    if event.has_too_many_tags:
        progress.fail_waiting(job, Trigger.TOO_MANY_TAGS, reasons.TOO_MANY_TAGS)
    else:
        progress.settle(job)


def on_job_tagged(world: World, event: JobTagged) -> None:
    """Keep a job's changed tags; they are part of what is stored at its submission."""
    job = world.jobs[event.job_id]
    job.spec = world.intern(replace(job.spec, tags=event.tags))
    world.touch(job.id, "job", job.id)


def on_job_cancelled(world: World, event: JobCancelled, now: Instant, out: Out) -> None:
    """End what has not started; what has started goes on (AWS: CancelJob)."""
    job = world.jobs[event.job_id]
    if event.index is None:
        if not job.state.is_final and not job.state.is_active:
            job.is_cancelled = True
            world.touch(job.id, "state", job.id)
        Progress(world, now, out).fail_waiting(job, Trigger.CANCELLED, event.reason)
    elif world.state_of(job, event.index).is_waiting:
        world.children[job.id].set_cancelled(event.index)
        Progress(world, now, out).end_unit(job, event.index, Trigger.CANCELLED, event.reason)


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
        for index in world.children[job.id].noted(ACTIVE_STATES):
            _terminate_unit(world, job, index, event.reason, now, out)
        Progress(world, now, out).fail_waiting(job, Trigger.TERMINATED, event.reason)
    else:
        _terminate_unit(world, job, None, event.reason, now, out)


def _terminate_unit(world: World, job: Job, index: int | None, reason: str, now: Instant, out: Out) -> None:
    state, progress = world.state_of(job, index), Progress(world, now, out)
    if state.is_final:
        return
    if index is not None:
        world.children[job.id].set_terminate_reason(index, reason)
        progress.touch_unit(job, index)
    if state.is_waiting:
        progress.end_unit(job, index, Trigger.TERMINATED, reason)
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
    progress = Progress(world, now, out)
    for placement in event.plan.placements:
        progress.move(placement.job, placement.index, Trigger.CLAIMED)
    for line, refusals in event.plan.refusals:
        line.refusals = refusals
        line.refused_at = world.fleet.grown
    out.extend(SendStart(host_id, tuple(attempts)) for host_id, attempts in starts.items())


def reclaim(world: World, attempt: Attempt, now: Instant, out: Out) -> None:
    """Put a stored claim back in force."""
    job, progress = world.jobs[attempt.job_id], Progress(world, now, out)
    world.add_attempt(attempt)
    if attempt.index is not None and world.state_of(job, attempt.index) is JobState.PENDING:
        # Its turn in a bounded array came before the restart.
        progress.release_child(job, attempt.index)
    progress.move(job, attempt.index, Trigger.CLAIMED)
    if attempt.started_at_ms:
        progress.move(job, attempt.index, Trigger.STARTED)


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
    Progress(world, now, out).move(job, attempt.index, Trigger.STARTED)


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
        job.attempts = attempts = (*job.attempts, ended)
        job.stopped_at_ms = ended.stopped_at_ms
    else:
        world.children[job.id].record_end(index, ended)
        attempts = world.children[job.id].attempts(index)
    progress = Progress(world, now, out)
    if end.cause is EndCause.EXITED and end.exit_code == 0:
        progress.end_unit(job, index, Trigger.SUCCEEDED, ended.status_reason)
    elif attempt.terminate_reason:
        progress.end_unit(job, index, Trigger.TERMINATED, attempt.terminate_reason)
    elif retry.evaluate(job.spec.retry, end.cause, attempts).is_retry:
        _retry(world, job, index, now, out)
    else:
        progress.end_unit(job, index, Trigger.FAILED, ended.status_reason)


def _retry(world: World, job: Job, index: int | None, now: Instant, out: Out) -> None:
    """Send a unit back to the front of its line."""
    progress = Progress(world, now, out)
    progress.move(job, index, Trigger.RETRIED)
    progress.touch_unit(job, index)
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
    """Give up attempts whose hosts' fences have surely passed; cancel who blocks a queue; forget old history."""
    for host in world.hosts.values():
        if host.attempts and world.is_silent(host, now, limits.FENCE_MS + limits.FENCE_MARGIN_MS):
            for attempt in list(host.attempts.values()):
                end_attempt(world, attempt, AttemptEnd(cause=EndCause.LOST), now, out)
    for cancelled in blocked.overdue(world, now):
        on_job_cancelled(world, cancelled, now, out)
    for job in forgettable(world.ended, world.children, world.retention, now.wall_ms):
        world.forget_job(job)


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
        Progress(world, now, out).fail_waiting(job, Trigger.QUEUE_DELETED, reasons.QUEUE_DELETED)
        if not job.state.is_final:
            on_job_terminated(world, JobTerminated(job_id=job.id, index=None, reason=reasons.QUEUE_DELETED), now, out)
    del world.queues[name]
    world.lines.drop_queue(name)
    world.touch(name, "queue", name)
