"""Submitted jobs: their order of submission, for listing."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
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

    def before(self, seq: int | None, created_after_ms: int = 0, created_before_ms: int = 0) -> Iterator[Job]:
        """
        Yield jobs that were submitted before *seq* (all for None), newest first.

        Whole blocks that were not created between the two moments (0: no bound) are left out.
        """
        end = len(self.seqs) if seq is None else bisect.bisect_left(self.seqs, seq)
        for block in range((end - 1) // BLOCK, -1, -1):
            first, last = self._created[block]
            if last <= created_after_ms or (created_before_ms and first >= created_before_ms):
                continue
            for i in range(min(end, (block + 1) * BLOCK) - 1, block * BLOCK - 1, -1):
                job = self._jobs[i]
                if job is not None:
                    yield job
