"""Past: what is kept of jobs that have left the store, forgotten or archived."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from batchyard.ids import JobId

from .jobs import Job, JobKind
from .units import Unit
from .usage import UsageSum

DAYS_MAX = 60
"""Days of one job that are told apart; what ended before them counts as of the first of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """
    The jobs that left last.

    Attributes:
        seq: The highest number in the order of submission of all that ever left: none is given twice.
        ids: Those whose sums were stored with this. Who of them is there still is to be deleted, and not summed again.
    """

    seq: int = 0
    ids: tuple[JobId, ...] = ()


NOBODY_LEFT = Left()


@dataclass(frozen=True, slots=True)
class SumKey:
    """Whose sum it is: of attempts that ended on a day (UTC, ``2026-11-26``), of a queue, a definition and an owner."""

    day: str
    queue: str
    definition: str
    owner: str

    @property
    def name(self) -> str:
        """What it is stored as; days in their order."""
        return f"{self.day}/{self.queue}/{self.definition}/{self.owner}"

    @classmethod
    def read(cls, name: str) -> SumKey:
        """Return the key of a name; who owns jobs may have slashes."""
        return cls(*name.split("/", 3))


def day_of(at_ms: int) -> str:
    """Return the day (UTC) of a moment."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")


def sums_of(job: Job) -> dict[str, UsageSum]:
    """Sum what the attempts of a job took, by the day on which each ended, under the names of their keys."""
    days: dict[str, UsageSum] = {}
    units = [Unit(job)] if job.kind is JobKind.SINGLE else (Unit(job, i) for i in job.children.tried())
    for unit in units:
        held = unit.task.resources
        for ended in unit.attempts:
            days.setdefault(day_of(ended.stopped_at_ms), UsageSum()).add(ended, held)
    kept = sorted(days)[-DAYS_MAX:]
    for day in days.keys() - set(kept):
        days[kept[0]].merge(days.pop(day))
    spec = job.spec
    return {SumKey(day, spec.queue, spec.definition, spec.owner).name: each for day, each in days.items()}
