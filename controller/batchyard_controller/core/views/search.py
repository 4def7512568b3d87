"""
Search: what a text may mean, among all that a yard has.

Law: a search looks at as many jobs as two pages of a list, however few of them match.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from batchyard_controller.core.model.hosts import HostRecord
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.world.world import World

from . import listing

PART_LENGTH_MIN = 4
"""Of an id: fewer characters are in too many."""
_TIME_DIGITS = 12
_TIME_DIGITS_MIN = 8
"""So many say the minute in which a job was made."""
_EARLIER_MS = 1_000
_LATER_MS = 5_000
"""How far a job's submission may lie from its id's time: it follows, unless the clock is set back meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """
    What a text may mean, the most of each kind that was asked for.

    Attributes:
        units: Jobs, newest first, or the one job or child of that id.
        is_partial: There are more, or older jobs that were not looked at.
    """

    units: tuple[Unit, ...]
    queues: tuple[str, ...]
    environments: tuple[str, ...]
    definitions: tuple[str, ...]
    hosts: tuple[HostRecord, ...]
    is_partial: bool


def search(world: World, text: str, limit: int) -> Found:
    """Find jobs, queues, environments, definitions and hosts, up to *limit* of each, that a text may mean."""
    wanted = text.strip().casefold()
    units, has_older = _units(world, wanted, limit + 1)
    queues, environments, definitions = (
        heapq.nsmallest(limit + 1, (name for name in names if name.casefold().startswith(wanted)))
        for names in (world.queues, world.environments, world.definitions)
    )
    hosts = heapq.nsmallest(
        limit + 1,
        (host.record for host in world.hosts.values() if _is_host(host.record, wanted)),
        key=lambda record: (record.facts.name, record.id),
    )
    kinds: tuple[list[object], ...] = (units, queues, environments, definitions, hosts)  # type: ignore[assignment]
    return Found(
        units=tuple(units[:limit]),
        queues=tuple(queues[:limit]),
        environments=tuple(environments[:limit]),
        definitions=tuple(definitions[:limit]),
        hosts=tuple(hosts[:limit]),
        is_partial=has_older or any(len(kind) > limit for kind in kinds),
    )


def _units(world: World, wanted: str, limit: int) -> tuple[list[Unit], bool]:
    """Return up to *limit* jobs, and whether there may be older ones."""
    exact = world.find(wanted)
    if exact is not None:
        return [exact], False
    made = (job for job in islice(_made_when(world, wanted), listing.LOOKS_MAX) if job.id.startswith(wanted))
    found = list(islice(made, limit))
    if found:
        return [Unit(job) for job in reversed(found)], False
    newest = islice(world.all_jobs.walk(oldest_first=False), listing.LOOKS_MAX)
    return [Unit(job) for job in islice(_matching(newest, wanted), limit)], len(world.jobs) > listing.LOOKS_MAX


def _matching(jobs: Iterable[Job], wanted: str) -> Iterator[Job]:
    is_part = len(wanted) >= PART_LENGTH_MIN
    for job in jobs:
        if job.name.casefold().startswith(wanted) or (
            is_part and (job.id.startswith(wanted) or job.id.endswith(wanted))
        ):
            yield job


def _made_when(world: World, beginning: str) -> Iterator[Job]:
    """Yield the jobs that were made when the beginning of an id says, oldest first; none where it does not say it well."""
    digits = beginning.replace("-", "")[:_TIME_DIGITS]
    if len(digits) < _TIME_DIGITS_MIN or not all(char in "0123456789abcdef" for char in digits):
        return iter(())
    first_ms, last_ms = (int(digits.ljust(_TIME_DIGITS, fill), 16) for fill in "0f")
    return world.all_jobs.walk(None, max(0, first_ms - _EARLIER_MS), last_ms + _LATER_MS, oldest_first=True)


def _is_host(record: HostRecord, wanted: str) -> bool:
    is_part = len(wanted) >= PART_LENGTH_MIN
    return record.facts.name.casefold().startswith(wanted) or (is_part and record.id.startswith(wanted))
