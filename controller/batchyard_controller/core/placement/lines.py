"""
Lines: who waits for a host, in which order.

Runnable units stand in lines. A line holds those of one queue that ask for the same
(a shape), in order of submission, so that a pass over the hosts serves a whole line.
A run of an array's children takes one entry. Law: who waits no longer leaves at once,
and nobody searches a line for its place: entries are found by bisection, and what
they leave is a gap until it is worth closing.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field

from batchyard.ids import HostId
from batchyard.resources import Resources
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.units import Unit, unit_at

from .feasibility import NO_ACCESS, Access
from .refusals import Refusal

NOBODY: frozenset[HostId] = frozenset()


@dataclass(frozen=True, slots=True)
class Shape:
    """
    All that placement asks of a unit.

    Attributes:
        image: Only if a host could not get it lately: such hosts are passed over.
        doubts: Hosts that failed it, which it avoids while they are doubted.
    """

    queue: str
    resources: Resources
    runtime: str
    access: Access = NO_ACCESS
    image: str = ""
    doubts: frozenset[HostId] = NOBODY


@dataclass(slots=True)
class Entry:
    """
    Neighbouring children [start, stop) of an array, or a single job (0, 1).

    Attributes:
        job: None once all of them have left.
    """

    job: Job | None
    seq: int
    start: int
    stop: int


def _place(entry: Entry) -> tuple[int, int]:
    return entry.seq, entry.start


@dataclass(slots=True)
class Line:
    """
    The units of one shape.

    Attributes:
        refusals: Why the first in line could not be placed; empty before a try.
        refused_at: Version of the fleet's growth at that try: there is no use in
            another before it has grown.
    """

    shape: Shape
    refusals: tuple[Refusal, ...] = ()
    refused_at: int = -1
    _entries: list[Entry] = field(default_factory=list)
    """By ascending ``job.seq``, then child, so that a retried unit stands in front."""
    _first: int = 0
    """Before it there are only gaps."""
    _gaps: int = 0

    def push(self, job: Job, start: int, stop: int) -> None:
        """Let children [start, stop) of *job*, or a single job (0, 1), take their place."""
        entry = Entry(job, job.seq, start, stop)
        if not self._entries or _place(self._entries[-1]) <= _place(entry):
            self._entries.append(entry)  # the newest, as nearly all are: no search through a long line
        else:
            place = end = bisect.bisect_left(self._entries, _place(entry), key=_place)
            while end < len(self._entries) and _place(self._entries[end]) < (job.seq, stop):
                end += 1  # gaps where these stood before: in between they would break the order
            self._entries[place:end] = [entry]
            self._gaps -= end - place
            self._first = min(self._first, place)

    def remove(self, job: Job, start: int, stop: int) -> None:
        """Let those of children [start, stop) of *job*, or of a single job (0, 1), that stand here leave."""
        place = max(0, bisect.bisect_right(self._entries, (job.seq, start), key=_place) - 1)
        while place < len(self._entries):
            entry = self._entries[place]
            if (entry.seq, entry.start) >= (job.seq, stop):
                break
            if entry.job is job and entry.stop > start:
                self._cut(place, entry, start, stop)
            place += 1
        self._close_gaps()

    def _cut(self, place: int, entry: Entry, start: int, stop: int) -> None:
        """Take [start, stop) out of an entry: from its front, its end, its middle, or all of it."""
        if start <= entry.start and entry.stop <= stop:
            entry.job = None
            self._gaps += 1
        elif start <= entry.start:
            entry.start = stop
        else:
            if stop < entry.stop:
                self._entries.insert(place + 1, Entry(entry.job, entry.seq, stop, entry.stop))
            entry.stop = start

    def _close_gaps(self) -> None:
        while self._first < len(self._entries) and self._entries[self._first].job is None:
            self._first += 1
        if self._gaps > len(self._entries) // 2:
            self._entries = [entry for entry in self._entries if entry.job is not None]
            self._first = self._gaps = 0

    def __bool__(self) -> bool:
        return self._gaps < len(self._entries)

    def units(self) -> Iterator[Unit]:
        """Yield those who wait, first in line first."""
        for i in range(self._first, len(self._entries)):
            entry = self._entries[i]
            if entry.job is not None:
                for place in range(entry.start, entry.stop):
                    yield unit_at(entry.job, place)

    def jobs(self) -> list[Job]:
        """Return whose units wait, each once."""
        return list({entry.seq: entry.job for entry in self._entries[self._first :] if entry.job is not None}.values())

    def head(self) -> Unit | None:
        """Return who is first in line."""
        return next(self.units(), None)


class Lines:
    """All lines, by queue and shape."""

    def __init__(self) -> None:
        self._by_queue: dict[str, dict[Shape, Line]] = {}

    def push(self, shape: Shape, job: Job, start: int = 0, stop: int = 1) -> None:
        """Let a job, or a run of an array's children, wait."""
        lines = self._by_queue.setdefault(shape.queue, {})
        line = lines.get(shape)
        if line is None:
            line = lines[shape] = Line(shape)
        line.push(job, start, stop)

    def remove(self, shape: Shape, job: Job, start: int, stop: int) -> None:
        """Let a job, or children of an array, wait no longer; a line that nobody stands in is forgotten."""
        line = self.find(shape)
        if line is not None:
            line.remove(job, start, stop)
            if not line:
                del self._by_queue[shape.queue][shape]

    def of_queue(self, queue: str) -> list[Line]:
        """Return the lines of one queue."""
        return list(self._by_queue.get(queue, {}).values())

    def first_of(self, queue: str) -> tuple[Line, Unit] | None:
        """Return who is first in a queue, and the line in which it stands."""
        heads = [(line, head) for line in self.of_queue(queue) if (head := line.head()) is not None]
        return min(heads, key=lambda pair: pair[1].place, default=None)

    def find(self, shape: Shape) -> Line | None:
        """Return the line of *shape*, if there is one."""
        return self._by_queue.get(shape.queue, {}).get(shape)

    def drop_queue(self, queue: str) -> None:
        """Forget a deleted queue."""
        self._by_queue.pop(queue, None)

    def ahead_of(self, unit: Unit) -> int:
        """Return how many units of the queue stand before one."""
        ahead = 0
        for line in self.of_queue(unit.job.spec.queue):
            for other in line.units():
                if other.place >= unit.place:
                    break
                ahead += 1
        return ahead
