"""
Dependencies: does a job, or a child of an array, still wait for others?

A whole job waits for whole jobs: until each has SUCCEEDED, or, natively, until
each has ended in any way or FAILED. A child may further wait for the child
before it (SEQUENTIAL) and for its counterparts in other arrays (N_TO_N); both
must SUCCEED. Whoever waits for what can no longer come fails (AWS Batch User
Guide, "Job dependencies", "Array jobs"; the kinds AFTER_ANY and AFTER_FAILURE
are ours).

A job that is no longer kept ended long ago; since it was accepted as a
dependency and nobody failed for it, it counts as ended in the way waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from batchyard.ids import JobId
from batchyard.states import JobState
from batchyard_controller.core.model.children import Children
from batchyard_controller.core.model.jobs import Dependency, DependencyType, Job

from . import ends

CHILD_TYPES = frozenset({DependencyType.SEQUENTIAL, DependencyType.N_TO_N})
"""Kinds by which each child waits for one other."""


class Standing(Enum):
    """What one dependency says."""

    MET = auto()
    UNMET = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class WholeStanding:
    """What a job's dependencies on whole jobs say: ids it waits for, and why it can never run, if so."""

    unmet: tuple[JobId, ...]
    failure: str


def whole_standing(depends_on: tuple[Dependency, ...], jobs: Mapping[JobId, Job]) -> WholeStanding:
    """Look at each dependency on a whole job once."""
    unmet: dict[JobId, None] = {}
    failure = ""
    for dependency in depends_on:
        job = jobs.get(JobId(dependency.job_id))
        if job is None or dependency.type in CHILD_TYPES:
            continue
        match _standing(dependency.type, job.state):
            case Standing.UNMET:
                unmet[job.id] = None
            case Standing.FAILED:
                failure = failure or ends.dependency_failed(dependency.type, job.id)
            case Standing.MET:
                pass
    return WholeStanding(tuple(unmet), failure)


def failure_by(dependent: Job, ended: Job) -> str:
    """Say why *dependent* can never run now that *ended* has ended; nothing if that is no reason."""
    mine = (d for d in dependent.depends_on if d.job_id == ended.id)
    return whole_standing(tuple(mine), {ended.id: ended}).failure


def _standing(kind: DependencyType, state: JobState) -> Standing:
    if not state.is_final:
        return Standing.UNMET
    wanted = JobState.FAILED if kind is DependencyType.AFTER_FAILURE else JobState.SUCCEEDED
    return Standing.MET if kind is DependencyType.AFTER_ANY or state is wanted else Standing.FAILED


def is_sequential(job: Job) -> bool:
    """Say whether each child waits for the one before it."""
    return any(dependency.type is DependencyType.SEQUENTIAL for dependency in job.depends_on)


def counterparts(job: Job) -> list[JobId]:
    """Return the arrays whose children of the same index are waited for."""
    return [JobId(d.job_id) for d in job.depends_on if d.type is DependencyType.N_TO_N]


def waits_by_child(job: Job) -> bool:
    """Say whether children wait for single others."""
    return any(dependency.type in CHILD_TYPES for dependency in job.depends_on)


def child_standing(job: Job, index: int, children: Mapping[JobId, Children]) -> Standing:
    """Look at the single children that child *index* waits for."""
    states = [children[other].state(index) for other in counterparts(job) if other in children]
    if index > 0 and is_sequential(job):
        states.append(children[job.id].state(index - 1))
    if JobState.FAILED in states:
        return Standing.FAILED
    return Standing.MET if all(state is JobState.SUCCEEDED for state in states) else Standing.UNMET
