"""
Gang promises: the hosts on which a gang that cannot start yet will start, all at one time.

As a single unit is promised a host, a gang is promised as many as it needs: those that
have room first, so that what falls free stays free for it, until the last of them does.
Laws: such a promise is a plan's, never a claim, so that nobody holds a part of what he
needs; the hosts of one promise have one start; and as nobody else is promised hosts that
the first could have had, no two gangs wait for each other's. Once the first start that was
promised is put off, only those pass who leave room: so a gang starts within the time that
what runs on its hosts then takes, whoever comes meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from batchyard.resources import RESOURCE_KINDS, Resources
from batchyard_controller.core.model.settings import ComputeEnvironment
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant

from .gangs import can_spread
from .kinds import Mask
from .line import NOBODY, Shape
from .reservations import BoundForecast, Forecast, Held, Reservation
from .room import roomiest, takers, wanted_hosts
from .situation import Situation
from .sketch import Sketch
from .tenants import Tenant

_HOSTS_RECKONED = 32
_ROOMY_TIMES = 2
"""Of many hosts so many times as are needed are reckoned, and 32 at least: those that have most of what is asked."""


@dataclass(frozen=True, slots=True)
class _Seat:
    """A host for some nodes of a gang: when it has room for all that is asked of it."""

    at_ms: int
    part: int
    row: int
    asked: Resources
    nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GangPromise:
    """
    What a promise is reckoned from.

    Attributes:
        free: Hosts that may be promised.
        tenants_of: Tells who holds a host, what the plan has placed included.
        bound_of: Tells what will be left of the bound of an environment.
        hints: What the last plan promised it.
    """

    situation: Situation
    sketch: Sketch
    now: Instant
    shape: Shape
    head: Unit
    free: Mask
    tenants_of: Callable[[int], list[Tenant]]
    bound_of: Callable[[ComputeEnvironment], BoundForecast]
    hints: Sequence[Reservation]

    def make(self) -> list[Held]:
        """Return the reservations of the hosts that have room first, in the environment where that is soonest; nothing if that never comes."""
        found = [each for e in self.situation.environments_of(self.shape) if (each := self._in(e)) is not None]
        if not found:
            return []
        starts_ms, environment, seats = min(found, key=lambda each: each[0])
        return [self._hold(seat, environment, starts_ms) for seat in seats]

    def _in(self, environment: ComputeEnvironment) -> tuple[int, ComputeEnvironment, list[_Seat]] | None:
        at_ms = self.bound_of(environment).reaches(self.shape.resources.cpu_millis, self.now.boot_ms)
        if at_ms is None:
            return None
        seats = self._seats(environment)
        return (max([at_ms, *(seat.at_ms for seat in seats)]), environment, seats) if seats else None

    def _seats(self, environment: ComputeEnvironment) -> list[_Seat]:
        """Return the hosts that are first to have room for all; nothing if there are too few."""
        is_spread = self.shape.is_spread or can_spread(self.sketch.fleet, self.shape, environment)
        choices = [
            (part.size, [*self._choices(place, shape, environment, part.size, is_spread=is_spread)])
            for place, (part, shape) in enumerate(zip(self.shape.parts, self.shape.singles, strict=True))
        ]
        seats: list[_Seat] = []
        for wanted, offered in sorted(choices, key=lambda choice: len(choice[1])):
            taken = {seat.row for seat in seats}
            left = wanted
            for seat in sorted(offered, key=self._order):
                if left > 0 and seat.row not in taken:
                    seats.append(seat)
                    left -= seat.nodes
            if left > 0:
                return [] if is_spread else self._on_one(environment)
        return seats

    def _order(self, seat: _Seat) -> tuple[bool, int, bool, int]:
        """Return by what those are taken first that this round took already, then those that have room first."""
        host_id = self.sketch.fleet.ids[seat.row]
        is_kept = any(hint.is_made and (hint.host_id, hint.part) == (host_id, seat.part) for hint in self.hints)
        return not is_kept, seat.at_ms, not self._was_promised(seat.row), seat.row

    def _choices(
        self, part: int, shape: Shape, environment: ComputeEnvironment, number: int, *, is_spread: bool
    ) -> Iterator[_Seat]:
        """Yield what hosts could offer to the nodes of a part."""
        for row in self._rows(shape, environment, number):
            nodes = 1 if is_spread else min(number, self._times(shape.resources, row))
            asked = shape.resources * nodes
            at_ms = self._forecast(row, shape).run(asked, self.tenants_of(row), _NO_BOUND, self.now.boot_ms)
            if at_ms is not None:
                yield _Seat(at_ms, part, row, asked, nodes)

    def _on_one(self, environment: ComputeEnvironment) -> list[_Seat]:
        """Return the host that is first to have room for all nodes."""
        found = []
        for row in self._rows(self.shape, environment, 1):
            forecast = self._forecast(row, self.shape)
            at_ms = forecast.run(self.shape.resources, self.tenants_of(row), _NO_BOUND, self.now.boot_ms)
            if at_ms is not None:
                found.append(_Seat(at_ms, 0, row, self.shape.resources, self.shape.size))
        return sorted(found, key=self._order)[:1]

    def _rows(self, shape: Shape, environment: ComputeEnvironment, number: int) -> list[int]:
        fleet = self.sketch.fleet
        able = takers(fleet, shape, [environment], NOBODY) & self.free
        wanted = wanted_hosts(fleet, shape, [environment])
        rows = self.situation.rankings.awaited(
            environment, self.sketch, able if wanted is None else able & wanted
        ).nonzero()[0]
        most = max(_HOSTS_RECKONED, _ROOMY_TIMES * number)
        if len(rows) <= most:
            return list(map(int, rows))
        best: Collection[int] = roomiest(self.sketch.state, rows, shape)[:most].tolist()
        return sorted({*best, *(int(row) for row in rows if self._was_promised(int(row)))})

    def _was_promised(self, row: int) -> bool:
        return any(hint.host_id == self.sketch.fleet.ids[row] for hint in self.hints)

    def _times(self, asked: Resources, row: int) -> int:
        """Return how many nodes an empty host has room for."""
        has = self.sketch.fleet.capacity[:, row].tolist()
        amounts = [getattr(asked, kind) for kind in RESOURCE_KINDS]
        fits = [int(there // each) for there, each in zip(has, amounts, strict=True) if each]
        return max(1, min(fits, default=1))

    def _forecast(self, row: int, shape: Shape) -> Forecast:
        fleet = self.sketch.fleet
        gpus = fleet.wanted_gpus(row, shape.access, self.sketch.gpus_of(row))
        return Forecast(self.sketch.state[:4, row].tolist(), gpus)

    def _hold(self, seat: _Seat, environment: ComputeEnvironment, starts_ms: int) -> Held:
        """Reserve a host from when the whole gang can start."""
        then = self._forecast(seat.row, self.shape.singles[0])
        then.go_on(self.tenants_of(seat.row), starts_ms)
        beside = self.shape.resources.cpu_millis - seat.asked.cpu_millis
        then.vcpus_left = self.bound_of(environment).left_at(starts_ms) - beside
        host_id = self.sketch.fleet.ids[seat.row]
        value = self.situation.promise(self.shape, self.head, environment.name, host_id, starts_ms, self.now)
        turns_away = any(hint.turns_away for hint in self.hints if hint.host_id == host_id)
        promised_ms = min([value.promised_ms, *(hint.promised_ms for hint in self.hints)])
        is_overdue = any(hint.is_overdue for hint in self.hints)
        is_bounded = bool(environment.compute_resources.max_vcpus)
        # Who passes because he ends in time does so while that is kept: of many hosts one is always later than was thought.
        value = replace(
            value,
            promised_ms=promised_ms,
            patient_until_ms=self.now.boot_ms,
            is_overdue=is_overdue,
            part=seat.part,
        )
        return Held(value, seat.row, seat.asked, then, is_bounded, turns_away)


_NO_BOUND = BoundForecast(1 << 62, ())
