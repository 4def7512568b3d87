"""
Usage: what attempts that have ended took and used, summed by whom, where, of which or when.

Law: one look counts a bounded number of attempts and jobs, however many are kept; sums of
several looks add up to those of all, so that whoever asks goes on where the last one ended.

What is counted of an attempt: `UsageSum`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice

from batchyard_controller.core import limits
from batchyard_controller.core.model.attempts import EndedAttempt
from batchyard_controller.core.model.identities import ADMINISTRATOR
from batchyard_controller.core.model.jobs import Job, JobKind
from batchyard_controller.core.model.past import SumKey, day_of
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.usage import UsageSum
from batchyard_controller.core.world.world import World

from .listing import JobFilter, Place, walk_jobs

LOOKS_MAX = 2_000
"""Jobs and attempts that one look counts: some hundredths of a second."""


_PAST = 0
"""In the place of a number of the order of submission, which begins with 1: what is summed of jobs that are not kept."""

_NO_DAY = "9999-99-99"


class UsageKey(StrEnum):
    """By what usage is summed."""

    USER = "USER"
    QUEUE = "QUEUE"
    DEFINITION = "DEFINITION"
    DAY = "DAY"
    JOB = "JOB"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """
    Which attempts are summed, and how.

    Attributes:
        keys: One sum for each combination of these; none: one of all.
        jobs: Of these jobs; when they were created is not asked.
        ended_after_ms, ended_before_ms: Attempts that ended then; 0: no bound.
    """

    keys: tuple[UsageKey, ...] = ()
    jobs: JobFilter = field(default_factory=JobFilter)
    ended_after_ms: int = 0
    ended_before_ms: int = 0

    def has(self, ended: EndedAttempt) -> bool:
        """Say whether an attempt is summed."""
        if ended.stopped_at_ms < self.ended_after_ms:
            return False
        return not self.ended_before_ms or ended.stopped_at_ms < self.ended_before_ms


@dataclass(frozen=True, slots=True)
class UsageLook:
    """Sums of some attempts by their keys' values, and the place beyond which the next look begins; None: no more."""

    sums: dict[tuple[str, ...], UsageSum]
    next_beyond: Place | None


def sum_usage(world: World, query: UsageQuery, beyond: Place | None) -> UsageLook:
    """
    Sum what attempts used beyond a place; None: from the first on.

    First those of jobs that are kept, in the order of their submission, then what is known of those that are not.
    """
    if beyond is not None and beyond[0] == _PAST:
        return _sum_past(world, query, beyond[1])
    sums: dict[tuple[str, ...], UsageSum] = {}
    last = beyond
    for looks, (place, unit) in enumerate(_steps(world, query, beyond)):
        if looks >= LOOKS_MAX:
            return UsageLook(sums, last)
        last = place
        if unit is None:
            continue
        held = unit.task.resources
        for ended in unit.attempts:
            if query.has(ended):
                key = tuple(_KEYS[each](unit.job, ended) for each in query.keys)
                found = sums.get(key)
                if found is None:
                    found = sums[key] = UsageSum()
                found.add(ended, held)
    return UsageLook(sums, (_PAST, 0) if world.past else None)


def _sum_past(world: World, query: UsageQuery, first: int) -> UsageLook:
    """Sum what is known of jobs that are not kept, whole days of it; names of jobs, and which it was, are not."""
    sums: dict[tuple[str, ...], UsageSum] = {}
    if query.jobs.name:
        return UsageLook(sums, None)
    first_day = day_of(query.ended_after_ms)
    last_day = day_of(query.ended_before_ms - 1) if query.ended_before_ms else _NO_DAY
    for name, each in islice(world.past.items(), first, first + LOOKS_MAX):
        of = SumKey.read(name)
        if first_day <= of.day <= last_day and query.jobs.wants_sum(of.queue, of.definition, of.owner):
            values = {
                UsageKey.USER: of.owner or ADMINISTRATOR,
                UsageKey.QUEUE: of.queue,
                UsageKey.DEFINITION: of.definition,
                UsageKey.DAY: of.day,
                UsageKey.JOB: "",
            }
            sums.setdefault(tuple(values[key] for key in query.keys), UsageSum()).merge(each)
    there_is_more = first + LOOKS_MAX < len(world.past)
    return UsageLook(sums, (_PAST, first + LOOKS_MAX) if there_is_more else None)


def _steps(world: World, query: UsageQuery, beyond: Place | None) -> Iterator[tuple[Place, Unit | None]]:
    """Yield units of which a try has ended, each with its place; None of jobs that are not asked for, or have none."""
    # What was submitted later cannot have ended before, but for what clocks of hosts say.
    before_ms = query.ended_before_ms and query.ended_before_ms + limits.CLOCK_AHEAD_MS_MAX
    wanted = replace(query.jobs, created_before_ms=before_ms, oldest_first=True)
    matches = wanted.predicate()
    seq, index = beyond or (0, -1)
    for job in walk_jobs(world, wanted, seq - 1):
        first = index + 1 if job.seq == seq else 0
        if not matches(job, job.state):
            yield (job.seq, 0), None
        elif job.kind is JobKind.SINGLE:
            if not first:
                yield (job.seq, 0), Unit(job)
        else:
            yield from (((job.seq, i), Unit(job, i)) for i in job.children.tried(first))


def _day_of(job: Job, ended: EndedAttempt) -> str:
    return day_of(ended.stopped_at_ms)


_KEYS: dict[UsageKey, Callable[[Job, EndedAttempt], str]] = {
    UsageKey.USER: lambda job, _: job.spec.owner or ADMINISTRATOR,
    UsageKey.QUEUE: lambda job, _: job.spec.queue,
    UsageKey.DEFINITION: lambda job, _: job.spec.definition,
    UsageKey.DAY: _day_of,
    UsageKey.JOB: lambda job, _: job.id,
}
