"""
The life of a job, as one table, and the only door to a new state.

Rules of this file: every move of a job, array parent or child is listed in
`TRANSITIONS`; nothing outside this file sets a state; an unlisted move raises
with the job's story. The file knows nothing of hosts, stores or time.
``docs/lifecycle.md`` is drawn from the table.

Source of the states and moves: AWS Batch User Guide, "Job states".
"""

from __future__ import annotations

from enum import StrEnum

from batchyard.states import JobState
from batchyard_controller.core.model.children import Children, RestEnd
from batchyard_controller.core.model.jobs import Job


class Trigger(StrEnum):
    """What moves a job."""

    HELD = "it waits for other jobs, or for its turn in its array"
    RELEASED = "it waits for nothing but a host"
    DEPENDENCY_FAILED = "what it waits for can no longer come"
    CHILD_RUNNABLE = "a child became runnable"
    CLAIMED = "it was placed on a host"
    STARTED = "its container is up"
    SUCCEEDED = "its container exited with 0"
    RETRIED = "the attempt failed and another is allowed"
    FAILED = "the attempt failed and no other is allowed"
    CHILDREN_SUCCEEDED = "all its children succeeded"
    CHILDREN_ENDED = "all its children ended, some failed"
    CANCELLED = "it was cancelled before it started"
    TERMINATED = "it was terminated"
    QUEUE_DELETED = "its queue was deleted"
    TOO_MANY_TAGS = "it and its definition have too many tags to propagate"


_STOPPED_EARLY = {
    Trigger.CANCELLED: JobState.FAILED,
    Trigger.TERMINATED: JobState.FAILED,
    Trigger.QUEUE_DELETED: JobState.FAILED,
}

TRANSITIONS: dict[JobState, dict[Trigger, JobState]] = {
    JobState.SUBMITTED: {
        Trigger.HELD: JobState.PENDING,
        Trigger.RELEASED: JobState.RUNNABLE,
        Trigger.TOO_MANY_TAGS: JobState.FAILED,
        **_STOPPED_EARLY,
    },
    JobState.PENDING: {
        Trigger.RELEASED: JobState.RUNNABLE,
        Trigger.DEPENDENCY_FAILED: JobState.FAILED,
        **_STOPPED_EARLY,
    },
    JobState.RUNNABLE: {
        Trigger.CLAIMED: JobState.STARTING,
        **_STOPPED_EARLY,
    },
    JobState.STARTING: {
        Trigger.STARTED: JobState.RUNNING,
        Trigger.SUCCEEDED: JobState.SUCCEEDED,
        Trigger.RETRIED: JobState.RUNNABLE,
        Trigger.FAILED: JobState.FAILED,
        Trigger.TERMINATED: JobState.FAILED,
    },
    JobState.RUNNING: {
        Trigger.SUCCEEDED: JobState.SUCCEEDED,
        Trigger.RETRIED: JobState.RUNNABLE,
        Trigger.FAILED: JobState.FAILED,
        Trigger.TERMINATED: JobState.FAILED,
    },
    JobState.SUCCEEDED: {},
    JobState.FAILED: {},
}
"""Moves of single jobs and of array children."""

ARRAY_TRANSITIONS: dict[JobState, dict[Trigger, JobState]] = {
    JobState.SUBMITTED: {
        Trigger.HELD: JobState.PENDING,
        Trigger.CHILD_RUNNABLE: JobState.PENDING,
        Trigger.CHILDREN_ENDED: JobState.FAILED,
    },
    JobState.PENDING: {
        Trigger.CHILDREN_SUCCEEDED: JobState.SUCCEEDED,
        Trigger.CHILDREN_ENDED: JobState.FAILED,
    },
    JobState.SUCCEEDED: {},
    JobState.FAILED: {},
}
"""Moves of array parents, which run nothing themselves."""


class InvalidTransitionError(Exception):
    """A bug: somebody asked for a move that the table does not list."""

    def __init__(self, story: str, state: JobState, trigger: Trigger) -> None:
        super().__init__(f"{story} is {state} and cannot move because {trigger.value}")


def allows(state: JobState, trigger: Trigger) -> bool:
    """Say whether a single job or child in *state* may be moved by *trigger*."""
    return trigger in TRANSITIONS[state]


def move_job(job: Job, trigger: Trigger, reason: str = "") -> JobState:
    """
    Move a single job or an array parent; return the state it left.

    Raises:
        InvalidTransitionError: the table does not list the move.
    """
    table = ARRAY_TRANSITIONS if job.array_size else TRANSITIONS
    before = job.state
    after = table.get(before, {}).get(trigger)
    if after is None:
        raise InvalidTransitionError(f"job {job.id} ({job.name}, {len(job.attempts)} attempts)", before, trigger)
    job.state = after
    job.status_reason = reason
    return before


def move_child(job: Job, children: Children, index: int, trigger: Trigger, reason: str = "") -> JobState:
    """
    Move one child of an array; return the state it left.

    Raises:
        InvalidTransitionError: the table does not list the move.
    """
    before = children.state(index)
    after = TRANSITIONS[before].get(trigger)
    if after is None:
        raise InvalidTransitionError(f"child {index} of {job.id} ({job.name})", before, trigger)
    children.set_state(index, after)
    children.set_status_reason(index, reason)
    return before


def move_all_children(job: Job, children: Children, trigger: Trigger) -> JobState:
    """
    Move every child of an array that has just begun; return the state they left.

    Raises:
        InvalidTransitionError: the table does not list the move.
    """
    before = children.base
    children.set_base(_after(job, before, trigger))
    return before


def end_rest(job: Job, children: Children, trigger: Trigger, end: RestEnd) -> JobState:
    """
    End every child that nothing was ever noted of; return the state they left.

    Raises:
        InvalidTransitionError: the table does not list the move, or it leads to no FAILED.
    """
    before = children.base
    if _after(job, before, trigger) is not JobState.FAILED:
        raise InvalidTransitionError(f"children of {job.id} ({job.name})", before, trigger)
    children.set_rest_end(end)
    return before


def _after(job: Job, before: JobState, trigger: Trigger) -> JobState:
    after = TRANSITIONS[before].get(trigger)
    if after is None:
        raise InvalidTransitionError(f"children of {job.id} ({job.name})", before, trigger)
    return after


def restore_job(job: Job, state: JobState) -> None:
    """Give a job that was just read from the store the final state it had."""
    assert job.state is JobState.SUBMITTED, "only a job that has not moved yet is restored"
    assert state.is_final, "states that are not final are worked out again"
    job.state = state


def as_markdown() -> str:
    """Draw the tables for ``docs/lifecycle.md``."""
    lines = [
        "# Lifecycle of a job",
        "",
        "Drawn from `controller/batchyard_controller/core/lifecycle.py`; a test keeps it so.",
    ]
    for title, table in (("Single jobs and array children", TRANSITIONS), ("Array parents", ARRAY_TRANSITIONS)):
        lines += ["", f"## {title}", "", "| from | to | because |", "| --- | --- | --- |"]
        for state, moves in table.items():
            lines += [f"| {state} | {after} | {trigger.value} |" for trigger, after in moves.items()]
            if not moves:
                lines.append(f"| {state} | | for ever |")
    return "\n".join(lines) + "\n"
