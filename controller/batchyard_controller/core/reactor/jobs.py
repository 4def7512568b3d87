"""What follows when jobs are submitted, tagged, cancelled and terminated."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from batchyard.states import ACTIVE_STATES, EndCause, JobState
from batchyard_controller.core.commands import PublishMove, SendStop
from batchyard_controller.core.events import JobCancelled, JobPriorityChanged, JobSubmitted, JobTagged, JobTerminated
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.endings import Ending, Trigger
from batchyard_controller.core.model.jobs import Job, JobKind
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world import records, waiting
from batchyard_controller.core.world.recalling import recalling
from batchyard_controller.core.world.world import World

from .attempts import end_attempt
from .nodes import is_told
from .progress import Out, Progress


def on_job_submitted(world: World, event: JobSubmitted, now: Instant, out: Out) -> None:
    """Keep a new job and let it wait for its dependencies or for a host."""
    records.add_job(world, event.job)
    progress = Progress(world, now, out)
    if event.has_too_many_tags:
        progress.fail_waiting(event.job, Ending(trigger=Trigger.TOO_MANY_TAGS))
    else:
        with recalling(world, event.recalled):
            progress.settle(event.job)


def on_job_changed(world: World, event: JobTagged | JobPriorityChanged) -> None:
    """Keep a job's changed tags or scheduling priority; who waits takes the place in line that this gives."""
    job = world.jobs[event.job_id]
    if isinstance(event, JobTagged):
        records.keep_spec(world, job, replace(job.spec, tags=event.tags))
    else:
        spec = replace(job.spec, scheduling_priority=event.scheduling_priority)
        waiting.change_place(world, job, lambda: records.keep_spec(world, job, spec))


def on_job_asked(world: World, event: JobCancelled | JobTerminated, now: Instant, out: Out) -> None:
    """End or stop what someone wants no more."""
    match event:
        case JobCancelled():
            on_job_cancelled(world, event, now, out)
        case JobTerminated():
            on_job_terminated(world, event, now, out)
        case _:
            assert_never(event)


def on_job_cancelled(world: World, event: JobCancelled, now: Instant, out: Out) -> None:
    """End what has not started; what has started goes on (AWS: CancelJob)."""
    unit = _asked(world.jobs[event.job_id], event.index)
    ending = Ending(trigger=Trigger.CANCELLED, words=event.reason)
    if unit.is_child:
        if unit.state.is_waiting:
            Progress(world, now, out).end_unit(unit, ending)
        return
    if not unit.state.is_final and not unit.state.is_active:
        records.set_cancelled(world, unit.job)
    Progress(world, now, out).fail_waiting(unit.job, ending)


def _asked(job: Job, index: int | None) -> Unit:
    """Return whom a request is about: a node that waits does so with all others, so that it is about them as well."""
    unit = Unit(job, index)
    return Unit(job) if unit.is_node and unit.state.is_waiting else unit


def on_job_terminated(world: World, event: JobTerminated, now: Instant, out: Out) -> None:
    """End what has not started and stop what has (AWS: TerminateJob)."""
    unit = _asked(world.jobs[event.job_id], event.index)
    if not unit.is_parent:
        _terminate_unit(world, unit, event.reason, now, out)
    elif not unit.state.is_final:
        records.ask_to_stop(world, unit, event.reason)
        for index in unit.job.children.noted(ACTIVE_STATES):
            _terminate_unit(world, Unit(unit.job, index), event.reason, now, out)
        Progress(world, now, out).fail_waiting(unit.job, Ending(trigger=Trigger.TERMINATED, words=event.reason))


def stop_failing(world: World, now: Instant, out: Out) -> None:
    """Stop what is left of arrays of which, by what has just moved, more children have failed than they may have."""
    moved = {each.job_id for each in out if each.__class__ is PublishMove and each.after is JobState.FAILED}
    for job_id in moved:
        job = world.jobs.get(job_id)  # who ended long ago may be forgotten by now
        if (
            job is None
            or job.max_fails is None
            or job.state.is_final
            or job.terminate_reason
            or job.kind is not JobKind.ARRAY
        ):
            continue
        failed = job.children.count(JobState.FAILED)
        if failed > job.max_fails:
            reason = f"{failed} children failed; at most {job.max_fails} may"
            on_job_terminated(world, JobTerminated(job_id=job.id, index=None, reason=reason), now, out)


def _terminate_unit(world: World, unit: Unit, reason: str, now: Instant, out: Out) -> None:
    if unit.state.is_final:
        return
    records.ask_to_stop(world, unit, reason)
    if unit.state.is_waiting:
        Progress(world, now, out).end_unit(unit, Ending(trigger=Trigger.TERMINATED, words=reason))
        return
    attempt = world.live_attempt(unit)
    assert attempt is not None, f"{unit.id} is {unit.state} without an attempt"
    records.stop_attempt(world, unit, attempt, reason)
    if is_told(world, attempt):
        out.append(SendStop(attempt.host_id, attempt.id))
    else:
        end_attempt(world, attempt, AttemptEnd(cause=EndCause.STOPPED), now, out)
