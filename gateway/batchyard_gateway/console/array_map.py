"""
Array map: the children of an array as cells of a picture, each some neighbours.

Pure: counts of states in, squares with words out. Law: of a cell the worst is seen,
by colour and by mark, and all of it is in its title.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from batchyard.states import ACTIVE_STATES, WAITING_STATES, JobState

CELLS_MAX = 1_000
"""As long as each is one child."""

WIDE_CELLS_MAX = 500
"""Of arrays with more children: what the picture weighs is mostly numbers of children."""

COLUMNS = 40
INDEXES_MAX = 1_000
"""Of one state that are written out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """
    Some neighbouring children.

    Attributes:
        kind: ``failed`` if any has; else ``active``, ``waiting`` or ``done``.
        words: How many are in each state.
    """

    first: int
    last: int
    kind: str
    words: str

    @property
    def which(self) -> str:
        """Their indexes."""
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayMap:
    """
    The picture.

    Attributes:
        width: Children a cell; the last may have fewer.
    """

    cells: Sequence[Cell]
    width: int

    @property
    def rows(self) -> list[Sequence[Cell]]:
        """The cells, row by row."""
        return [self.cells[start : start + COLUMNS] for start in range(0, len(self.cells), COLUMNS)]

    @property
    def lines(self) -> list[tuple[int, str, str]]:
        """The same in words: first index, which, and how many are where; neighbours all in one state are one line."""
        found: list[Cell] = []
        for cell in self.cells:
            before = found[-1] if found else None
            if before is not None and before.words == cell.words and cell.words in _ALL:
                found[-1] = replace(before, last=cell.last)
            else:
                found.append(cell)
        return [(cell.first, cell.which, cell.words) for cell in found]


_ALL = frozenset(f"all {state}" for state in JobState)


def map_of(size: int, width: int, counts: Sequence[Mapping[str, int]]) -> ArrayMap:
    """
    Return the picture of an array.

    Args:
        size: Of the array.
        width: Children a cell; the last may have fewer.
        counts: Of each cell, by state.
    """
    cells = []
    for number, of in enumerate(counts):
        first, last = number * width, min((number + 1) * width, size) - 1
        states = [state for state in JobState if of.get(state)]
        words = f"all {states[0]}" if len(states) == 1 else ", ".join(f"{of[state]:,} {state}" for state in states)
        cells.append(Cell(first=first, last=last, kind=_kind(of), words=words))
    return ArrayMap(cells=cells, width=width)


def cells_max(size: int) -> int:
    """Return of how many cells the picture of an array of a size is at most."""
    return CELLS_MAX if size <= CELLS_MAX else WIDE_CELLS_MAX


def shape_of(size: int) -> dict[str, int]:
    """Return the picture's room before its cells are known: children a cell (*width*), *columns* and *lines*."""
    width = -(-size // cells_max(size))
    cells = -(-size // width)
    return {"width": width, "columns": min(cells, COLUMNS), "lines": -(-cells // COLUMNS)}


def ranges(indexes: Iterable[int]) -> str:
    """Return indexes, in order, as text; neighbours as ``3-5``."""
    spans: list[list[int]] = []
    for index in indexes:
        if spans and spans[-1][1] == index - 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _kind(counts: Mapping[str, int]) -> str:
    if counts.get(JobState.FAILED):
        return "failed"
    if any(counts.get(state) for state in ACTIVE_STATES):
        return "active"
    return "waiting" if any(counts.get(state) for state in WAITING_STATES) else "done"
