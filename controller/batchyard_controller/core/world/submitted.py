"""Submitted jobs: their order of submission, for listing."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from batchyard_controller.core.model.jobs import Job

BLOCK = 512
"""Jobs of them that are looked at together."""


@dataclass(slots=True)
class SubmittedJobs:
    """Order of submission of some jobs, for listing; forgotten jobs leave a gap until it is worth closing."""

    seqs: list[int] = field(default_factory=list)
    _jobs: list[Job | None] = field(default_factory=list)
    _created: list[tuple[int, int]] = field(default_factory=list)
    """First and last moment of creation in each block; clocks may be set back, so order is not enough."""
    _gaps: int = 0

    def add(self, job: Job) -> None:
        """Append the newest job."""
        assert not self.seqs or self.seqs[-1] < job.seq, "jobs are added in order of submission"
        at_ms = job.created_at_ms
        if len(self.seqs) % BLOCK == 0:
            self._created.append((at_ms, at_ms))
        else:
            first, last = self._created[-1]
            self._created[-1] = min(first, at_ms), max(last, at_ms)
        self.seqs.append(job.seq)
        self._jobs.append(job)

    def remove(self, job: Job) -> None:
        """Forget a job."""
        self._jobs[bisect.bisect_left(self.seqs, job.seq)] = None
        self._gaps += 1
        if self._gaps > len(self.seqs) // 2:
            kept = list(self)
            self.seqs, self._jobs, self._created, self._gaps = [], [], [], 0
            for other in kept:
                self.add(other)

    def __iter__(self) -> Iterator[Job]:
        return (job for job in self._jobs if job is not None)

    def walk(
        self, beyond: int | None = None, created_after_ms: int = 0, created_before_ms: int = 0, *, oldest_first: bool
    ) -> Iterator[Job]:
        """
        Yield jobs in or against the order of submission, those *beyond* a number of it (None: all).

        Whole blocks that were not created between the two moments (0: no bound) are left out.
        """
        first, end = 0, len(self.seqs)
        if beyond is not None and oldest_first:
            first = bisect.bisect_right(self.seqs, beyond)
        elif beyond is not None:
            end = bisect.bisect_left(self.seqs, beyond)
        blocks = range(first // BLOCK, (end - 1) // BLOCK + 1)
        for block in blocks if oldest_first else reversed(blocks):
            earliest, latest = self._created[block]
            if latest <= created_after_ms or (created_before_ms and earliest >= created_before_ms):
                continue
            places = range(max(first, block * BLOCK), min(end, (block + 1) * BLOCK))
            for i in places if oldest_first else reversed(places):
                job = self._jobs[i]
                if job is not None:
                    yield job


def walk_together(
    several: Iterable[SubmittedJobs],
    beyond: int | None = None,
    created_after_ms: int = 0,
    created_before_ms: int = 0,
    *,
    oldest_first: bool,
) -> Iterator[Job]:
    """Yield the jobs of several in one order, as `SubmittedJobs.walk` does those of one."""
    walks = [each.walk(beyond, created_after_ms, created_before_ms, oldest_first=oldest_first) for each in several]
    return walks[0] if len(walks) == 1 else heapq.merge(*walks, key=_number, reverse=not oldest_first)


def _number(job: Job) -> int:
    return job.seq
