"""
Promises: the reservations of a plan while it is made.

A reservation that the last plan made stays with its host as long as that is sound, so
that a promise is reckoned by one host's tenants, and kept. Nobody is promised one of the
hosts that another could have had who was promised one. Laws: a unit is bound by the promises
to its own priority and to higher ones, and never by its own; and all that a slice has to
know of those before it in its round is in the reservations.
Hosts that are cleared for a unit stand beside these (see `clearings`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from batchyard.resources import NOTHING, Resources
from batchyard_controller.core.model.attempts import GpuClaim
from batchyard_controller.core.model.settings import ComputeEnvironment, DispatchOrder
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant

from .bounds import Draw
from .clearings import Clearings
from .gang_promises import GangPromise
from .kinds import Mask
from .line import NOBODY, Shape
from .refusals import HeldBack
from .reservations import BoundForecast, Forecast, Held, Reservation
from .room import roomiest, takers, vcpus_left, wanted_hosts
from .situation import Situation
from .sketch import Sketch
from .tenants import Tenant

_HOSTS_RECKONED = 32
"""Of many hosts those are reckoned that have most of what is asked; the others seldom have room sooner."""
_HOSTS_A_STEP = 4


class Promises:
    """The reservations of a plan, and those of the last one that it has not come to yet."""

    def __init__(self, situation: Situation, sketch: Sketch, now: Instant) -> None:
        self.cleared = Clearings(situation, sketch, now)
        self._situation = situation
        self._sketch = sketch
        self._now = now
        self._priority = 0
        self._held: list[Held] = []
        self._hints = [hint for hint in situation.reservations if not hint.is_cleared]
        if not situation.lines.is_in_round:
            self._hints = [
                replace(hint, is_made=False, is_in_force=False, is_overdue=self._is_overdue(hint))
                for hint in self._hints
            ]
        self._free: Mask | None = None
        """Hosts that nobody of this priority could have had who was promised one, but for *_covering*; None to begin with."""
        self._covering: list[Shape] = []
        self.gives_up = False
        """Whether one was given up from which others had been turned away."""
        self._placed: list[tuple[int, Tenant]] = []
        self.held_back: HeldBack | None = None
        """Why a unit was turned away last, for whoever takes it."""
        for hint in [hint for hint in self._hints if hint.is_in_force]:
            self._priority = hint.priority
            self._restore(hint)

    def begin(self, priority: int) -> None:
        """Come to the queues of a priority."""
        self._priority = priority
        self._free = None
        for hint in [hint for hint in self._hints if hint.is_overdue and self._priority_of(hint) == priority]:
            self._restore(hint)

    @property
    def are_made(self) -> bool:
        """Whether somebody of this priority was promised a host, so that others pass."""
        return any(held.value.priority == self._priority and held.value.is_in_force for held in self._held)

    def _priority_of(self, hint: Reservation) -> int | None:
        queue = self._situation.queues.get(hint.shape.queue)
        return queue.priority if queue is not None else None

    def _is_overdue(self, hint: Reservation) -> bool:
        """
        Say whether a promise of the last round to the first of a share, that was missed, binds before it is its turn.

        Where shares take turns, those that come before it are never through, and would delay it for ever.
        """
        queue = self._situation.queues.get(hint.shape.queue)
        if queue is None or queue.dispatch_order is DispatchOrder.STRICT:
            return False
        if queue.scheduling_policy not in self._situation.policies:
            return False
        if hint.promised_ms > self._now.boot_ms:
            return False
        first = self._situation.lines.next_line(queue.name, hint.shape.share, by_size=False)
        return first is not None and first[1].shape == hint.shape

    def _restore(self, hint: Reservation) -> None:
        """Let bind again what was promised to somebody who still waits."""
        line = self._situation.lines.find(hint.shape)
        units = line.units() if line is not None else iter(())
        head = next((unit for unit in units if not self.cleared.has(unit)), None)
        if head is None or not hint.is_for(head.job.id, head.index):
            return  # it waits no more, or others stand before it
        if hint.shape.parts and self._is_held(head, is_in_force=hint.is_in_force):
            return  # with the first of its hosts
        fleet = self._sketch.fleet
        wanted = wanted_hosts(fleet, hint.shape, self._situation.environments_of(hint.shape))
        self._make(hint.shape, head, fleet.usable, wanted)
        self._is_held(head, is_in_force=hint.is_in_force)

    def _is_held(self, head: Unit, is_in_force: bool) -> bool:
        """Say whether a unit was promised a host, and note whether this round has come to it."""
        mine = [held for held in self._held if held.value.is_for(head.job.id, head.index)]
        for held in mine:  # several of a gang
            held.value = replace(held.value, is_in_force=is_in_force)
        return bool(mine)

    def drop(self, unit: Unit) -> None:
        """Promise nothing to one that starts, or may not start now, whatever room there is."""
        for hint in [hint for hint in self._hints if hint.is_for(unit.job.id, unit.index)]:
            self._hints.remove(hint)
            self.gives_up |= hint.turns_away
        for held in [held for held in self._held if held.value.is_for(unit.job.id, unit.index)]:
            self._held.remove(held)
            self._free = None
            self.gives_up |= held.turns_away

    def make(self, shape: Shape, head: Unit, wanted: Mask | None) -> int:
        """Promise a host to one that was refused, unless others stand before it; return how much work that was."""
        if self._is_held(head, is_in_force=True):
            return 0
        free = self._uncovered()
        if not (free if wanted is None else free & wanted).any():
            return 0
        return self._make(shape, head, free, wanted)

    def _uncovered(self) -> Mask:
        """Return the hosts that nobody of this priority could have had who was promised one."""
        if self._free is None:
            self._free = self._sketch.fleet.usable
            self._covering = [held.value.shape for held in self._held if held.value.priority == self._priority]
        while self._covering:
            shape = self._covering.pop()
            self._free &= ~takers(self._sketch.fleet, shape, self._situation.environments_of(shape), NOBODY)
        return self._free

    def _make(self, shape: Shape, head: Unit, free: Mask, wanted: Mask | None) -> int:
        """Promise one of the *free* hosts, of those *wanted* if any are said, if there ever will be room on one; to a gang several."""
        if shape.parts:
            return self._make_gang(shape, head, free)
        hint = next((hint for hint in self._hints if hint.is_for(head.job.id, head.index)), None)
        environments = self._situation.environments_of(shape)
        candidates = [(e, self._candidates(shape, e, free, wanted, hint)) for e in environments]
        last = [(e, [row]) for e, rows in candidates for row in rows if self._is_last(hint, e, row)]
        found = self._first(shape, head, last) or self._first(shape, head, candidates)
        if hint is not None:
            self._hints.remove(hint)
            self._go_on(found, hint)
        if found is not None:
            self._held.append(found)
            self._covering.append(shape)
        return sum(len(rows) for _, rows in candidates) // _HOSTS_A_STEP

    def _make_gang(self, shape: Shape, head: Unit, free: Mask) -> int:
        """Promise a gang as many of the *free* hosts as it needs, if there ever will be room on so many."""
        hints = [hint for hint in self._hints if hint.is_for(head.job.id, head.index)]
        self._hints = [hint for hint in self._hints if hint not in hints]
        free = free.copy()
        free[[held.row for held in self._held] + self.cleared.rows] = False
        promise = GangPromise(
            situation=self._situation,
            sketch=self._sketch,
            now=self._now,
            shape=shape,
            head=head,
            free=free,
            tenants_of=self._tenants_of,
            bound_of=self._bound,
            hints=hints,
        )
        found = promise.make()
        for held in found:
            self._note_missed(held, hints[0].missed_ms if hints else None)
        hosts = {held.value.host_id for held in found}
        self.gives_up |= any(hint.turns_away for hint in hints if hint.host_id not in hosts)
        self._held += found
        if found:
            self._covering.append(shape)
        return 1 + shape.size // _HOSTS_A_STEP

    def _tenants_of(self, row: int) -> list[Tenant]:
        """Return who holds a host, what was placed in this plan included."""
        tenants = self._situation.tenants.of_host(self._sketch.fleet.ids[row], self._now.boot_ms)
        return tenants + [tenant for placed, tenant in self._placed if placed == row]

    def _is_last(self, hint: Reservation | None, environment: ComputeEnvironment, row: int) -> bool:
        """Say whether it is there that the last plan promised a host."""
        host_id = self._sketch.fleet.ids[row]
        return hint is not None and (hint.environment, hint.host_id) == (environment.name, host_id)

    def _first(self, shape: Shape, head: Unit, candidates: list[tuple[ComputeEnvironment, list[int]]]) -> Held | None:
        """Return the reservation of the host that has room first."""
        found: list[tuple[int, int, Held]] = []
        for order, (environment, rows) in enumerate(candidates):
            if not rows:
                continue
            bound = self._bound(environment)
            for row in rows:
                held = self._reckon(shape, head, environment, row, bound)
                found += [(held.value.starts_ms, order, held)] if held is not None else []
        return min(found, key=lambda each: each[:2], default=(0, 0, None))[2]

    def _go_on(self, held: Held | None, hint: Reservation) -> None:
        """Let a reservation go on as the last one, as far as it is of the same host."""
        if held is not None:
            held.value = replace(held.value, is_overdue=hint.is_overdue)
        if held is not None and hint.host_id == held.value.host_id:
            held.value = replace(held.value, promised_ms=hint.promised_ms)
            held.turns_away = hint.turns_away
            self._note_missed(held, hint.missed_ms)
        else:
            self.gives_up |= hint.turns_away

    def _note_missed(self, held: Held, missed_ms: int | None) -> None:
        """Where a promise lets nobody pass who stays, as it did since *missed_ms*, let all stay who came since."""
        if held.value.is_patient(self._now.boot_ms):
            return
        since_ms = self._now.boot_ms if missed_ms is None else missed_ms
        held.value = replace(held.value, missed_ms=since_ms)

        def stays(tenant: Tenant) -> bool:
            return tenant.came_ms >= since_ms and tenant.ends_ms <= held.value.starts_ms

        for tenant in filter(stays, self._tenants_of(held.row)):
            held.then.add(tenant.resources, tenant.gpus, -1)
        if held.is_bounded:
            spenders = filter(stays, self._spenders(held.value.environment))
            held.then.vcpus_left -= sum(tenant.resources.cpu_millis for tenant in spenders)

    def _candidates(
        self, shape: Shape, environment: ComputeEnvironment, free: Mask, wanted: Mask | None, hint: Reservation | None
    ) -> list[int]:
        """Return the rows of hosts to reckon with: of many those with most of what is asked, and where it was promised."""
        fleet = self._sketch.fleet
        able = takers(fleet, shape, [environment], NOBODY)
        able = self._situation.rankings.awaited(environment, self._sketch, able if wanted is None else able & wanted)
        mask = able & free
        mask[[held.row for held in self._held] + self.cleared.rows] = False
        rows = mask.nonzero()[0]
        if len(rows) > _HOSTS_RECKONED:
            best = roomiest(self._sketch.state, rows, shape)[:_HOSTS_RECKONED]
            row = fleet.rows.get(hint.host_id, -1) if hint is not None else -1
            rows = np.union1d(best, rows[rows == row])
        found: list[int] = rows.tolist()
        return found

    def _bound(self, environment: ComputeEnvironment) -> BoundForecast:
        left = vcpus_left(self._sketch.environment_cpu, environment)
        if not environment.compute_resources.max_vcpus:
            return BoundForecast(left, ())
        return BoundForecast(left, self._spenders(environment.name))

    def _spenders(self, environment: str) -> list[Tenant]:
        """Return who counts towards the bound of an environment, what was placed in this plan included."""
        placed = [tenant for _, tenant in self._placed if tenant.environment == environment]
        return self._situation.tenants.of_environment(environment, self._now.boot_ms) + placed

    def _reckon(
        self, shape: Shape, head: Unit, environment: ComputeEnvironment, row: int, bound: BoundForecast
    ) -> Held | None:
        """Say when a host will have room; None for never, as far as is known."""
        sketch = self._sketch
        host_id = sketch.fleet.ids[row]
        gpus = sketch.fleet.wanted_gpus(row, shape.access, sketch.gpus_of(row))
        then = Forecast(sketch.state[:4, row].tolist(), gpus)
        starts_ms = then.run(shape.resources, self._tenants_of(row), bound, self._now.boot_ms)
        if starts_ms is None:
            return None
        value = self._situation.promise(shape, head, environment.name, host_id, starts_ms, self._now)
        is_bounded = bool(environment.compute_resources.max_vcpus)
        return Held(value, row, shape.resources, then, is_bounded, turns_away=False)

    def _binding(self, unit: Unit) -> Iterable[Held]:
        """Yield the promises that bind a unit."""
        for held in self._held:
            if held.value.priority >= self._priority and not held.value.is_for(unit.job.id, unit.index):
                yield held

    @property
    def _bind_nobody(self) -> bool:
        """Whether no host is kept for anybody, as where all that wait are of one shape."""
        return not self._held and not self.cleared.are_any

    def clear(self, shape: Shape, unit: Unit, wanted: Mask | None, draw: Draw) -> bool:
        """Have others stopped on a host so that a unit can start there, if that can be done where no other was promised room."""
        barred = [held.row for held in self._binding(unit)]
        is_cleared = self.cleared.clear(shape, unit, wanted, barred, draw)
        if is_cleared:
            self.drop(unit)
        return is_cleared

    def let_pass(
        self,
        unit: Unit,
        shape: Shape,
        row: int,
        ends_ms: int,
        *,
        line: Shape | None = None,
        beside: Resources = NOTHING,
    ) -> bool:
        """
        Say whether a unit that will have ended by then may use a host, and if not, note that it was turned away.

        Args:
            unit: The first of its line.
            shape: What it asks of the host; of a gang what one node asks.
            row: Of the host.
            ends_ms: When it will have ended.
            line: What its line asks, if that is not the same.
            beside: What other nodes of the gang take there already.
        """
        if self._bind_nobody:
            return True
        if not self.cleared.let_pass(unit, shape, row, line or shape):
            return False
        shape = shape if beside is NOTHING else shape.asking(beside + shape.resources)
        for held in self._binding(unit):
            if held.row != row or held.is_soon_over(ends_ms, self._now.boot_ms):
                continue
            if not held.leaves_room(shape.resources, self._sketch.choose_gpus(row, shape.resources, shape.access)):
                self._turn_away(held, is_bound=False)
                return False
        return True

    def let_spend(self, unit: Unit, shape: Shape, environment: str, ends_ms: int) -> bool:
        """Say whether such a unit may count towards the bound of an environment, and if not, note that."""
        if self._bind_nobody:
            return True
        if not self.cleared.let_spend(unit, shape, environment):
            return False
        for held in self._binding(unit):
            if (
                not held.is_bounded
                or held.value.environment != environment
                or held.is_soon_over(ends_ms, self._now.boot_ms)
            ):
                continue
            if not held.leaves_vcpus(shape.resources):
                self._turn_away(held, is_bound=True)
                return False
        return True

    def _turn_away(self, held: Held, *, is_bound: bool) -> None:
        held.turns_away = True
        self.held_back = HeldBack(job_id=held.value.job_id, index=held.value.index, is_bound=is_bound)

    def note_placed(
        self,
        unit: Unit,
        shape: Shape,
        row: int,
        environment: str,
        gpus: tuple[GpuClaim, ...],
        ends_ms: int,
        *,
        line: Shape | None = None,
    ) -> None:
        """Take in that a unit was placed: its own promise is kept, and others reckon with it; *line* as of `let_pass`."""
        self._placed.append((row, Tenant(ends_ms, shape.resources, gpus, environment, self._now.boot_ms)))
        self.cleared.note_placed(unit, line or shape, row, environment)
        if self._held or self._hints:
            self.drop(unit)
        for held in self._held:
            if held.is_soon_over(ends_ms, self._now.boot_ms):
                continue
            if held.row == row:
                held.then.add(shape.resources, gpus, -1)
            if held.is_bounded and held.value.environment == environment:
                held.then.vcpus_left -= shape.resources.cpu_millis

    def finish(self, ends_round: bool) -> tuple[Reservation, ...]:
        """Return the reservations; in the middle of a round also those that it has not come to, which are given up as it ends."""
        held = [replace(held.value, turns_away=held.turns_away) for held in self._held]
        hints = [replace(hint, is_in_force=False) for hint in self._hints]
        if ends_round:
            self.gives_up |= any(hint.turns_away for hint in hints)
            hints = []
        self.gives_up |= self.cleared.gives_up
        return (*self.cleared.values(), *held, *hints)
