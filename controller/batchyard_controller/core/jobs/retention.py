"""
Retention: how long ended jobs and silent hosts are kept, and which jobs may be forgotten now.

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
        host_age_ms: Time since a host was last heard of.
    """

    age_ms: int = 7 * DAY_MS
    count: int = 250_000
    host_age_ms: int = 30 * DAY_MS


@dataclass(slots=True)
class Calendar:
    """
    The date, as far as things may be deleted by it: no step of the wall clock moves it on.

    It goes on as time passes (boottime) and never runs ahead of the wall clock. A wrong
    clock makes history live longer and never shorter. Time in which nobody led does not count,
    nor up to `HEARD_SAVE_MS` at the end of a term: whoever finds a clock wrong at its start cannot know.

    Attributes:
        date_ms: Wall-clock time at the last look; at first the newest by which a host was heard.
        seen_boot_ms: When that was.
    """

    date_ms: int
    seen_boot_ms: int

    def read(self, wall_ms: int, boot_ms: int) -> int:
        """Return the date."""
        self.date_ms = min(wall_ms, self.date_ms + boot_ms - self.seen_boot_ms)
        self.seen_boot_ms = boot_ms
        return self.date_ms


def forgettable(ended: deque[Job], retention: Retention, now_ms: int) -> Iterator[Job]:
    """
    Take out of *ended* the jobs that are too old or too many, the oldest first.

    One that a leader with a slow clock dated is as old as those that were submitted before it, at most.
    """
    records = 0
    while ended and records < RECORDS_PER_LOOK:
        is_old = max(ended[0].ended_at_ms, ended[0].not_before_ms) + retention.age_ms <= now_ms
        if not is_old and len(ended) <= retention.count:
            return
        if ended[0].size and not ended[0].children.all_final:
            return  # nodes of it are being stopped
        job = ended.popleft()
        records += 1 + len(job.children.chunks)
        yield job
