"""What follows when jobs are submitted, tagged, cancelled and terminated."""

from __future__ import annotations

from dataclasses import replace

from batchyard.states import ACTIVE_STATES, FINAL_STATES, JobState
from batchyard_controller.core.commands import SendStop
from batchyard_controller.core.events import (
    JobCancelled,
    JobSubmitted,
    JobTagged,
    JobTerminated,
)
from batchyard_controller.core.jobs import ends
from batchyard_controller.core.jobs.lifecycle import Trigger
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World, unit_group

from .progress import Out, Progress


def on_job_submitted(world: World, event: JobSubmitted, now: Instant, out: Out) -> None:
    """Keep a new job and let it wait for its dependencies or for a host."""
    job = event.job
    job.seq = world.last_seq + 1
    world.index_job(job)
    world.count(job.spec.queue, None, JobState.SUBMITTED, job.array_size or 1)
    world.touch(job.id, "job", job.id)
    progress = Progress(world, now, out)
    if event.has_too_many_tags:
        progress.fail_waiting(job, Trigger.TOO_MANY_TAGS, ends.TOO_MANY_TAGS)
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
