"""
Lines: who waits for a host, in which order.

Runnable units stand in lines. A line holds those of one queue that ask for the same
(a shape), in order of submission, so that a pass over the hosts serves a whole line.
A run of an array's children takes one entry. Law: who waits no longer leaves at once,
and nobody searches a line for its place: entries are found by bisection, and what
they leave is a gap until it is worth closing.

Lines are asked in the order of their first. Law: a line is either among those to ask,
under a place that is not behind its first, or refused; so a plan looks at those that
it asks, and not at all lines.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from batchyard.ids import HostId
from batchyard.resources import Resources
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.units import Unit, unit_at

from .feasibility import NO_ACCESS, Access
from .refusals import Refusal

NOBODY: frozenset[HostId] = frozenset()
_GAPS_MIN = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """
    All that placement asks of a unit.

    Attributes:
        image: Only if a host could not get it lately: such hosts are passed over.
        doubts: Hosts that failed it, which it avoids while they are doubted.
        share: Whose turn it takes, in a queue with a scheduling policy.
        priority: Within that; the higher, the sooner.
    """

    queue: str
    resources: Resources
    runtime: str
    access: Access = NO_ACCESS
    image: str = ""
    doubts: frozenset[HostId] = NOBODY
    share: str = ""
    priority: int = 0


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
        refused_at: Version of the fleet's growth when the first in line could last not be
            placed: there is no use in another try before it has grown. -1 before a try.
        asked_under: The place under which it stands among those to ask; None of one that is refused.
        ticket: Of its entry there; entries with others are old.
        refusals: Why that is so, as it was last explained, which is when somebody asks.
        explained_at: Version of the fleet at that.
    """

    shape: Shape
    refused_at: int = -1
    asked_under: tuple[int, int] | None = None
    ticket: int = -1
    refusals: tuple[Refusal, ...] = ()
    explained_at: tuple[int, int] = (-1, -1)
    size: int = 0
    """How many units stand in it."""
    _entries: list[Entry] = field(default_factory=list)
    """By ascending ``job.seq``, then child, so that a retried unit stands in front."""
    _first: int = 0
    """Before it there are only gaps."""
    _gaps: int = 0

    def push(self, job: Job, start: int, stop: int) -> None:
        """Let children [start, stop) of *job*, or a single job (0, 1), take their place."""
        entry = Entry(job, job.seq, start, stop)
        self.size += stop - start
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
        self.size -= min(stop, entry.stop) - max(start, entry.start)
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
        if self._first > max(_GAPS_MIN, len(self._entries) // 64):
            del self._entries[: self._first]  # little at a time, so that no turn pays for a long line
            self._gaps -= self._first
            self._first = 0
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
        self._to_ask: dict[str, list[tuple[tuple[int, int], int, Line]]] = {}
        """Heaps by queue: place, ticket, line."""
        self._refused: dict[Shape, Line] = {}
        """Who was refused longest ago comes first."""
        self._tickets = itertools.count()
        self.gpu_arrivals = 0
        """How many units that ask for GPUs took a place in line, ever."""
        self.is_in_round = False
        """Whether some lines have been asked, and others have yet to be."""

    def push(self, shape: Shape, job: Job, start: int = 0, stop: int = 1) -> None:
        """Let a job, or a run of an array's children, wait."""
        lines = self._by_queue.setdefault(shape.queue, {})
        line = lines.get(shape)
        is_new = line is None
        if line is None:
            line = lines[shape] = Line(shape)
        line.push(job, start, stop)
        self.gpu_arrivals += (stop - start) * (shape.resources.gpu_millis > 0)
        if is_new or (line.asked_under is not None and (job.seq, start) < line.asked_under):
            self._ask(line, (job.seq, start))

    def _ask(self, line: Line, place: tuple[int, int]) -> None:
        line.asked_under, line.ticket = place, next(self._tickets)
        heapq.heappush(self._to_ask.setdefault(line.shape.queue, []), (place, line.ticket, line))

    def remove(self, shape: Shape, job: Job, start: int, stop: int) -> None:
        """Let a job, or children of an array, wait no longer; a line that nobody stands in is forgotten."""
        line = self.find(shape)
        if line is not None:
            line.remove(job, start, stop)
            if not line:
                del self._by_queue[shape.queue][shape]
                self._refused.pop(shape, None)

    def next_place(self, queue: str) -> tuple[int, int] | None:
        """Return the place of the first unit of a queue whose line is to be asked."""
        heap = self._to_ask.get(queue, [])
        while heap:
            place, ticket, line = heap[0]
            head = line.head() if line.ticket == ticket else None
            if head is not None and head.place == place:
                return place
            heapq.heappop(heap)
            if head is not None:  # those who stood before it have left
                self._ask(line, head.place)
        return None

    def take_next(self, queue: str) -> Line:
        """Take the line of that unit; whoever does gives it back."""
        return heapq.heappop(self._to_ask[queue])[2]

    def give_back(self, lines: Iterable[Line]) -> None:
        """Let lines that were taken be asked again."""
        for line in lines:
            if line.asked_under is not None:
                self._ask(line, line.asked_under)

    def begin_round(self, grown: int) -> None:
        """Let all lines be asked in their order that were refused when the fleet had grown less; not within a round."""
        if not self.is_in_round:
            for line in list(self.refused_before(grown)):
                self.resume(line.shape)

    def refused_before(self, grown: int) -> Iterator[Line]:
        """Yield the lines that were refused when the fleet had grown less, longest ago first."""
        return itertools.takewhile(lambda line: line.refused_at != grown, self._refused.values())

    def refuse(self, shape: Shape, grown: int) -> None:
        """Note that the first in line could not be placed when the fleet had grown so far."""
        line = self.find(shape)
        if line is not None:
            line.refused_at, line.asked_under, line.ticket = grown, None, -1
            self._refused.pop(shape, None)
            self._refused[shape] = line

    def resume(self, shape: Shape) -> None:
        """Ask a line in its order again, as some of it could be placed."""
        line = self._refused.pop(shape, None)
        head = line.head() if line is not None else None
        if line is not None and head is not None:
            self._ask(line, head.place)

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
        for shape in self._by_queue.pop(queue, {}):
            self._refused.pop(shape, None)
        self._to_ask.pop(queue, None)

    def ahead_of(self, unit: Unit) -> int:
        """Return how many units of the queue stand before one."""
        ahead = 0
        for line in self.of_queue(unit.job.spec.queue):
            for other in line.units():
                if other.place >= unit.place:
                    break
                ahead += 1
        return ahead
