"""
Retention: how long ended jobs and silent hosts are kept, and which jobs may be forgotten now.

Pure arithmetic over the order of ends. Law: a job that has not ended is never
touched, and one look costs what is forgotten, not what is kept.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice

from batchyard_controller.core.model.jobs import Job

DAY_MS = 24 * 3600 * 1000

ARCHIVED_BEYOND = 10_000
"""Ended jobs that stay in the store where there is an archive, if nobody says otherwise."""

RECORDS_PER_LOOK = 2_000
"""Records forgotten at a look, about: each is a deletion in the store, and a commit should stay short."""


SETTLE_MS = 60_000
"""How long a job stays after its end in a leader's term whatever else is kept, for who watches or asks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """
    What history is kept.

    Attributes:
        age_ms: Time since a job's end; AWS keeps jobs "at least 7 days".
        count: Most ended jobs; an array counts once.
        host_age_ms: Time since a host was last heard of.
        usage_age_ms: Time since the day of which it is known what jobs took that are no longer kept.
        is_archived: What is too old or too many goes into an archive, and is forgotten only then.
    """

    age_ms: int = 7 * DAY_MS
    count: int = 250_000
    host_age_ms: int = 30 * DAY_MS
    usage_age_ms: int = 400 * DAY_MS
    is_archived: bool = False


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


def forgettable(ended: deque[Job], retention: Retention, calendar: Calendar, *, in_need: bool = False) -> list[Job]:
    """
    Return which of *ended*, the first of them, are too old or too many.

    One whose end a leader with a slow clock dated is no older than what that leader knew of the date.

    Args:
        ended: In the order of their ends.
        retention: What is kept.
        calendar: The date. It may be far behind the clock, so what has just ended is told by time since boot.
        in_need: The store needs room, so that what goes into the archive goes as soon as may be.
    """
    found: list[Job] = []
    records = 0
    count = 0 if in_need and retention.is_archived else retention.count
    for job in islice(ended, RECORDS_PER_LOOK):
        is_due = calendar.date_ms - job.aged_from_ms >= retention.age_ms or len(ended) - len(found) > count
        is_new = job.ended_boot_ms is not None and calendar.seen_boot_ms - job.ended_boot_ms < SETTLE_MS
        if not is_due or (retention.is_archived and is_new) or records >= RECORDS_PER_LOOK:
            break
        if job.size and not job.children.all_final:
            continue  # nodes of it are being stopped; on a host that is silent that may take for ever
        records += 1 + len(job.children.chunks)
        found.append(job)
    return found
