"""
Search: what a text may mean, among all that a yard has.

Law: a search looks at as many jobs as two pages of a list, however few of them match.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from batchyard_controller.core.access.roles import THE_ADMINISTRATOR, Kind, Principal, Thing, Verb, may
from batchyard_controller.core.access.things import definition_thing, job_thing, queue_thing
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


def search(world: World, text: str, limit: int, reader: Principal = THE_ADMINISTRATOR) -> Found:
    """
    Find jobs, queues, environments, definitions and hosts, up to *limit* of each, that a text may mean.

    What *reader* may not read is not found.
    """
    wanted = text.strip().casefold()
    units, has_older = _units(world, wanted, limit + 1, reader)
    queues, environments, definitions = (
        heapq.nsmallest(limit + 1, (name for name in names if name.casefold().startswith(wanted)))
        for names in (
            [name for name in world.queues if may(reader, Verb.READ, queue_thing(name))],
            world.environments if may(reader, Verb.READ, Thing(Kind.ENVIRONMENT)) else (),
            [
                name
                for name, (first, *_) in world.definitions.items()
                if may(reader, Verb.READ, definition_thing(first))
            ],
        )
    )
    hosts = heapq.nsmallest(
        limit + 1,
        (host.record for host in world.hosts.values() if _is_host(host.record, wanted))
        if may(reader, Verb.READ, Thing(Kind.HOST))
        else (),
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


def _units(world: World, wanted: str, limit: int, reader: Principal) -> tuple[list[Unit], bool]:
    """Return up to *limit* jobs, and whether there may be older ones."""

    def sees(job: Job) -> bool:
        return may(reader, Verb.READ, job_thing(job.spec))

    exact = world.find(wanted)
    if exact is not None and sees(exact.job):
        return [exact], False
    made = (job for job in islice(_made_when(world, wanted), listing.LOOKS_MAX) if job.id.startswith(wanted))
    found = list(islice(filter(sees, made), limit))
    if found:
        return [Unit(job) for job in reversed(found)], False
    jobs = listing.readable(world, reader)
    newest = islice(jobs, listing.LOOKS_MAX)
    units = [Unit(job) for job in islice(filter(sees, _matching(newest, wanted)), limit)]
    return units, len(units) < limit and next(jobs, None) is not None


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
