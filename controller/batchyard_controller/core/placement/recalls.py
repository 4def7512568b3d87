"""
Recalls: who is stopped so that a unit of a quota share has its capacity, and room.

Laws: for another share only attempts of shares are stopped that use more than their own, and
only for a unit that stays within its share's own; of each of them it is true afterwards that
it could start again only by borrowing. So no two shares stop each other in turn. In a share
that says so those of lower scheduling priority are stopped, as in `preemption`. Borrowers come
first, and of them whoever counts least.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from batchyard.ids import AttemptId
from batchyard_controller.core.model.settings import JobQueue

from .line import Shape
from .preemption import Occupant, choose_victims, is_spent, may_preempt, worth
from .quota_sketch import QuotaSketch
from .quotas import Holding, Use, total_use

_BORROWERS_RECKONED = 256
"""Of those on other hosts so many that come first."""


class Recall:
    """
    Whom to stop for one unit of a quota share.

    Args:
        queues: All.
        sketch: Of the queue.
        shape: What the unit asks.
        use: What of its share's capacity.
        evicted: Who is stopped already in this plan.
    """

    def __init__(
        self,
        queues: Mapping[str, JobQueue],
        sketch: QuotaSketch,
        shape: Shape,
        use: Use,
        evicted: Collection[AttemptId],
    ) -> None:
        self._queues, self._shape, self._use, self._evicted = queues, shape, use, evicted
        self._later, self._holdings = sketch.later, sketch.quota.holdings
        self._share = sketch.quota.ledger.shares.get(shape.share)
        self._is_own = self._later.is_own(shape.share, use)

    def victims(
        self,
        on_host: Sequence[Occupant],
        anywhere: Iterable[Occupant],
        has_room: Callable[[Sequence[Occupant]], bool],
    ) -> tuple[Occupant, ...] | None:
        """
        Choose whom to stop; nobody where nobody must be, None where that would not do.

        Args:
            on_host: Who is where it would start.
            anywhere: Who is on the hosts of its queue's attempts.
            has_room: Whether it has room without some who are there.
        """
        first = choose_victims(self._in_order(on_host), has_room, self._may_leave)
        if first is None or self._is_enough(first):
            return first
        known = {each.name for each in first}
        others = []
        for each in self._in_order(anywhere):  # nodes of one job are on many hosts
            if each.name not in known and self._held(each):
                known.add(each.name)
                others.append(each)
        more = choose_victims(
            others[:_BORROWERS_RECKONED],
            lambda some: self._is_enough((*first, *some)),
            lambda some: self._may_leave((*first, *some)),
        )
        if more is None:
            return None
        chosen = [*first, *more]
        for each in reversed(first):
            rest = [other for other in chosen if other is not each]
            if has_room([other for other in rest if other in on_host]) and self._is_enough(rest):
                chosen = rest
        return tuple(chosen)

    def _in_order(self, occupants: Iterable[Occupant]) -> list[Occupant]:
        """Return of some those who may be stopped, who is to be stopped first first."""
        found = []
        for place, each in enumerate(occupants):
            if each.name in self._evicted or is_spent(each):
                continue
            borrows = self._is_of_borrower(each)
            if borrows or self._is_lower(each):
                found.append(((not borrows, *worth(self._queues, each), -place), each))  # of equals the last one
        return [each for _, each in sorted(found, key=lambda pair: pair[0])]

    def _is_of_borrower(self, occupant: Occupant) -> bool:
        """Say whether an attempt is of another share of the queue that uses more than its own of what it uses."""
        held = self._held(occupant)
        if not held or not self._is_own or held[0].share == self._shape.share:
            return False
        return any(self._later.borrows(holding.share, holding.use) for holding in held)

    def _is_lower(self, occupant: Occupant) -> bool:
        """Say whether an attempt is of another queue, or the same share, and may be stopped for its lower rank."""
        if occupant.queue != self._shape.queue:
            return may_preempt(self._queues, self._shape, occupant)
        if occupant.share != self._shape.share or self._share is None or not self._share.in_share_preemption:
            return False
        return occupant.priority < self._shape.priority

    def _is_enough(self, chosen: Sequence[Occupant]) -> bool:
        """Say whether the unit may use what it asks without some attempts."""
        self._leave(chosen, -1)
        is_enough = not self._later.lacks(self._shape.share, self._use)
        self._leave(chosen, 1)
        return is_enough

    def _may_leave(self, chosen: Sequence[Occupant]) -> bool:
        """Say whether each of some that is of another share could come back, with all its nodes, only by borrowing."""
        self._leave(chosen, -1)
        others = (held for held in map(self._held, chosen) if held and held[0].share != self._shape.share)
        is_rightful = not any(self._later.is_own(held[0].share, total_use(held)) for held in others)
        self._leave(chosen, 1)
        return is_rightful

    def _held(self, occupant: Occupant) -> list[Holding]:
        """Return what is counted of what leaves with one."""
        return [self._holdings[name] for name in occupant.attempt_ids if name in self._holdings]

    def _leave(self, occupants: Sequence[Occupant], sign: int) -> None:
        for occupant in occupants:
            for holding in self._held(occupant):
                self._later.add(holding.share, holding.use, sign)
