"""
Gang clearings: whom to stop on several hosts at once, so that all nodes of a job can start.

Each node is given the host where least has to be stopped, hosts that have room first; who
leaves for one node makes room for others where he is a gang himself. What was chosen is put
back where not all nodes find a place. Laws: nobody is stopped for a gang that would still
not fit; and all of its hosts are kept for it, those that had room too, or none.

So much is looked at and no more, as all of it is one step of a plan: a gang for which that is
not enough waits until others end.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Protocol

from batchyard.ids import JobId
from batchyard_controller.core.model.settings import ComputeEnvironment
from batchyard_controller.core.model.units import Unit

from .bounds import Draw
from .fleet import STARTS
from .gangs import able_hosts, can_spread, free_hosts
from .kinds import Mask
from .line import NOBODY, Shape
from .preemption import Occupant
from .quotas import total_use
from .reservations import Reservation
from .room import roomiest, takers, wanted_hosts
from .situation import Situation
from .sketch import Sketch
from .vacancies import Clearing, Vacancies

LOOKS_MAX = 160
"""So often it is looked on hosts for whom to stop for one gang, in about 20 ms; its nodes are no more than that."""
_HOSTS_RECKONED = 32
"""Of hosts on which somebody would be stopped so many are compared beyond those that a part needs."""

_Priced = list[tuple[tuple[int, ...], int]]
"""A heap: rows of hosts by what has to be stopped there, as it was when last looked at."""


class Cleared(Protocol):
    """The cleared hosts of a plan, as far as a search asks for them."""

    vacancies: Vacancies
    looked_at: int

    def recalled(self, job_id: JobId) -> list[int]:
        """Return rows of hosts on which others were stopped for a gang before a restart, and still are."""

    def occupied(
        self, shape: Shape, environment: ComputeEnvironment, wanted: Mask | None, barred: Sequence[int]
    ) -> list[int]:
        """Return the rows of hosts that could take a unit but for who is there; those with most of what is asked first."""

    def promise(self, shape: Shape, unit: Unit, environment: ComputeEnvironment, row: int, part: int) -> Reservation:
        """Return the promise of a cleared host."""

    def victims(self, wanted: Clearing) -> tuple[Occupant, ...] | None:
        """Return whom to stop so that one has room on a host; None if that does not do."""

    def fits(self, wanted: Clearing) -> Callable[[Sequence[Occupant]], bool]:
        """Return what says whether a host has room for one without some who are there."""

    def price(self, victims: Sequence[Occupant]) -> tuple[int, ...]:
        """Return how much some count whose stopping would do."""

    def keep(self, kept: Clearing) -> None:
        """Have a host cleared from now on."""

    def take_back(self, kept: Clearing) -> None:
        """Have it cleared no more."""


class GangSearch:
    """
    The places of all nodes of a gang, whoever has to go for them.

    Args:
        cleared: The cleared hosts of the plan; those of the gang come to them.
        situation: What the plan is made from.
        sketch: What it reckons on.
        shape: What the gang asks.
        unit: Its first node.
        barred: Rows of hosts that are kept for others.
        draw: What it takes of bounds.
    """

    def __init__(
        self,
        cleared: Cleared,
        situation: Situation,
        sketch: Sketch,
        shape: Shape,
        unit: Unit,
        barred: Sequence[int],
        draw: Draw,
    ) -> None:
        self._cleared, self._situation, self._sketch = cleared, situation, sketch
        self._shape, self._unit, self._barred, self._draw = shape, unit, barred, draw
        self._seats: list[Clearing] = []
        self._taken: set[int] = set()
        """Rows of hosts that have their node, where each has one."""
        self._known: dict[tuple[int, int], tuple[Occupant, ...]] = {}
        """Whom to stop for a node of a part on a host; for as long as what is chosen for one makes no difference to others."""
        self._is_apart = True
        """Whether it makes none."""
        self.victims: list[Occupant] = []

    def run(self) -> list[int]:
        """Seat all nodes in the first environment where that can be done; return the rows of their hosts, or none."""
        if self._shape.size > LOOKS_MAX:
            return []
        for environment in self._situation.environments_of(self._shape):
            if self._is_large_enough(environment) and self._seat_all(environment) and self._is_rightful():
                return list({kept.row: None for kept in self._seats})
            self._undo()
        return []

    def _is_large_enough(self, environment: ComputeEnvironment) -> bool:
        bound = environment.compute_resources.max_vcpus
        return not bound or self._shape.resources.cpu_millis <= 1000 * bound

    def _seat_all(self, environment: ComputeEnvironment) -> bool:
        is_spread = self._shape.is_spread or can_spread(self._sketch.fleet, self._shape, environment)
        is_bounded = bool(environment.compute_resources.max_vcpus)
        self._is_apart = is_spread and not is_bounded and self._sketch.quota_of(self._shape.queue) is None
        parts = zip(self._shape.parts, self._shape.singles, strict=True)
        choices = [
            (part.size, place, self._priced(place, single, part.size, environment))
            for place, (part, single) in enumerate(parts)
        ]
        for size, place, priced in sorted(choices, key=lambda choice: len(choice[2])):
            heapq.heapify(priced)
            for _ in range(size):
                row = self._seat_one(place, priced, environment)
                if row is None:
                    return False
                if is_spread:
                    self._taken.add(row)
                else:
                    heapq.heappush(priced, ((0,), row))
        return True

    def _priced(self, place: int, single: Shape, size: int, environment: ComputeEnvironment) -> _Priced:
        """Return the hosts on which one node of a part may have its place."""
        fleet, state = self._sketch.fleet, self._sketch.state
        wanted = wanted_hosts(fleet, single, [environment])
        able = takers(fleet, single, [environment], NOBODY) & fleet.usable & (state[STARTS] > 0)
        able = able if wanted is None else able & wanted
        able[list(self._barred)] = False
        able = self._situation.rankings.awaited(environment, self._sketch, able)
        roomy = free_hosts(fleet, state, single, environment, self._sketch) & able
        free: list[int] = roomiest(state, roomy.nonzero()[0], single)[:LOOKS_MAX].tolist()
        known = able_hosts(fleet, single, environment)
        found: dict[int, tuple[int, ...]] = dict.fromkeys(
            [*(row for row in self._cleared.recalled(self._unit.job.id) if known[row]), *free], (0,)
        )
        most = _HOSTS_RECKONED + max(0, size - len(found))
        occupied = [row for row in self._cleared.occupied(single, environment, wanted, self._barred) if able[row]]
        for row in [row for row in occupied if row not in found][:most] if len(free) < size else ():
            victims = self._look(place, row, environment)[1]
            if victims is not None:
                found[row], self._known[place, row] = self._cleared.price(victims), victims
        return [(price, row) for row, price in found.items()]

    def _look(
        self, place: int, row: int, environment: ComputeEnvironment
    ) -> tuple[Clearing, tuple[Occupant, ...] | None]:
        """Look whom to stop on a host for one more node, as things are by now."""
        value = self._cleared.promise(self._shape, self._unit, environment, row, place)
        kept = Clearing(value, row, () if self._seats else self._draw)
        if self._is_apart and (place, row) in self._known:
            return kept, self._known[place, row]
        if self._sketch.quota_of(self._shape.queue) is None and self._cleared.fits(kept)(()):
            return kept, ()
        return kept, self._cleared.victims(kept) if self._cleared.looked_at < LOOKS_MAX else None

    def _seat_one(self, place: int, priced: _Priced, environment: ComputeEnvironment) -> int | None:
        """Give a node the host where least has to be stopped; return its row, or nothing where there is none."""
        while priced:
            _, row = heapq.heappop(priced)
            if row in self._taken:
                continue
            kept, victims = self._look(place, row, environment)
            if victims is None:
                continue
            price = self._cleared.price(victims)
            if priced and price > priced[0][0]:  # more than was thought, after what was chosen since
                heapq.heappush(priced, (price, row))
                continue
            if victims:
                self._cleared.vacancies.evict(row, victims)
                self.victims += victims
                self._is_apart &= all(len(victim.attempt_ids) == 1 for victim in victims)
            self._cleared.keep(kept)
            self._seats.append(kept)
            return row
        return None

    def _is_rightful(self) -> bool:
        """Say whether all who leave for another share could come back only by borrowing, now that all of them leave."""
        quota = self._sketch.quota_of(self._shape.queue)
        if quota is None:
            return True
        for victim in self.victims:
            held = [quota.quota.holdings[name] for name in victim.attempt_ids if name in quota.quota.holdings]
            if held and held[0].share != self._shape.share and quota.later.is_own(held[0].share, total_use(held)):
                return False
        return True

    def _undo(self) -> None:
        for kept in self._seats:
            self._cleared.take_back(kept)
        self._cleared.vacancies.stay(self.victims)
        self._seats.clear()
        self._taken.clear()
        self._known.clear()
        self.victims.clear()
