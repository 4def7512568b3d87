"""
Leaving: jobs that have ended go, and what they took is kept in sums.

Law: each job is summed once. The sums and the ids of those summed are one atom, written
before the first of these jobs is deleted, so that a commit that is cut short leaves either
a job that was not summed, or one of which it is known that it was.
"""

from __future__ import annotations

from collections.abc import Sequence

from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.past import Left, sums_of
from batchyard_controller.core.model.usage import UsageSum
from batchyard_controller.core.model.values import Instant

from . import records
from .world import World

SUMS_MAX = 90
"""Sums that change together, at most; an atom of the store has 100 changes."""

_DAY = len("2026-11-26")

KEPT_MAX = 100_000
"""Sums that are kept at all, about 300 bytes each; then those of the oldest day go."""


def forget(world: World, jobs: Sequence[Job], now: Instant) -> None:
    """Forget as many of some jobs that have ended as can be summed together, the first ones; once in a turn."""
    if world.left_boot_ms == now.boot_ms:
        return
    changed: dict[str, None] = {}
    gone: list[Job] = []
    for job in jobs:
        sums = sums_of(job)
        if gone and len(changed.keys() | sums.keys()) > SUMS_MAX:
            break
        for key, each in sums.items():
            world.past.setdefault(key, UsageSum()).merge(each)
        changed.update(dict.fromkeys(sums))
        gone.append(job)
    if not gone:
        return
    _take_out(world, gone)
    left = Left(seq=max(world.left.seq, *(job.seq for job in gone)), ids=tuple(job.id for job in gone))
    records.forget_jobs(world, gone, left, changed)
    world.left_boot_ms = now.boot_ms


def _take_out(world: World, jobs: Sequence[Job]) -> None:
    """Take jobs out of those that have ended; they stand among the first."""
    ids = {job.id for job in jobs}
    others: list[Job] = []
    while ids:
        job = world.ended.popleft()
        if job.id in ids:
            ids.remove(job.id)
        else:
            others.append(job)
    world.ended.extendleft(reversed(others))


def forget_old_sums(world: World, oldest_day: str) -> None:
    """Forget the sums of days before one, and of the oldest day where there are too many."""
    if not world.past:
        return
    oldest = min(world.past)[:_DAY]
    if oldest < oldest_day or len(world.past) > KEPT_MAX:
        names = [name for name in world.past if name.startswith(oldest)]
        for name in names:
            del world.past[name]
        records.mend(world, "usage", names)
