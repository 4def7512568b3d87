"""Dependents: who waits for the end of a job or child, as far as it is quickly known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

from batchyard.states import JobState
from batchyard_controller.core.jobs.dependencies import is_sequential
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.world.world import World

TOLD_MAX = 20
"""Dependents that are named."""

LOOKED_AT_MAX = 1_000
"""Dependents that are looked at: some may have ended before what they waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependents:
    """
    Who waits.

    Attributes:
        ids: The first of them, in the order of submission.
        count: How many there are, or so many at least.
        is_exact: Whether these are all of them.
    """

    ids: tuple[str, ...]
    count: int
    is_exact: bool


def dependents_of(world: World, unit: Unit) -> Dependents:
    """Return who waits for a job, an array or a child; nobody waits for what has ended."""
    if unit.state.is_final:
        return Dependents(ids=(), count=0, is_exact=True)
    candidates = _of_child(world, unit) if unit.is_child else _of_whole(world, unit.job)
    looked_at = list(islice(candidates, LOOKED_AT_MAX))
    waiting = [each.id for each in looked_at if each.state is JobState.PENDING]
    is_exact = next(candidates, None) is None
    return Dependents(ids=tuple(waiting[:TOLD_MAX]), count=len(waiting), is_exact=is_exact)


def _of_whole(world: World, job: Job) -> Iterator[Unit]:
    """Yield the jobs that wait for a whole one, and the arrays whose children wait for its children."""
    ids = chain(world.dependents.get(job.id, ()), world.followers.get(job.id, ()))
    found = (world.jobs.get(job_id) for job_id in dict.fromkeys(ids))
    return (Unit(other) for other in found if other is not None)


def _of_child(world: World, unit: Unit) -> Iterator[Unit]:
    """Yield the next child where each waits for the one before, and those of the same index of other arrays."""
    job, index = unit.job, unit.child
    if is_sequential(job) and index + 1 < job.size:
        yield Unit(job, index + 1)
    for job_id in dict.fromkeys(world.followers.get(job.id, ())):
        follower = world.jobs.get(job_id)
        if follower is not None:
            yield Unit(follower, index)
