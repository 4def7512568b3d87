"""
Retention: how long ended jobs are kept, and which may be forgotten now.

Pure arithmetic over the order of ends. Law: a job that has not ended is never
touched, and one look costs what is forgotten, not what is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from batchyard_controller.core.model.jobs import Job

DAY_MS = 24 * 3600 * 1000

RECORDS_PER_LOOK = 2_000
"""Records forgotten at a look, about: each is a deletion in the store, and a commit should stay short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """
    What history is kept.

    Attributes:
        age_ms: Time since a job's end; AWS keeps jobs "at least 7 days".
        count: Most ended jobs; an array counts once.
    """

    age_ms: int = 7 * DAY_MS
    count: int = 250_000


def forgettable(ended: deque[Job], retention: Retention, now_ms: int) -> Iterator[Job]:
    """Take out of *ended* the jobs that are too old or too many, the oldest first."""
    records = 0
    while ended and records < RECORDS_PER_LOOK:
        is_old = ended[0].ended_at_ms + retention.age_ms <= now_ms
        if not is_old and len(ended) <= retention.count:
            return
        job = ended.popleft()
        records += 1 + len(job.children.chunks)
        yield job
