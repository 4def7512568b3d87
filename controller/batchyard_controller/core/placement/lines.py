"""
Ordering: who waits, in which order.

Runnable jobs stand in lines. A line holds the jobs of one queue that ask for
the same (a shape), in order of submission, so that a pass over the hosts serves
a whole line. A run of array children takes one entry. Jobs that ended while
they waited are skipped when their turn comes; nobody searches a line for them.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from batchyard.resources import Resources
from batchyard_controller.core.model.jobs import Job

from .feasibility import NO_ACCESS, Access
from .refusals import Refusal


@dataclass(frozen=True, slots=True)
class Shape:
    """All that placement asks of a job."""

    queue: str
    resources: Resources
    runtime: str
    access: Access = NO_ACCESS


@dataclass(slots=True)
class Entry:
    """Neighbouring children of an array, or one single job (``next`` 0, ``stop`` 1)."""

    job: Job
    next: int
    stop: int


Unit = tuple[Job, int | None]
"""A single job (None) or one child of an array."""

IsWaiting = Callable[[Job, int | None], bool]


@dataclass(slots=True)
class Line:
    """
    The jobs of one shape.

    Attributes:
        entries: By ascending ``job.seq``, then index, so that a retried job stands in front.
        refusals: Why the first in line could not be placed; empty before a try.
        refused_at: Version of the fleet's growth at that try: there is no use in
            another before it has grown.
    """

    shape: Shape
    is_waiting: IsWaiting
    entries: list[Entry] = field(default_factory=list)
    refusals: tuple[Refusal, ...] = ()
    refused_at: int = -1

    def push(self, job: Job, start: int, stop: int) -> None:
        """Let children [start, stop) of *job*, or a single job (0, 1), take their place."""
        entry = Entry(job, start, stop)
        if not self.entries or _place(self.entries[-1]) <= _place(entry):
            self.entries.append(entry)  # the newest, as nearly all are: no search through a long line
        else:
            bisect.insort(self.entries, entry, key=_place)

    def remove(self, job: Job) -> None:
        """Take a job and all its children out of the line."""
        self.entries = [entry for entry in self.entries if entry.job is not job]

    def units(self) -> Iterator[Unit]:
        """Yield those who wait, first in line first, leaving the line as it is."""
        for entry in self.entries:
            for index in range(entry.next, entry.stop):
                unit = index if entry.job.array_size else None
                if self.is_waiting(entry.job, unit):
                    yield entry.job, unit

    def head(self) -> Unit | None:
        """Return who is first in line, forgetting those in front who have ended."""
        self.drop(0)
        return next(self.units(), None)

    def drop(self, count: int) -> None:
        """Take the first *count* of those who wait out of the line."""
        for place, entry in enumerate(self.entries):
            while entry.next < entry.stop:
                waits = self.is_waiting(entry.job, entry.next if entry.job.array_size else None)
                if waits and count == 0:
                    del self.entries[:place]
                    return
                count -= waits
                entry.next += 1
        self.entries.clear()
        assert count == 0, f"{count} more dropped than waited"


def _place(entry: Entry) -> tuple[int, int]:
    return entry.job.seq, entry.next


class Lines:
    """All lines, by queue and shape."""

    def __init__(self, is_waiting: IsWaiting) -> None:
        self._is_waiting = is_waiting
        self._by_queue: dict[str, dict[Shape, Line]] = {}

    def push(self, shape: Shape, job: Job, start: int = 0, stop: int = 1) -> None:
        """Let a job, or a run of an array's children, wait."""
        lines = self._by_queue.setdefault(shape.queue, {})
        line = lines.get(shape)
        if line is None:
            line = lines[shape] = Line(shape, self._is_waiting)
        line.push(job, start, stop)

    def of_queue(self, queue: str) -> list[Line]:
        """Return the lines of one queue that hold anybody, forgetting the others."""
        lines = self._by_queue.get(queue, {})
        for shape in [shape for shape, line in lines.items() if not line.entries]:
            del lines[shape]
        return list(lines.values())

    def first_of(self, queue: str) -> tuple[Line, Unit] | None:
        """Return who is first in a queue, and the line in which it stands."""
        heads = [(line, head) for line in self.of_queue(queue) if (head := line.head()) is not None]
        return min(heads, key=lambda pair: (pair[1][0].seq, pair[1][1] or 0), default=None)

    def find(self, shape: Shape) -> Line | None:
        """Return the line of *shape*, if there is one."""
        return self._by_queue.get(shape.queue, {}).get(shape)

    def drop_queue(self, queue: str) -> None:
        """Forget a deleted queue."""
        self._by_queue.pop(queue, None)

    def ahead_of(self, job: Job, index: int | None) -> int:
        """Return how many units of the job's queue stand before it."""
        ahead = 0
        for line in self.of_queue(job.spec.queue):
            for other, child in line.units():
                if other.seq > job.seq or (other.seq == job.seq and (child or 0) >= (index or 0)):
                    break
                ahead += 1
        return ahead
