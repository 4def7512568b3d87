"""
Source: a queue in a plan, from which its lines come to be served in its order.

The share goes first whose turn it is, and of it the line whose first ranks first. Law: in
whatever slices lines are asked, their units come in one order.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from batchyard_controller.core.model.settings import ComputeEnvironment, DispatchOrder, JobQueue
from batchyard_controller.core.model.units import Unit

from .line import Line, Rank
from .lines import Lines
from .shares import Standing


class Turn(Protocol):
    """A line's part in a plan."""

    line: Line
    head: Unit | None


T = TypeVar("T", bound=Turn)


class Source(Generic[T]):
    """A queue of which lines are yet to be served."""

    def __init__(
        self,
        queue: JobQueue,
        environments: tuple[ComputeEnvironment, ...],
        lines: Lines,
        standing: Standing | None,
        begin: Callable[[Line, Source[T]], T],
    ) -> None:
        self.queue = queue
        self.environments = environments
        self.standing = standing
        self.is_strict = queue.dispatch_order is DispatchOrder.STRICT
        self.by_size = False
        """Whether units are served by size, as one that comes before them cannot start."""
        self.is_closed = False
        self.taken: list[Line] = []
        self._lines = lines
        self._begin = begin
        self._turns: dict[str, list[tuple[Rank, int, T]]] = {}
        self._shares: list[tuple[float, str]] = []
        """A heap: by how much its turn it is; scores may have risen since."""
        self._listed: set[str] = set()
        for share in lines.shares_to_ask(queue.name):
            self._list(share)

    def _list(self, share: str) -> None:
        if share not in self._listed:
            self._listed.add(share)
            heapq.heappush(self._shares, (self._score(share), share))

    def _score(self, share: str) -> float:
        return self.standing.score(share) if self.standing is not None else 0.0

    def serve_by_size(self) -> None:
        """Serve units by size from now on."""
        if not self.by_size:
            self.by_size = True
            turns = [turn for heap in self._turns.values() for _, _, turn in heap]
            self._turns.clear()
            for turn in turns:
                self.put(turn)

    def put(self, turn: T) -> None:
        """Let a line go on when its next unit's turn comes."""
        if turn.head is not None:
            heap = self._turns.setdefault(turn.line.shape.share, [])
            heapq.heappush(heap, (self.rank(turn), id(turn), turn))
            self._list(turn.line.shape.share)

    def rank(self, turn: T) -> Rank:
        """Return where the next unit of a line stands."""
        assert turn.head is not None, "nobody is left in this line"
        return turn.line.rank(turn.head, self.by_size)

    def next_rank(self) -> Rank | None:
        """Return the rank of the next unit; None when there is nobody."""
        while self._shares and not self.is_closed:
            score, share = self._shares[0]
            asked = self._lines.next_rank(self.queue.name, share, self.by_size)
            begun = self._turns.get(share)
            if not begun and asked is None:
                heapq.heappop(self._shares)
                self._listed.remove(share)
            elif score != self._score(share):
                heapq.heapreplace(self._shares, (self._score(share), share))
            elif begun:
                return min(asked, begun[0][0]) if asked is not None else begun[0][0]
            else:
                return asked
        return None

    def take(self) -> T:
        """Take the line of the unit of which the rank was told last."""
        share = self._shares[0][1]
        asked = self._lines.next_rank(self.queue.name, share, self.by_size)
        begun = self._turns.get(share)
        if begun and (asked is None or begun[0][0] < asked):
            return heapq.heappop(begun)[2]
        self.taken.append(self._lines.take_next(self.queue.name, share, self.by_size))
        return self._begin(self.taken[-1], self)

    def note_placed(self, turn: T) -> None:
        """Let a share wait for its next turn, now that it holds more."""
        if self.standing is not None:
            self.standing.take(turn.line.shape.share, turn.line.shape.resources.cpu_millis)
