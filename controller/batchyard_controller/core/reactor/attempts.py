"""What follows when attempts are claimed, reported on, and ended."""

from __future__ import annotations

from batchyard.ids import AttemptId, HostId
from batchyard.states import EndCause, JobState
from batchyard_controller.core import limits
from batchyard_controller.core.commands import SendAck, SendRevoke, SendStart
from batchyard_controller.core.events import (
    Phase,
    Planned,
    Report,
)
from batchyard_controller.core.jobs import ends, retry
from batchyard_controller.core.jobs.lifecycle import Trigger
from batchyard_controller.core.model.attempts import Attempt, AttemptEnd, EndedAttempt
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World, unit_group

from .progress import Out, Progress


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


def restore_claim(world: World, attempt: Attempt, now: Instant, out: Out) -> None:
    """Put a stored claim back in force."""
    job, progress = world.jobs[attempt.job_id], Progress(world, now, out)
    world.add_attempt(attempt)
    if attempt.index is not None and world.state_of(job, attempt.index) is JobState.PENDING:
        # Its turn in a bounded array came before the restart.
        progress.release_child(job, attempt.index)
    progress.move(job, attempt.index, Trigger.CLAIMED)
    if attempt.started_at_ms:
        progress.move(job, attempt.index, Trigger.STARTED)


def on_attempts_reported(world: World, host_id: HostId, reports: tuple[Report, ...], now: Instant, out: Out) -> None:
    """Believe a host about its own attempts; ends are acknowledged after the commit."""
    host = world.hosts.get(host_id)
    if host is not None:
        hear(host, now)
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
        status_reason=ends.status_reason(end, attempt.host_id, attempt.terminate_reason),
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


def hear(host: Host, now: Instant) -> None:
    """Restart a host's timers."""
    host.heard_boot_ms = now.boot_ms
    host.heard_wall_ms = now.wall_ms
