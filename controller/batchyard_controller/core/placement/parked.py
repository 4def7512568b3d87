"""
Parked lines: those that were refused, of which the first alone are asked, as long as none like them finds room.

Lines that differ only in what decides their order (definition, timeout) are alike: where no
host has room for one, none has for the others, and a plan gives nothing back. So of those
that are alike the first by due time and the first by size are asked again, and the next
ones when these are placed. Law: plans place and promise as if all were asked.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from .line import Line, Rank, Shape

_Ranked = list[tuple[Rank, int, Line]]
"""A heap: rank, number, line."""


class Parked:
    """The lines that are alike, while a round of plans asks them."""

    def __init__(self) -> None:
        self._by_due: _Ranked = []
        self._by_size: _Ranked = []
        self._parked: dict[int, Line] = {}
        self._shown: dict[int, Line] = {}
        """Those that are asked, and of which none has been placed."""

    def add(self, line: Line, by_due: Rank, by_size: Rank) -> None:
        """Park a line of which the first stands there."""
        heapq.heappush(self._by_due, (by_due, id(line), line))
        heapq.heappush(self._by_size, (by_size, id(line), line))
        self._parked[id(line)] = line

    def has(self, line: Line) -> bool:
        """Say whether a line is parked."""
        return id(line) in self._parked

    def was_shown(self, line: Line) -> bool:
        """Say whether this is the first of a line to be placed, that was asked for others like it."""
        return self._shown.pop(id(line), None) is not None

    def take_first(self, refused: Mapping[Shape, Line]) -> list[Line]:
        """Take those that are to be asked next: the first by due time and the first by size of those that still wait."""
        found = []
        for heap in (self._by_due, self._by_size):
            while heap:
                line = heapq.heappop(heap)[2]
                if self._parked.pop(id(line), None) is not None and refused.get(line.shape) is line:
                    self._shown[id(line)] = line
                    found.append(line)
                    break
        return found

    def take_all(self) -> list[Line]:
        """Take all."""
        lines = list(self._parked.values())
        self._parked.clear()
        return lines
