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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from batchyard.ids import JobId
from batchyard.states import JobState
from batchyard_controller.core.model.dependencies import Dependency, DependencyType
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.units import Unit

CHILD_TYPES = frozenset({DependencyType.SEQUENTIAL, DependencyType.N_TO_N})
"""Kinds by which each child waits for one other."""


@dataclass(frozen=True, slots=True)
class Standing:
    """
    What the dependencies of a job or child say.

    Attributes:
        unmet: Who is still waited for.
        failure: The first that can no longer be met, if any.
    """

    unmet: tuple[Unit, ...]
    failure: Dependency | None

    @property
    def is_met(self) -> bool:
        """Whether nothing is waited for any more."""
        return not self.unmet and self.failure is None


_NOTHING = Standing((), None)
"""Of those who wait for nobody, as most."""


def whole_standing(depends_on: Sequence[Dependency], jobs: Mapping[JobId, Job]) -> Standing:
    """Look at each dependency on a whole job once."""
    if not depends_on:
        return _NOTHING
    whole = (d for d in depends_on if d.type not in CHILD_TYPES)
    return _standing((d, Unit(jobs[JobId(d.job_id)])) for d in whole if d.job_id in jobs)


def failure_by(dependent: Job, ended: Job) -> Dependency | None:
    """Return what of *dependent* can never be met now that *ended* has ended, if anything."""
    return whole_standing([d for d in dependent.depends_on if d.job_id == ended.id], {ended.id: ended}).failure


def child_standing(job: Job, index: int, jobs: Mapping[JobId, Job]) -> Standing:
    """Look at the single children that child *index* waits for."""
    return _standing(_singles(job, index, jobs))


def _singles(job: Job, index: int, jobs: Mapping[JobId, Job]) -> Iterator[tuple[Dependency, Unit]]:
    for dependency in job.depends_on:
        if dependency.type is DependencyType.N_TO_N and dependency.job_id in jobs:
            yield dependency, Unit(jobs[JobId(dependency.job_id)], index)
        elif dependency.type is DependencyType.SEQUENTIAL and index > 0:
            yield dependency, Unit(job, index - 1)


def _standing(others: Iterable[tuple[Dependency, Unit]]) -> Standing:
    unmet: dict[JobId, Unit] = {}
    failure: Dependency | None = None
    for dependency, other in others:
        state = other.state
        if not state.is_final:
            unmet[other.id] = other
        elif failure is None and not _is_met_by(dependency.type, state):
            failure = dependency
    return Standing(tuple(unmet.values()), failure)


def _is_met_by(kind: DependencyType, end: JobState) -> bool:
    wanted = JobState.FAILED if kind is DependencyType.AFTER_FAILURE else JobState.SUCCEEDED
    return kind is DependencyType.AFTER_ANY or end is wanted


def is_sequential(job: Job) -> bool:
    """Say whether each child waits for the one before it."""
    return any(dependency.type is DependencyType.SEQUENTIAL for dependency in job.depends_on)


def counterparts(job: Job, jobs: Mapping[JobId, Job]) -> list[Job]:
    """Return the arrays that are kept and whose children of the same index are waited for."""
    found = (jobs.get(JobId(d.job_id)) for d in job.depends_on if d.type is DependencyType.N_TO_N)
    return [other for other in found if other is not None]


def waits_by_child(job: Job) -> bool:
    """Say whether children wait for single others."""
    return any(dependency.type in CHILD_TYPES for dependency in job.depends_on)
