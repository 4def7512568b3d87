"""
Snapshot: which jobs and children a watcher must be shown who may have missed changes.

Law: no end is missed. Who has seen all up to a moment is shown whatever may have
ended since, by the clocks of the controllers that wrote the ends down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from batchyard.ids import JobId
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.placement.lines import Unit
from batchyard_controller.core.world.world import World

CLOCK_SLACK_MS = 60_000
"""How far the clocks of two controllers may differ, or one be set back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is watched: single jobs, arrays with their children, or children; of one queue; empty is all."""

    units: frozenset[tuple[JobId, int | None]] = frozenset()
    queue: str = ""

    def has_unit(self, job_id: JobId, index: int | None) -> bool:
        """Say whether a job or child is watched, as far as ids say."""
        return not self.units or (job_id, None) in self.units or (job_id, index) in self.units

    def has_queue(self, job: Job) -> bool:
        """Say whether a job's queue is watched."""
        return self.queue in ("", job.spec.queue)


def take_snapshot(world: World, watched: Watched, seen_ms: int | None) -> list[Unit]:
    """
    Return whose present state is to be shown, each once.

    All that is kept and has not ended, or what is watched by id; and, for a watcher
    who saw the changes up to the moment *seen_ms*, what has ended since.
    """
    since_ms = None if seen_ms is None else seen_ms - CLOCK_SLACK_MS
    if watched.units:
        found = [(world.find_unit(job_id, index), index) for job_id, index in sorted(watched.units, key=_order)]
        units: list[Unit] = [(job, index) for job, index in found if job is not None]
    else:
        units = [(job, None) for job in world.all_jobs if not job.state.is_final]
        units += [(job, None) for job in _ended_since(world, since_ms)]
    shown: dict[tuple[JobId, int | None], Unit] = {}
    for job, index in units:
        if not watched.has_queue(job):
            continue
        if index is None and job.array_size and since_ms is not None:
            for child in world.children[job.id].ended_since(since_ms):
                shown[job.id, child] = job, child
        shown[job.id, index] = job, index
    return list(shown.values())


def _order(unit: tuple[JobId, int | None]) -> tuple[JobId, int]:
    job_id, index = unit
    return job_id, -1 if index is None else index


def _ended_since(world: World, since_ms: int | None) -> Iterator[Job]:
    if since_ms is not None:
        for job in reversed(world.ended):
            if job.ended_at_ms < since_ms:
                return
            yield job
