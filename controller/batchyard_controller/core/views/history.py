"""
History: what a unit's tries and the requests to stop it add up to, for those who look.

Nothing here changes anything. A unit is a single job (index None) or a child; of an
array parent it is told what its children came to.

Source: AWS Batch API reference, JobDetail.
"""

from __future__ import annotations

from batchyard.states import JobState
from batchyard_controller.core.jobs import ends
from batchyard_controller.core.model.attempts import Attempt, EndedAttempt
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.world.world import World


def ended_attempts(world: World, job: Job, index: int | None) -> tuple[EndedAttempt, ...]:
    """Return a unit's tries that are over, oldest first; a parent has none."""
    return job.attempts if index is None else world.children[job.id].attempts(index)


def live_attempt(world: World, job: Job, index: int | None) -> Attempt | None:
    """Return a unit's try that goes on, if there is one."""
    return world.live_attempt(job, index) if world.state_of(job, index).is_active else None


def has_succeeded(ended: EndedAttempt) -> bool:
    """Say whether a try did what it was for; one that was stopped did not, though it may exit with 0."""
    return ended.exit_code == 0 and ended.status_reason == ends.CONTAINER_EXITED


def span(world: World, job: Job, index: int | None) -> tuple[int, int]:
    """Return when a unit last came to RUNNING and when it ended; one that never ran has neither."""
    if index is None and job.array_size:
        return job.started_at_ms, job.stopped_at_ms if job.started_at_ms else 0
    live = live_attempt(world, job, index)
    if live is not None:
        return live.started_at_ms, 0
    ended = ended_attempts(world, job, index)
    started = next((e.started_at_ms for e in reversed(ended) if e.started_at_ms), 0)
    is_over = started and world.state_of(job, index).is_final
    return started, ended[-1].stopped_at_ms if is_over else 0


def is_cancelled(world: World, job: Job, index: int | None) -> bool:
    """Say whether a unit was cancelled; a child that had started when its array was, was not."""
    if index is None:
        return job.is_cancelled
    if world.children[job.id].is_cancelled(index):
        return True
    ended = ended_attempts(world, job, index)
    others = {ends.DEPENDENCY_FAILED, job.terminate_reason, *(e.status_reason for e in ended[-1:])}
    return job.is_cancelled and _has_failed(world, job, index) and _reason(world, job, index) not in others


def is_terminated(world: World, job: Job, index: int | None) -> bool:
    """Say whether someone asked to stop a unit; a child that had ended when its array was, was not."""
    if index is None:
        return bool(job.terminate_reason)
    if world.children[job.id].is_terminated(index):
        return True
    is_told = _reason(world, job, index) == job.terminate_reason != ""
    return is_told and _has_failed(world, job, index)


def _has_failed(world: World, job: Job, index: int) -> bool:
    return world.state_of(job, index) is JobState.FAILED


def _reason(world: World, job: Job, index: int) -> str:
    return world.children[job.id].status_reason(index)
