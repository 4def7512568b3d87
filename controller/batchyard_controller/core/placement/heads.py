"""
Heads: who comes first of all who wait in a share of a queue, refused or not.

Each line stands in a heap under a rank that is not behind its first's. Laws: those who
come first are found from the top, with no look at other lines; what it costs to find
some of them grows with how many these are, and not with the queue.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from batchyard_controller.core.model.units import Unit

from .line import Line, Rank

_OLD_MIN = 256
LOOKS_MAX = 2_000
"""Lines and entries that are looked at to count who stands before one."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """How many stand before one, or that there are more."""

    count: int
    is_all: bool


class Heads:
    """The lines of one share."""

    def __init__(self) -> None:
        self._heap: list[tuple[Rank, int, Line]] = []
        """Rank, ticket, line; entries with another ticket than the line's are old."""
        self._tickets = itertools.count()
        self._lines = 0

    def put(self, line: Line, rank: Rank) -> None:
        """Let a line stand under the rank of its first."""
        if line.stands_at is None:
            self._lines += 1
        self._push(line, rank)

    def _push(self, line: Line, rank: Rank) -> None:
        line.stands_at = rank, next(self._tickets)
        heapq.heappush(self._heap, (*line.stands_at, line))
        if len(self._heap) > _OLD_MIN + 2 * self._lines:
            self._heap = [entry for entry in self._heap if _is_present(entry)]
            heapq.heapify(self._heap)

    def drop(self, line: Line) -> None:
        """Forget a line in which nobody stands."""
        if line.stands_at is not None:
            line.stands_at = None
            self._lines -= 1

    def first(self) -> tuple[Rank, Line] | None:
        """Return the line of who comes first, and their rank."""
        while self._heap:
            rank, _, line = entry = self._heap[0]
            head = line.head() if _is_present(entry) else None
            true = line.rank(head, by_size=False) if head is not None else None
            if true == rank:
                return rank, line
            heapq.heappop(self._heap)
            if true is not None:  # those who stood before it have left, or it is due later than was thought
                self._push(line, true)
        return None

    def lines(self) -> Iterator[tuple[Rank, Line]]:
        """Yield the lines by the ranks of those who come first in them; nothing may change meanwhile."""
        numbers = itertools.count()
        frontier: list[tuple[Rank, int, int, Line | None]] = []

        def add(place: int) -> None:
            if place < len(self._heap):
                heapq.heappush(frontier, (self._heap[place][0], next(numbers), place, None))

        add(0)
        while frontier:
            rank, _, place, line = heapq.heappop(frontier)
            if line is not None:
                yield rank, line
                continue
            add(2 * place + 1)
            add(2 * place + 2)
            line = self._heap[place][2]
            head = line.head() if _is_present(self._heap[place]) else None
            if head is not None:  # it may come later than where its line stands
                heapq.heappush(frontier, (line.rank(head, by_size=False), next(numbers), place, line))

    def in_order(self) -> Iterator[tuple[Line, Unit]]:
        """Yield those who wait, who comes first first; nothing may change meanwhile."""
        numbers = itertools.count()
        frontier: list[tuple[Rank, int, int, Line | None, Iterator[Unit], Unit | None]] = []

        def add(place: int) -> None:
            if place < len(self._heap):
                heapq.heappush(frontier, (self._heap[place][0], next(numbers), place, None, iter(()), None))

        add(0)
        while frontier:
            _, _, place, line, rest, unit = heapq.heappop(frontier)
            if line is not None and unit is not None:
                yield line, unit
            else:  # a place of the heap: its line comes in, and so do the two places below
                add(2 * place + 1)
                add(2 * place + 2)
                if not _is_present(self._heap[place]):
                    continue
                line = self._heap[place][2]
                rest = line.units()
            following = next(rest, None)
            if following is not None:
                rank = line.rank(following, by_size=False)
                heapq.heappush(frontier, (rank, next(numbers), place, line, rest, following))

    def ahead_of(self, rank: Rank) -> Ahead:
        """Count who stands before a rank."""
        count, looks, places = 0, LOOKS_MAX, [0]
        while places:
            place = places.pop()
            if place >= len(self._heap) or self._heap[place][0] >= rank:
                continue  # nor does anybody below
            if looks <= 0:
                return Ahead(count, is_all=False)
            looks -= 1
            places += (2 * place + 1, 2 * place + 2)
            if _is_present(self._heap[place]):
                number, looked = self._heap[place][2].count_before(rank, looks)
                count, looks = count + number, looks - looked
        return Ahead(count, is_all=looks > 0)


def _is_present(entry: tuple[Rank, int, Line]) -> bool:
    stands_at = entry[2].stands_at
    return stands_at is not None and stands_at[1] == entry[1]
