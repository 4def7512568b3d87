"""
Snapshot: which jobs and children a watcher must be shown who may have missed changes.

Law: no end is missed. Who has seen all up to a moment is shown whatever may have
ended since, by the clocks of the controllers that wrote the ends down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from batchyard.ids import JobId, split_job_id, unit_id, unit_order
from batchyard_controller.core.access.roles import THE_ADMINISTRATOR, Principal, Verb, may
from batchyard_controller.core.access.things import job_thing
from batchyard_controller.core.commands import PublishMove
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.world.world import World

CLOCK_SLACK_MS = 60_000
"""How far the clocks of two controllers may differ, or one be set back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """
    What is watched: ids of single jobs, of arrays with their children, or of children; of one queue; empty is all.

    What *reader* may not read is not watched.
    """

    ids: frozenset[JobId] = frozenset()
    queue: str = ""
    reader: Principal = field(default=THE_ADMINISTRATOR)

    def has_unit(self, job_id: JobId, index: int | None) -> bool:
        """Say whether a job or child is watched, as far as ids say."""
        return not self.ids or job_id in self.ids or any(each in self.ids for each in _spelt(job_id, index))

    def changed_ids(self, move: PublishMove) -> Iterator[JobId]:
        """Yield who of the watched is to be looked at again after a move: a job, and children that are watched by id."""
        if not self.ids or move.job_id in self.ids:
            yield move.job_id
        if move.is_run:
            run = range(move.index or 0, move.stop)
            yield from (
                each for each in self.ids if split_job_id(each)[0] == move.job_id and split_job_id(each)[1] in run
            )
        else:
            yield from (each for each in _spelt(move.job_id, move.index) if each in self.ids)

    @property
    def is_of_all(self) -> bool:
        """Whether jobs are watched whatever they are, if their ids are."""
        return not self.queue and self.reader.is_administrator

    def has_job(self, job: Job) -> bool:
        """Say whether a job is watched, as far as its queue and its owner say."""
        return self.queue in ("", job.spec.queue) and may(self.reader, Verb.READ, job_thing(job.spec))


def _spelt(job_id: JobId, index: int | None) -> tuple[JobId, ...]:
    """Return the ids of what a move is of: a job, or else a child or a node, as may be."""
    return tuple(dict.fromkeys(unit_id(job_id, index, is_node=is_node) for is_node in (False, True)))


def take_snapshot(world: World, watched: Watched, seen_ms: int | None) -> list[Unit]:
    """
    Return whose present state is to be shown, each once.

    All that is kept and has not ended, or what is watched by id; and, for a watcher
    who saw the changes up to the moment *seen_ms*, what has ended since.
    """
    since_ms = None if seen_ms is None else seen_ms - CLOCK_SLACK_MS
    if watched.ids:
        found = [world.find(each) for each in sorted(watched.ids, key=unit_order)]
        units = [unit for unit in found if unit is not None]
    else:
        units = [Unit(job) for job in world.all_jobs if not job.state.is_final]
        units += [Unit(job) for job in _ended_since(world, since_ms)]
    shown: dict[JobId, Unit] = {}
    for unit in units:
        if not watched.has_job(unit.job):
            continue
        if unit.is_parent and since_ms is not None:
            for index in unit.job.children.ended_since(since_ms):
                child = Unit(unit.job, index)
                shown[child.id] = child
        shown[unit.id] = unit
    return list(shown.values())


def _ended_since(world: World, since_ms: int | None) -> Iterator[Job]:
    if since_ms is not None:
        for job in reversed(world.ended):
            if job.ended_at_ms < since_ms:
                return
            yield job
