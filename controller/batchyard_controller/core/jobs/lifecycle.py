"""
The life of a job, as one table, and the only door to a new state.

Rules of this file: every move of a job, parent, child or node is listed in one of
the tables; nothing outside this file sets a state; an unlisted move raises
with the job's story. The file knows nothing of hosts, stores or time.
``docs/lifecycle.md`` is drawn from the table.

Source of the states and moves: AWS Batch User Guide, "Job states".
"""

from __future__ import annotations

from collections.abc import Sequence

from batchyard.states import JobState
from batchyard_controller.core.model.children import RestEnd
from batchyard_controller.core.model.chunks import Chunk
from batchyard_controller.core.model.endings import Ending, Trigger
from batchyard_controller.core.model.jobs import Job, JobKind
from batchyard_controller.core.model.units import Unit

BECAUSE: dict[Trigger, str] = {
    Trigger.HELD: "it waits for other jobs, or for its turn in its array",
    Trigger.RELEASED: "it waits for nothing but a host",
    Trigger.DEPENDENCY_FAILED: "what it waits for can no longer come",
    Trigger.CHILD_RUNNABLE: "a child became runnable",
    Trigger.CLAIMED: "it was placed on a host",
    Trigger.STARTED: "its container is up",
    Trigger.SUCCEEDED: "its container exited with 0",
    Trigger.RETRIED: "the attempt failed and another is allowed",
    Trigger.RUN_AGAIN: "it is a node, whose main node failed or was preempted: all nodes run again",
    Trigger.PREEMPTED: "it was stopped to make room for another, and runs again",
    Trigger.FAILED: "the attempt failed and no other is allowed",
    Trigger.CHILDREN_SUCCEEDED: "all its children succeeded",
    Trigger.CHILDREN_ENDED: "all its children ended, some failed",
    Trigger.CANCELLED: "it was cancelled before it started",
    Trigger.TIME_LIMIT_PASSED: "it blocked its queue for longer than the queue allows",
    Trigger.TERMINATED: "it was terminated",
    Trigger.NODES_ENDED: "it is a node, and was stopped as the job was over",
    Trigger.QUEUE_DELETED: "its queue was deleted",
    Trigger.SHARE_DELETED: "its quota share was deleted",
    Trigger.TOO_MANY_TAGS: "it and its definition have too many tags to propagate",
}
"""What moves a job, in words."""

_STOPPED_EARLY = {
    Trigger.CANCELLED: JobState.FAILED,
    Trigger.TERMINATED: JobState.FAILED,
    Trigger.QUEUE_DELETED: JobState.FAILED,
    Trigger.SHARE_DELETED: JobState.FAILED,
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
        Trigger.TIME_LIMIT_PASSED: JobState.FAILED,
        **_STOPPED_EARLY,
    },
    JobState.STARTING: {
        Trigger.STARTED: JobState.RUNNING,
        Trigger.SUCCEEDED: JobState.SUCCEEDED,
        Trigger.RETRIED: JobState.RUNNABLE,
        Trigger.PREEMPTED: JobState.RUNNABLE,
        Trigger.FAILED: JobState.FAILED,
        Trigger.TERMINATED: JobState.FAILED,
    },
    JobState.RUNNING: {
        Trigger.SUCCEEDED: JobState.SUCCEEDED,
        Trigger.RETRIED: JobState.RUNNABLE,
        Trigger.PREEMPTED: JobState.RUNNABLE,
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


def _as_nodes_move(state: JobState, moves: dict[Trigger, JobState]) -> dict[Trigger, JobState]:
    again = (Trigger.RETRIED, Trigger.PREEMPTED)
    found = {trigger: JobState.PENDING if trigger in again else after for trigger, after in moves.items()}
    if state.is_final:
        return {Trigger.RUN_AGAIN: JobState.PENDING}
    return {**found, Trigger.NODES_ENDED: JobState.FAILED}


NODE_TRANSITIONS = {state: _as_nodes_move(state, moves) for state, moves in TRANSITIONS.items()}
"""
Moves of multi-node jobs, which follow their main node, and of nodes.

Whoever is tried again waits until the last node has ended; those that ended before their main node did leave
even a final state.
"""


class InvalidTransitionError(Exception):
    """A bug: somebody asked for a move that the table does not list."""

    def __init__(self, job: Job, what: str, state: JobState, trigger: Trigger) -> None:
        story = f"{what} ({job.name}, {len(job.attempts)} attempts)"
        super().__init__(f"{story} is {state} and cannot move because {BECAUSE[trigger]}")


def allows(job: Job, state: JobState, trigger: Trigger) -> bool:
    """Say whether a unit of a job in *state* may be moved by *trigger*."""
    return trigger in _units_table(job)[state]


def move(unit: Unit, trigger: Trigger, others: Sequence[int] = ()) -> JobState:
    """
    Move a unit, or a parent, to a state that is not final, and *others* of its chunk from where it is; return the one it left.

    Raises:
        InvalidTransitionError: the table does not list the move.
    """
    before = unit.state
    after = _after(unit, before, trigger)
    assert not after.is_final, f"{trigger} ends {unit.id}, and says not why"
    unit.set_state(after, others)
    if before.is_final:
        unit.clear_ending()
    return before


def end(unit: Unit, ending: Ending, at_ms: int, others: Sequence[int] = ()) -> JobState:
    """
    Move a unit, or a parent, to its final state, and *others* of its chunk from where it is; return the one it left.

    Raises:
        InvalidTransitionError: the table does not list the move.
    """
    before = unit.state
    after = _after(unit, before, ending.trigger)
    assert after.is_final, f"{ending.trigger} does not end {unit.id}"
    unit.set_state(after, others)
    unit.set_ending(ending, at_ms, others)
    return before


def move_all_children(job: Job, trigger: Trigger) -> JobState:
    """
    Move every child of an array that has just begun; return the state they left.

    Raises:
        InvalidTransitionError: the table does not list the move.
    """
    before = job.children.base
    job.children.set_base(_rest_after(job, trigger))
    return before


def end_rest(job: Job, rest_end: RestEnd) -> JobState:
    """
    End every child that nothing was ever noted of; return the state they left.

    Raises:
        InvalidTransitionError: the table does not list the move, or it leads to no FAILED.
    """
    before = job.children.base
    if _rest_after(job, rest_end.ending.trigger) is not JobState.FAILED:
        raise InvalidTransitionError(job, f"children of {job.id}", before, rest_end.ending.trigger)
    job.children.set_rest_end(rest_end)
    return before


def _after(unit: Unit, before: JobState, trigger: Trigger) -> JobState:
    after = _table_of(unit).get(before, {}).get(trigger)
    if after is None or (before.is_final and not unit.is_node):
        raise InvalidTransitionError(unit.job, f"job {unit.id}", before, trigger)
    return after


def _table_of(unit: Unit) -> dict[JobState, dict[Trigger, JobState]]:
    is_array = unit.is_parent and unit.job.kind is JobKind.ARRAY
    return ARRAY_TRANSITIONS if is_array else _units_table(unit.job)


def _units_table(job: Job) -> dict[JobState, dict[Trigger, JobState]]:
    return NODE_TRANSITIONS if job.kind is JobKind.NODES else TRANSITIONS


def _rest_after(job: Job, trigger: Trigger) -> JobState:
    before = job.children.base
    after = _units_table(job)[before].get(trigger)
    if after is None:
        raise InvalidTransitionError(job, f"children of {job.id}", before, trigger)
    return after


def restore(job: Job, ending: Ending | None, ended_at_ms: int, rest_end: RestEnd | None) -> None:
    """Give a job that was just read from the store the end it had, and the one its untouched children had."""
    assert job.state is JobState.SUBMITTED, "only a job that has not moved yet is restored"
    if rest_end is not None:
        job.children.set_rest_end(rest_end)
    if ending is not None:
        unit = Unit(job)
        unit.set_state(_end_of(unit, ending))
        unit.set_ending(ending, ended_at_ms)


def restore_chunk(job: Job, number: int, chunk: Chunk) -> None:
    """Give an array, or a multi-node job, that was just read from the store what it kept of some children."""
    job.children.adopt_chunk(number, chunk)


def _end_of(unit: Unit, ending: Ending) -> JobState:
    """Return the final state to which an ending leads, from wherever it may come."""
    ends = {moves[ending.trigger] for moves in _table_of(unit).values() if ending.trigger in moves}
    assert len(ends) == 1, f"{ending.trigger} ends no job"
    return ends.pop()


def as_markdown() -> str:
    """Draw the tables for ``docs/lifecycle.md``."""
    lines = [
        "# Lifecycle of a job",
        "",
        "Drawn from `controller/batchyard_controller/core/jobs/lifecycle.py`; a test keeps it so.",
    ]
    for title, table in (
        ("Single jobs and array children", TRANSITIONS),
        ("Array parents", ARRAY_TRANSITIONS),
        ("Multi-node jobs and their nodes", NODE_TRANSITIONS),
    ):
        lines += ["", f"## {title}", "", "| from | to | because |", "| --- | --- | --- |"]
        for state, moves in table.items():
            lines += [f"| {state} | {after} | {BECAUSE[trigger]} |" for trigger, after in moves.items()]
            if not moves:
                lines.append(f"| {state} | | for ever |")
    return "\n".join(lines) + "\n"
