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
from .quota_sketch import QuotaSketch
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
        quota: QuotaSketch | None,
        begin: Callable[[Line, Source[T]], T],
    ) -> None:
        self.queue = queue
        self.environments = environments
        self.standing = standing
        self.quota = quota
        self.is_strict = queue.dispatch_order is DispatchOrder.STRICT
        self.by_size = False
        """Whether units are served by size, as one that comes before them cannot start."""
        self.is_closed = False
        self.taken: list[Line] = []
        self._lines = lines
        self._begin = begin
        self._turns: dict[str, list[tuple[Rank, int, T]]] = {}
        self._shares: list[tuple[float, str]] = []
        """A heap: by whose turn it is; entries with other than the present scores are old."""
        self._scores: dict[str, float] = {}
        for share in lines.shares_to_ask(queue.name):
            self._list(share)

    def _list(self, share: str) -> None:
        """Let a share have its turn by what it has now, if any of its units are left."""
        if self._turns.get(share) or self._lines.next_line(self.queue.name, share, self.by_size) is not None:
            score = self._score(share)
            if self._scores.get(share) != score:
                self._scores[share] = score
                heapq.heappush(self._shares, (score, share))
        else:
            self._scores.pop(share, None)

    @property
    def takes_turns(self) -> bool:
        """Whether after each unit it may be another share's turn."""
        return self.standing is not None or self.quota is not None

    def _score(self, share: str) -> float:
        if self.quota is None:
            return self.standing.score(share) if self.standing is not None else 0.0
        begun = self._turns.get(share)
        asked = self._lines.next_line(self.queue.name, share, self.by_size)
        if begun and (asked is None or begun[0][0] < asked[0]):
            return self.quota.score(begun[0][0], begun[0][2].line.shape)
        assert asked is not None, "somebody is left in the share"
        return self.quota.score(asked[0], asked[1].shape)

    def serve_by_size(self) -> None:
        """Serve units by size from now on."""
        if not self.by_size:
            self.by_size = True
            turns = [turn for heap in self._turns.values() for _, _, turn in heap]
            self._turns.clear()
            for turn in turns:
                self.put(turn)
            if self.quota is not None:  # who comes first decides whether a share borrows
                for share in list(self._scores):
                    self._list(share)

    def put(self, turn: T) -> None:
        """Let a line go on when its next unit's turn comes."""
        if turn.head is not None:
            heap = self._turns.setdefault(turn.line.shape.share, [])
            heapq.heappush(heap, (self.rank(turn), id(turn), turn))

    def rank(self, turn: T) -> Rank:
        """Return where the next unit of a line stands."""
        assert turn.head is not None, "nobody is left in this line"
        return turn.line.rank(turn.head, self.by_size)

    def next_rank(self) -> Rank | None:
        """Return the rank of the next unit; None when there is nobody."""
        while self._shares and not self.is_closed:
            score, share = self._shares[0]
            if score != self._scores.get(share):
                heapq.heappop(self._shares)
                continue
            asked = self._lines.next_line(self.queue.name, share, self.by_size)
            begun = self._turns.get(share)
            if asked is None and not begun:
                self._list(share)
                continue
            return min([each[0] for each in (asked, begun[0] if begun else None) if each is not None])
        return None

    def next_line(self) -> Line | None:
        """Return the line of the next unit, before any has begun."""
        if self.next_rank() is None:
            return None
        asked = self._lines.next_line(self.queue.name, self._shares[0][1], self.by_size)
        return asked[1] if asked is not None else None

    def take(self) -> T:
        """Take the line of the unit of which the rank was told last."""
        share = self._shares[0][1]
        asked = self._lines.next_line(self.queue.name, share, self.by_size)
        begun = self._turns.get(share)
        if begun and (asked is None or begun[0][0] < asked[0]):
            return heapq.heappop(begun)[2]
        self.taken.append(self._lines.take_next(self.queue.name, share, self.by_size))
        return self._begin(self.taken[-1], self)

    def next_of_more(self, turn: T) -> Rank | None:
        """Return the rank of the next unit after that of a line, as there are more lines to ask of its share."""
        self._list(turn.line.shape.share)
        return self.next_rank()

    def note_placed(self, turn: T) -> None:
        """Let a share hold more."""
        if self.standing is not None:
            self.standing.take(turn.line.shape.share, turn.line.shape.resources.cpu_millis)

    def note_served(self, turn: T) -> None:
        """Let a line go on when its next unit's turn comes, and its share when it is its own."""
        self.put(turn)
        self._list(turn.line.shape.share)
