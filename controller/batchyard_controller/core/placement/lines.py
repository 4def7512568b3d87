"""
Lines: who waits for a host, in which order.

Runnable units stand in lines, one for each shape. Lines are asked in the order of their
first: by scheduling priority, then by due time, or, where somebody is passed, by size.
Law: a line is either among those to ask, under a rank that is not behind its first as far
as times were known then, or refused; so a plan looks at those that it asks, and not at all
lines.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.settings import DispatchOrder
from batchyard_controller.core.model.units import Unit, unit_at

from .due_times import DueTimes
from .heads import Heads
from .line import Alike, Line, Rank, Shape
from .parked import Parked
from .refusals import HeldBack

_Asked = list[tuple[Rank, int, Line]]
"""A heap: rank, ticket, line."""

_OLD_MIN = 256
_OLD_A_LINE = 4
"""With more entries than that it is worth leaving out the old ones."""


@dataclass(slots=True)
class _Turns:
    """Lines of one share that are to be asked, each in both heaps."""

    by_due: _Asked = field(default_factory=list)
    by_size: _Asked = field(default_factory=list)


class Lines:
    """All lines, by queue and shape."""

    def __init__(self, due_times: DueTimes) -> None:
        self.due_times = due_times
        self._by_queue: dict[str, dict[Shape, Line]] = {}
        self._to_ask: dict[str, dict[str, _Turns]] = {}
        """By queue and share."""
        self._heads: dict[str, dict[str, Heads]] = {}
        """By queue and share; of all lines."""
        self._refused: dict[Shape, Line] = {}
        """Who was refused longest ago comes first."""
        self._to_reckon: list[Line] | None = None
        """Those of the lines to ask that have yet to be put in order while a round begins; None before it does."""
        self._to_park: list[Line] = []
        """Those of the refused lines that have yet to be looked at then."""
        self._stopping: set[Shape] = set()
        """Of lines in queues in which nobody passes: those that this round has refused."""
        self._parked: dict[Alike, Parked] = {}
        """Of this round, or the last."""
        self._tickets = itertools.count()
        self.gpu_arrivals = 0
        """How many units that ask for GPUs took a place in line, ever."""
        self.is_in_round = False
        """Whether some lines have been asked, and others have yet to be."""
        self.lets_go = False
        """Whether something came of this round itself for which some may go whom it refused: they are asked in the next."""

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
            self._ask(line)
        elif self._parked and line.alike in self._parked and self._parked[line.alike].has(line):
            self.resume(shape)  # it may come before others like it
        elif line.stands_at is not None and (job.seq, start) < line.stands_at[0][3:]:
            self._stand(line, line.rank(unit_at(job, start), by_size=False))

    def _stand(self, line: Line, rank: Rank) -> None:
        """Let a line stand among the heads of its share where its first does, unless it stands before that."""
        if line.stands_at is None or rank < line.stands_at[0]:
            self._heads.setdefault(line.shape.queue, {}).setdefault(line.shape.share, Heads()).put(line, rank)

    def _ask(self, line: Line) -> None:
        """Put a line among those to ask, by what is known now of its times; one in which nobody stands is left out."""
        head = line.head()
        if head is not None:
            line.timing = self.due_times.timing(line.shape)
            line.asked_under = head.place
            self._put(line, head)

    def _put(self, line: Line, head: Unit) -> None:
        line.ticket = next(self._tickets)
        turns = self._to_ask.setdefault(line.shape.queue, {}).setdefault(line.shape.share, _Turns())
        ranks = line.rank(head, by_size=False), line.rank(head, by_size=True)
        self._stand(line, ranks[0])
        for heap, rank in zip((turns.by_due, turns.by_size), ranks, strict=True):
            heapq.heappush(heap, (rank, line.ticket, line))
            if len(heap) > _OLD_MIN + _OLD_A_LINE * len(self._by_queue[line.shape.queue]):
                heap[:] = [asked for asked in heap if asked[1] == asked[2].ticket]
                heapq.heapify(heap)

    def remove(self, shape: Shape, job: Job, start: int, stop: int) -> None:
        """Let a job, or children of an array, wait no longer; a line that nobody stands in is forgotten."""
        line = self.find(shape)
        if line is not None:
            line.remove(job, start, stop)
            if not line:
                del self._by_queue[shape.queue][shape]
                self._refused.pop(shape, None)
                line.ticket = -1
                self._heads[shape.queue][shape.share].drop(line)

    def shares_to_ask(self, queue: str) -> list[str]:
        """Return the shares of a queue of which lines may be to be asked."""
        turns = self._to_ask.get(queue, {})
        for share in [share for share in turns if self.next_line(queue, share, by_size=False) is None]:
            del turns[share]
        return list(turns)

    def next_line(self, queue: str, share: str, by_size: bool) -> tuple[Rank, Line] | None:
        """Return the rank of the first unit of a share whose line is to be asked, and that line."""
        turns = self._to_ask.get(queue, {}).get(share)
        if turns is None:
            return None
        heap = turns.by_size if by_size else turns.by_due
        while heap:
            rank, ticket, line = heap[0]
            is_old = ticket != line.ticket
            head = None if is_old else line.head()
            if head is not None and head.place == rank[3:]:
                return rank, line
            heapq.heappop(heap)
            if not is_old:  # those who stood before it have left
                self._ask(line)
        return None

    def stops(self, line: Line, grown: int) -> bool:
        """Say whether a line of a queue in which nobody passes was refused in this round, when the fleet had grown so far."""
        return line.shape in self._stopping and line.refused_at == grown

    def take_next(self, queue: str, share: str, by_size: bool) -> Line:
        """Take the line of that unit; whoever does gives it back."""
        turns = self._to_ask[queue][share]
        line = heapq.heappop(turns.by_size if by_size else turns.by_due)[2]
        line.ticket = -1
        return line

    def give_back(self, lines: Iterable[Line]) -> None:
        """Let lines that were taken be asked again."""
        for line in lines:
            head = line.head()
            if line.asked_under is not None and head is not None:
                self._put(line, head)

    def begin_round(self, grown: int, promised: Iterable[Shape], lines_max: int, with_quotas: Collection[str]) -> bool:
        """
        Begin to ask all lines in their order, unless that is under way; say whether that is done.

        That is the new ones, by what is known now of times and of what their queues ask for, those
        promised a host, and of those that were refused when the fleet had grown less, and are alike, the
        first; all of them in queues *with quotas*, where others may be stopped for them. At most so many lines are looked at at once, so that no turn pays for all of them.
        """
        if self.is_in_round:
            return True
        if self._to_reckon is None:
            shares = (turns for queue in self._to_ask.values() for turns in queue.values())
            self._to_reckon = [line for turns in shares for _, ticket, line in turns.by_due if ticket == line.ticket]
            self._to_park = list(self.refused_before(grown))
            self._parked.clear()
            self._stopping.clear()
        again, self._to_reckon = self._to_reckon[:lines_max], self._to_reckon[lines_max:]
        for line in again:
            self._ask(line)
        most = max(0, lines_max - len(again))
        refused, self._to_park = self._to_park[:most], self._to_park[most:]
        waiting = [queue for queue, lines in self._by_queue.items() if lines]
        parkable = self.due_times.parkable(waiting).difference(with_quotas) if refused else set()
        for line in refused:
            if line.shape.queue in parkable:
                self._park(line, grown)
            else:
                self.resume(line.shape)
        if self._to_reckon or self._to_park:
            return False
        self._to_reckon = None
        firsts = [line.shape for parked in self._parked.values() for line in parked.take_first(self._refused)]
        for shape in (*firsts, *promised):
            self.resume(shape)
        return True

    def _park(self, line: Line, grown: int) -> None:
        """Let a refused line be asked when one like it finds room."""
        head = line.head()
        if head is None or self._refused.get(line.shape) is not line:
            return  # they have left
        line.refused_at, line.held_back = grown, None
        line.timing = self.due_times.timing(line.shape)
        by_due, by_size = line.rank(head, by_size=False), line.rank(head, by_size=True)
        self._stand(line, by_due)
        self._parked.setdefault(line.alike, Parked()).add(line, by_due, by_size)

    def show_next(self, line: Line) -> bool:
        """Ask those like a line that come next, if it is the first time that one of it was placed; say whether there are any."""
        parked = self._parked.get(line.alike) if self._parked else None
        if parked is None or not parked.was_shown(line):
            return False
        shown = parked.take_first(self._refused)
        for each in shown:
            self.resume(each.shape)
        return bool(shown)

    def show_all(self, line: Line) -> None:
        """Ask all that are like a line that was refused though there was room: it may not hold for them."""
        parked = self._parked.get(line.alike) if self._parked else None
        for each in parked.take_all() if parked is not None else ():
            if self._refused.get(each.shape) is each:
                self.resume(each.shape)

    def refused_before(self, grown: int) -> Iterator[Line]:
        """Yield the lines that were refused when the fleet had grown less, longest ago first."""
        return itertools.takewhile(lambda line: line.refused_at != grown, self._refused.values())

    def refuse(self, shape: Shape, grown: int, held_back: HeldBack | None = None) -> None:
        """Note that the first in line could not be placed when the fleet had grown so far; if nobody passes it, ask on."""
        line = self.find(shape)
        if line is None:
            return
        line.refused_at, line.held_back = grown, held_back
        if self.due_times.order_of(shape.queue) is DispatchOrder.STRICT:
            self._stopping.add(shape)
        else:
            line.asked_under, line.ticket = None, -1
            self._refused.pop(shape, None)
            self._refused[shape] = line

    def resume(self, shape: Shape) -> None:
        """Ask a line in its order again, as some of it could be placed."""
        line = self._refused.pop(shape, None)
        if line is not None:
            self._ask(line)

    def heads_of(self, queue: str) -> dict[str, Heads]:
        """Return the heads of each share of a queue of which units wait."""
        heads = self._heads.get(queue, {})
        for share in [share for share, each in heads.items() if each.first() is None]:
            del heads[share]
        return heads

    def first_in(self, queue: str, share: str) -> Line | None:
        """Return the line of who comes first in a share of a queue."""
        heads = self._heads.get(queue, {}).get(share)
        first = heads.first() if heads is not None else None
        return first[1] if first is not None else None

    def shares_of(self, queue: str) -> set[str]:
        """Return the shares of which units of a queue wait."""
        return set(self.heads_of(queue))

    def of_queue(self, queue: str) -> list[Line]:
        """Return the lines of one queue."""
        return list(self._by_queue.get(queue, {}).values())

    def some_of(self, queue: str, limit: int) -> list[Line]:
        """Return lines of one queue, *limit* at most, the oldest first."""
        return list(itertools.islice(self._by_queue.get(queue, {}).values(), limit))

    def find(self, shape: Shape) -> Line | None:
        """Return the line of *shape*, if there is one."""
        return self._by_queue.get(shape.queue, {}).get(shape)

    def drop_queue(self, queue: str) -> None:
        """Forget a deleted queue."""
        for shape in self._by_queue.pop(queue, {}):
            self._refused.pop(shape, None)
        self._to_ask.pop(queue, None)
        self._heads.pop(queue, None)
