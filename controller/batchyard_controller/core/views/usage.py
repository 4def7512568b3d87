"""
Usage: what attempts that have ended took and used, summed by whom, where, of which or when.

Law: one look counts a bounded number of attempts and jobs, however many are kept; sums of
several looks add up to those of all, so that whoever asks goes on where the last one ended.

An attempt is charged what it held, from its start to its end: its resources times that
time. What it used is its host's word (`Usage`), 0 where that is not known; memory that was
asked is summed over those attempts alone of which it is known, so that the two compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from batchyard.resources import Resources
from batchyard_controller.core import limits
from batchyard_controller.core.model.attempts import EndedAttempt
from batchyard_controller.core.model.jobs import Job, JobKind
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.world.world import World

from .listing import JobFilter, Place

LOOKS_MAX = 2_000
"""Jobs and attempts that one look counts: some hundredths of a second."""


class UsageKey(StrEnum):
    """By what usage is summed."""

    USER = "USER"
    QUEUE = "QUEUE"
    DEFINITION = "DEFINITION"
    DAY = "DAY"
    JOB = "JOB"


@dataclass(slots=True, kw_only=True)
class Sum:
    """
    What some attempts took and used; times in milliseconds.

    Attributes:
        attempts: How many there were.
        failed: Of those that ended with another code than 0, or with none.
        wall_ms: From start to end.
        cpu_asked_ms: vCPUs times wall time.
        cpu_used_ms: Processor time, in user mode and in the kernel.
        gpu_asked_ms: GPUs times wall time.
        memory_asked_mib_s: Memory times wall time, in MiB times seconds, where use is known.
        memory_used_mib_s: The most memory at once times wall time.
        peak_memory_kib: The most that one of them held at once.
        peak_asked_mib: What that one had asked for.
    """

    attempts: int = 0
    failed: int = 0
    wall_ms: int = 0
    cpu_asked_ms: int = 0
    cpu_used_ms: int = 0
    gpu_asked_ms: int = 0
    memory_asked_mib_s: int = 0
    memory_used_mib_s: int = 0
    peak_memory_kib: int = 0
    peak_asked_mib: int = 0

    def add(self, ended: EndedAttempt, held: Resources) -> None:
        """Count an attempt."""
        wall_ms = wall_ms_of(ended)
        used = ended.usage
        self.attempts += 1
        self.failed += ended.exit_code != 0
        self.wall_ms += wall_ms
        self.cpu_asked_ms += held.cpu_millis * wall_ms // 1000
        self.cpu_used_ms += used.user_cpu_ms + used.system_cpu_ms
        self.gpu_asked_ms += held.gpu_millis * wall_ms // 1000
        if used.peak_memory_kib:
            self.memory_asked_mib_s += held.memory_mib * wall_ms // 1000
            self.memory_used_mib_s += used.peak_memory_kib * wall_ms // (1024 * 1000)
        if used.peak_memory_kib > self.peak_memory_kib:
            self.peak_memory_kib, self.peak_asked_mib = used.peak_memory_kib, held.memory_mib


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """
    Which attempts are summed, and how.

    Attributes:
        keys: One sum for each combination of these; none: one of all.
        jobs: Of these jobs.
        users: Of jobs of these users alone; empty: of all.
        ended_after_ms, ended_before_ms: Attempts that ended then; 0: no bound.
    """

    keys: tuple[UsageKey, ...] = ()
    jobs: JobFilter = field(default_factory=JobFilter)
    users: frozenset[str] = frozenset()
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

    sums: dict[tuple[str, ...], Sum]
    next_beyond: Place | None


def wall_ms_of(ended: EndedAttempt) -> int:
    """Return how long an attempt ran; one that never did took nothing."""
    return max(0, ended.stopped_at_ms - ended.started_at_ms) if ended.started_at_ms else 0


def sum_usage(world: World, query: UsageQuery, beyond: Place | None) -> UsageLook:
    """Sum what attempts of jobs used that stand in the order of submission beyond a place; None: from the first on."""
    sums: dict[tuple[str, ...], Sum] = {}
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
                    found = sums[key] = Sum()
                found.add(ended, held)
    return UsageLook(sums, None)


def _steps(world: World, query: UsageQuery, beyond: Place | None) -> Iterator[tuple[Place, Unit | None]]:
    """Yield units of which a try has ended, each with its place; None of jobs that are not asked for, or have none."""
    matches = query.jobs.predicate()
    seq, index = beyond or (-1, -1)
    # What was submitted later cannot have ended before, but for what clocks of hosts say.
    before_ms = query.ended_before_ms and query.ended_before_ms + limits.CLOCK_AHEAD_MS_MAX
    for job in world.all_jobs.walk(seq - 1, created_before_ms=before_ms, oldest_first=True):
        first = index + 1 if job.seq == seq else 0
        if not matches(job, job.state) or (query.users and user_of(job) not in query.users):
            yield (job.seq, 0), None
        elif job.kind is JobKind.SINGLE:
            if not first:
                yield (job.seq, 0), Unit(job)
        else:
            yield from (((job.seq, i), Unit(job, i)) for i in job.children.tried(first))


def user_of(job: Job) -> str:
    """Return whose job it is; empty where nobody said."""
    return job.spec.submitted_by


def _day_of(job: Job, ended: EndedAttempt) -> str:
    return datetime.fromtimestamp(ended.stopped_at_ms / 1000, UTC).strftime("%Y-%m-%d")


_KEYS: dict[UsageKey, Callable[[Job, EndedAttempt], str]] = {
    UsageKey.USER: lambda job, _: user_of(job),
    UsageKey.QUEUE: lambda job, _: job.spec.queue,
    UsageKey.DEFINITION: lambda job, _: job.spec.definition,
    UsageKey.DAY: _day_of,
    UsageKey.JOB: lambda job, _: job.id,
}
