"""
Line: units of one queue that ask for the same, in order of submission.

A pass over the hosts serves a whole line. A run of an array's children takes one entry.
Law: who waits no longer leaves at once, and nobody searches a line for its place: entries
are found by bisection, and what they leave is a gap until it is worth closing.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import NamedTuple

from batchyard.ids import HostId
from batchyard.resources import Resources
from batchyard_controller.core.model.consumables import Quantities
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.units import Unit, unit_at

from .feasibility import NO_ACCESS, Access
from .refusals import HeldBack, Refusal

Rank = tuple[int, int, int, int, int]
"""Priority, size, due time, place in order of submission; the least goes first."""
NOBODY: frozenset[HostId] = frozenset()
_GAPS_MIN = 64


class Timing(NamedTuple):
    """
    How a line goes in time.

    Attributes:
        delay_ms: From a unit's submission to when it is due.
        size_ms: By which those go who pass one that cannot start; the smallest first.
    """

    delay_ms: int
    size_ms: int


AT_ONCE = Timing(0, 0)


class Part(NamedTuple):
    """
    What some of the nodes that are placed together ask of a host each.

    Attributes:
        runs: [start, stop) of their indices.
        image: As of a shape.
    """

    runs: tuple[tuple[int, int], ...]
    resources: Resources
    runtime: str
    access: Access = NO_ACCESS
    image: str = ""

    @property
    def size(self) -> int:
        """How many they are."""
        return sum(stop - start for start, stop in self.runs)

    @property
    def indices(self) -> Iterator[int]:
        """Their indices."""
        return chain.from_iterable(range(*run) for run in self.runs)


@dataclass(frozen=True, slots=True)
class Shape:
    """
    All that placement asks of a unit, or of the nodes of a job, which are placed together or not at all.

    Attributes:
        resources: Of nodes of all of them; what they ask of a host each is in *parts*, and what else this says of
            hosts is said of the main node's.
        image: Only if a host could not get it lately: such hosts are passed over.
        doubts: Hosts that failed it, which it avoids while they are doubted.
        share: Whose turn it takes, in a queue with a scheduling policy.
        priority: Within that; the higher, the sooner.
        definition: With its revision; units of one run for much the same time.
        timeout_s: For how long an attempt may run; 0 for no bound.
        consumables: What it holds of consumable resources.
        on_demand: It goes to on-demand environments alone, if its queue has any.
        parts: Of nodes; nothing of a unit that goes by itself.
        is_spread: No two nodes of a job may go to one host; of a single node, that it is one of such a job.
    """

    queue: str
    resources: Resources
    runtime: str
    access: Access = NO_ACCESS
    image: str = ""
    doubts: frozenset[HostId] = NOBODY
    share: str = ""
    priority: int = 0
    definition: str = ""
    timeout_s: int = 0
    consumables: Quantities = ()
    on_demand: bool = False
    parts: tuple[Part, ...] = ()
    is_spread: bool = False

    @property
    def size(self) -> int:
        """How many units are placed at once."""
        return sum(part.size for part in self.parts) if self.parts else 1

    def of_part(self, part: Part) -> Shape:
        """Return what one node of a part asks, as if it went by itself."""
        _, resources, runtime, access, image = part
        return replace(self, resources=resources, runtime=runtime, access=access, image=image, parts=())

    @property
    def singles(self) -> tuple[Shape, ...]:
        """What is asked of a host: of nodes, what one of each part asks; of what goes by itself this."""
        return tuple(map(self.of_part, self.parts)) or (self,)

    def asking(self, resources: Resources) -> Shape:
        """Return one that asks for other amounts."""
        return replace(self, resources=resources)

    def of_one(self, index: int | None) -> Shape:
        """Return what one node asks, as if it went by itself; of what goes by itself this."""
        return next((self.of_part(part) for part in self.parts if index in [*part.indices]), self)


Alike = tuple[str, Resources, str, Access, str, frozenset[HostId], str, int, Quantities, bool, tuple[Part, ...], bool]
"""What lines have in common that differ in their order alone."""


@dataclass(slots=True)
class Entry:
    """
    Neighbouring children [start, stop) of an array, or a single job (0, 1).

    Attributes:
        job: None once all of them have left.
        created_at_ms: When the job was submitted.
    """

    job: Job | None
    seq: int
    start: int
    stop: int
    created_at_ms: int


def _place(entry: Entry) -> tuple[int, int]:
    return entry.seq, entry.start


@dataclass(slots=True)
class Line:
    """
    The units of one shape.

    Attributes:
        refused_at: Version of the fleet's growth when the first in line could last not be
            placed: there is no use in another try before it has grown. -1 before a try.
        timing: When its units are due, and who passes whom, as was known when it was last put among those to ask.
        asked_under: The place in order of submission under which it stands there; None of one that is refused.
        ticket: Of its entries there; entries with others are old.
        stands_at: The rank under which it stands among the heads of its share, and the ticket of its entry there.
        held_back: What kept its first from room that there was, when it was last refused.
        refusals: Why that is so, as it was last explained, which is when somebody asks.
        explained_at: Version of the fleet at that.
        alike: What it has in common with those for which a host has room if it has for this one.
    """

    shape: Shape
    refused_at: int = -1
    timing: Timing = AT_ONCE
    asked_under: tuple[int, int] | None = None
    ticket: int = -1
    stands_at: tuple[Rank, int] | None = None
    held_back: HeldBack | None = None
    refusals: tuple[Refusal, ...] = ()
    explained_at: tuple[int, int] = (-1, -1)
    alike: Alike = field(init=False)
    _entries: list[Entry] = field(default_factory=list)
    """By ascending ``job.seq``, then child, so that a retried unit stands in front."""
    _first: int = 0
    """Before it there are only gaps."""
    _gaps: int = 0
    _waiting: int = 0
    """Units."""

    def __post_init__(self) -> None:
        of = self.shape
        on_host = of.queue, of.resources, of.runtime, of.access, of.image, of.doubts
        self.alike = *on_host, of.share, of.priority, of.consumables, of.on_demand, of.parts, of.is_spread

    def push(self, job: Job, start: int, stop: int) -> None:
        """Let children [start, stop) of *job*, or a single job (0, 1), take their place."""
        entry = Entry(job, job.seq, start, stop, job.created_at_ms)
        self._waiting += stop - start
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
        place = self._first
        if place >= len(self._entries) or self._entries[place].job is not job:  # most leave from the front
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
        self._waiting -= min(stop, entry.stop) - max(start, entry.start)
        if start <= entry.start and entry.stop <= stop:
            entry.job = None
            self._gaps += 1
        elif start <= entry.start:
            entry.start = stop
        else:
            if stop < entry.stop:
                rest = Entry(entry.job, entry.seq, stop, entry.stop, entry.created_at_ms)
                self._entries.insert(place + 1, rest)
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

    def __len__(self) -> int:
        return self._waiting

    def count_before(self, rank: Rank, looks: int) -> tuple[int, int]:
        """
        Return how many stand before a rank, and how much work that was.

        After *looks* entries it counts no more, and less than there are; of single jobs of
        which none has left from between it need not look at any. Where the clock was set
        back between their submissions, it is about so many.
        """
        if -self.shape.priority != rank[0]:
            return (self._waiting if -self.shape.priority < rank[0] else 0), 0
        due_ms, seq, index = rank[2] - self.timing.delay_ms, rank[3], rank[4]
        stop = bisect.bisect_left(
            self._entries,
            (due_ms, seq, index),
            lo=self._first,
            key=lambda entry: (entry.created_at_ms, entry.seq, entry.start),
        )
        if self._gaps == self._first and self._waiting == len(self._entries) - self._first:
            return stop - self._first, 0
        number, last = 0, min(stop, self._first + looks)
        for i in range(self._first, last):
            entry = self._entries[i]
            if entry.job is not None:
                is_among = (entry.created_at_ms, entry.seq) == (due_ms, seq)
                number += max(0, (min(entry.stop, index) if is_among else entry.stop) - entry.start)
        return number, looks if last < stop else last - self._first

    def head(self) -> Unit | None:
        """Return who is first in line."""
        if not self:
            return None
        entry = self._entries[self._first]  # no gap: these are closed up to the first who waits
        return unit_at(entry.job, entry.start) if entry.job is not None else next(self.units(), None)

    def next_of(self, job: Job) -> Unit | None:
        """Return the first unit of a job that waits here."""
        place = bisect.bisect_left(self._entries, (job.seq, 0), lo=self._first, key=_place)
        for i in range(place, len(self._entries)):
            entry = self._entries[i]
            if entry.seq != job.seq:
                break
            if entry.job is job:
                return unit_at(job, entry.start)
        return None

    def rank(self, unit: Unit, by_size: bool) -> Rank:
        """Return where one of its units stands among all of its share: who is due first, or who is the smallest."""
        due_ms = unit.job.created_at_ms + self.timing.delay_ms
        return (-self.shape.priority, self.timing.size_ms if by_size else 0, due_ms, *unit.place)
