"""
Placement: where waiting jobs go, as a plan that leaves nothing to choose.

The fleet keeps what is left of each host in arrays. `make_plan` serves queues by
priority and, among equals, units by due time; within a queue shares take turns. The first
of a priority that does not fit is promised a host, and others pass it where they do not
delay it, the smallest first. Where a queue says so, others are stopped for it. For each unit the ranking of its shape tells
the best host, having looked again only at hosts that changed. A plan holds the
placements, the promises and who was refused, and changes nothing: it reckons on a sketch of the fleet.

A plan may be a slice: it ends after so much work, and the next one, made once this one
is in force, goes on where it stopped, with what is true by then. Law: if nothing else
has happened, slices place as one plan of all would. So the order of service rests on
nothing but priority, rank and promises, and who is refused is refused until the fleet grows.
Where it grows all the time, all lines are asked all the same: of those that were
refused since all were asked last few are asked again in one slice, longest ago first.
"""

from __future__ import annotations

import heapq
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from batchyard_controller.core.model.policies import FairsharePolicy
from batchyard_controller.core.model.settings import JobQueue, Preemption
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant

from .line import Line, Shape
from .preemption import CLEARED_A_LINE, Eviction
from .promises import Promises
from .refusals import HeldBack
from .reservations import Reservation
from .shares import Standing
from .situation import Situation
from .sketch import Sketch
from .source import Source
from .tenants import Stay
from .turn import Placement, Turn

_LINES_A_SLICE = 512
"""So many lines a slice puts in order as a round begins."""
_ORDERED_A_STEP = 8
"""So many in about the time that it takes to place a unit."""
_LINES_A_STEP = 24
"""At so many lines the mix is looked at in about the time that it takes to place a unit."""
_PART_ASKED_AGAIN = 4
"""One step of so many may go to lines that were refused in this round."""
_LAST = (math.inf, 0, 0)


@dataclass(frozen=True, slots=True)
class Plan:
    """
    Placements, promises, and the shapes of which the first left over was refused; a value that can be printed and kept.

    Attributes:
        held_back: What kept those of them from room that there was.
        evictions: Who is to be stopped, and for whom.
        gives_up: Whether somebody is promised a host no more from which others were turned away, who may go now.
        grown: Version of the fleet's growth on which it was reckoned.
        resumed: Shapes that had been refused, and of which some were placed.
        is_whole: Whether there is no use in another before something happens; a slice says no, and so
            does one that has somebody stopped, as his room may let another go who kept some free.
        ends_round: Whether all lines have been asked since a plan last said so, or those of the next round
            have yet to be put in order.
        steps: How much work it was.
    """

    placements: tuple[Placement, ...]
    reservations: tuple[Reservation, ...]
    evictions: tuple[Eviction, ...]
    refused: tuple[Shape, ...]
    resumed: tuple[Shape, ...]
    held_back: tuple[tuple[Shape, HeldBack], ...]
    gives_up: bool
    grown: int
    is_whole: bool
    ends_round: bool
    steps: int


def make_plan(situation: Situation, now: Instant, steps_max: int | None = None) -> Plan:
    """Decide where waiting jobs go now, and who waits on; in about *steps_max* steps of work, if any are said."""
    assert steps_max is None or steps_max > 0, "a plan of no work would be made for ever"
    rankings, lines = situation.rankings, situation.lines
    promised = [reservation.shape for reservation in situation.reservations]
    grown, lines_max = rankings.fleet.grown, _LINES_A_SLICE if steps_max else sys.maxsize
    if not lines.begin_round(grown, promised, lines_max, rankings.fleet.quotas.queues):
        kept, steps = situation.reservations, _LINES_A_SLICE // _ORDERED_A_STEP
        return Plan((), kept, (), (), (), (), False, grown, is_whole=False, ends_round=True, steps=steps)
    looked_at = rankings.packing.begin_round(lines, situation.queues, situation.environments)
    if not lines.is_in_round:
        _set_windows(situation, now)
    service = _Service(situation, now, steps_max)
    service.steps = looked_at // _LINES_A_STEP
    by_priority: dict[int, list[JobQueue]] = {}
    for queue in situation.queues.values():
        by_priority.setdefault(queue.priority, []).append(queue)
    for priority in sorted(by_priority, reverse=True):
        if not service.is_spent:
            service.serve(priority, by_priority[priority])
    return service.finish()


def _set_windows(situation: Situation, now: Instant) -> None:
    """Say how queues with shares remember, by what is known as a round begins."""
    lines, quotas = situation.lines, situation.rankings.fleet.quotas
    for queue in situation.queues.values():
        policy = situation.policies.get(queue.scheduling_policy)
        if policy is not None and quotas.of(queue.name) is None:
            waiting, run_ms = lines.shares_of(queue.name), lines.due_times.mean_ms(queue.name)
            situation.shares.set_window(queue.name, policy.fairshare, waiting, run_ms, now.boot_ms)


class _Service:
    """What a plan has come to."""

    def __init__(self, situation: Situation, now: Instant, steps_max: int | None) -> None:
        self.now = now
        self.situation = situation
        self.rankings = situation.rankings
        self.sketch = Sketch.of(self.rankings.fleet, self.rankings.packing.remainders)
        self.steps = 0
        self.is_spent = False
        self._lines = situation.lines
        self._steps_max = steps_max or sys.maxsize
        self._taken: list[Line] = []
        self._placements: list[Placement] = []
        self._refused: list[Shape] = []
        self._resumed: dict[Shape, None] = {}
        self._held_back: dict[Shape, HeldBack] = {}
        self.promises = Promises(situation, self.sketch, now)
        again_max = max(1, self._steps_max // _PART_ASKED_AGAIN)
        again = list(islice(self._lines.refused_before(self.rankings.fleet.grown), again_max + 1))
        self._asks_all = len(again) <= again_max
        self._again: dict[str, list[Line]] = {}
        for line in again[:again_max]:
            self._again.setdefault(line.shape.queue, []).append(line)

    def serve(self, priority: int, queues: Iterable[JobQueue]) -> None:
        """Place the units of several queues, always the first of them next, until the work is too much."""
        sources = [self._source(queue) for queue in queues]
        self.promises.begin(priority)
        heap = [entry for number, source in enumerate(sources) for entry in self._entry(number, source)]
        heapq.heapify(heap)
        while heap and not self.is_spent:
            _, number, source = heapq.heappop(heap)
            if self.promises.are_made:
                for each in sources:
                    each.serve_by_size()
            if source.next_rank() is not None:
                self._serve_line(source, heap[0][0] if heap else _LAST)
            for entry in self._entry(number, source):
                heapq.heappush(heap, entry)
        for source in sources:
            self._taken += source.taken

    def stay_of(self, shape: Shape) -> Stay:
        """Return for how long units of a shape will hold a host."""
        return self._lines.due_times.stay(shape)

    def _source(self, queue: JobQueue) -> Source[Turn]:
        situation = self.situation
        policy = situation.policies.get(queue.scheduling_policy)
        quota = self.sketch.quota_of(queue.name)
        standing = self._standing(queue.name, policy.fairshare) if policy is not None and quota is None else None
        environments = tuple(situation.environments[name] for name in queue.compute_environments)
        source = Source[Turn](queue, environments, self._lines, standing, quota, Turn)
        first = source.next_line() if source.is_strict else None
        source.is_closed = first is not None and self._lines.stops(first, self.rankings.fleet.grown)
        for line in self._again.get(queue.name, ()):
            source.note_served(Turn(line, source))
        return source

    def _standing(self, queue: str, policy: FairsharePolicy) -> Standing:
        return self.situation.shares.standing(queue, policy, self._lines.shares_of(queue), self.now.boot_ms)

    def _entry(self, number: int, source: Source[Turn]) -> list[tuple[tuple[float, int, int], int, Source[Turn]]]:
        """Return a queue's place among others of its priority: that of its next unit, if there is one."""
        rank = source.next_rank()
        return [] if rank is None else [(rank[2:], number, source)]

    def _serve_line(self, source: Source[Turn], limit: tuple[float, int, int]) -> None:
        """Place units of a queue's next line, up to the next one of another line or queue."""
        turn = source.take()
        other = None if source.takes_turns else source.next_rank()  # after each unit it may be another's turn
        while turn.head is not None:
            rank = source.rank(turn)
            if (other is not None and rank > other) or rank[2:] > limit:
                break
            if self.steps >= self._steps_max:
                self.is_spent = True
                return
            placed = turn.place(self)
            if not placed:
                self._refuse(turn, source)
                if self.is_spent:
                    return
                break
            self._placements += placed
            if turn.was_refused:
                self._resumed[turn.shape] = None
            is_more = self._lines.show_next(turn.line)
            if source.takes_turns:
                source.note_placed(turn)
                break
            if is_more:
                other = source.next_of_more(turn)
        source.note_served(turn)

    def _refuse(self, turn: Turn, source: Source[Turn]) -> None:
        """Note that the first of a line has no room; where the queue says so, have others stopped, unless that is too much work for now."""
        assert turn.head is not None, "the head was refused"
        head = turn.head
        first: Unit | None = head
        if self._may_clear(turn, source):
            first = self._clear(turn, source)
            if self.is_spent:
                return
        self._resumed.pop(turn.shape, None)
        self._refused.append(turn.shape)
        if turn.held_back is not None:
            self._held_back[turn.shape] = turn.held_back
        if not turn.lacks_room or turn.was_held_back:
            self._lines.show_all(turn.line)
        source.is_closed = source.is_strict
        turn.head = None
        borrows = source.quota is not None and not source.quota.is_own(turn.shape)
        if turn.lacks_room and first is not None and not borrows:
            self.steps += self.promises.make(turn.shape, first, turn.wanted)
        elif not turn.lacks_room:
            self.promises.drop(head)

    def _may_clear(self, turn: Turn, source: Source[Turn]) -> bool:
        """Say whether there may be somebody to stop for the first of a line."""
        if turn.lacks_room and source.queue.preemption is not Preemption.NEVER:
            return True
        is_lacking = turn.lacks_room or turn.lacks_quota
        return is_lacking and source.quota is not None and source.quota.has_victims(turn.shape)

    def _clear(self, turn: Turn, source: Source[Turn]) -> Unit | None:
        """Have hosts cleared for the first units of a line; return the first for which none is."""
        has_reservation = source.standing is not None and source.standing.reservation
        at_once = 1 if has_reservation else max(1, CLEARED_A_LINE // turn.shape.size)
        left = most = at_once - self.promises.cleared.number(turn.shape)
        while turn.head is not None:
            if not self.promises.cleared.has(turn.head):
                if left <= 0 or not self.sketch.draws.allow(turn.draw):
                    break
                if left < most and self.steps >= self._steps_max:
                    self.is_spent = True
                    break
                left -= 1
                is_cleared = self.promises.clear(turn.shape, turn.head, turn.wanted, turn.draw)
                self.steps += 1 + self.promises.cleared.looked_at
                if not is_cleared:
                    break
            turn.pass_on()
        return turn.head

    def finish(self) -> Plan:
        """Return the plan, and forget what it reckoned on."""
        self.sketch.throw_away()
        self._lines.give_back(self._taken)
        reservations = self.promises.finish(ends_round=not self.is_spent)
        return Plan(
            tuple(self._placements),
            reservations,
            tuple(self.promises.cleared.evictions),
            tuple(self._refused),
            tuple(self._resumed),
            tuple(self._held_back.items()),
            self.promises.gives_up,
            self.rankings.fleet.grown,
            is_whole=not self.is_spent and self._asks_all and not self.promises.cleared.evictions,
            ends_round=not self.is_spent,
            steps=self.steps,
        )
