"""
Clearings: hosts on which others are stopped, in a plan, so that units can start there.

A cleared host is promised to a unit beside what `Promises` holds, and stays so from plan to
plan until that has started, or waits no more. Several may be promised one host. Laws: what
they need is left of it, together, by nobody of their rank or below, however short he is;
so are the bounds that they count towards; and of equals in one line the first goes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from batchyard.ids import AttemptId
from batchyard.resources import RESOURCE_KINDS, Resources
from batchyard_controller.core.model.attempts import GpuClaim
from batchyard_controller.core.model.settings import ComputeEnvironment
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant

from .bounds import Draw
from .fleet import STARTS
from .gpus import choose_gpus, gpu_levels, gpu_needs
from .kinds import Mask
from .line import NOBODY, Shape
from .preemption import Eviction, Occupant, choose_victims, cost, may_preempt, outranks, worth
from .quota_sketch import QuotaSketch
from .quotas import use_of
from .recalls import Recall
from .reservations import Reservation, add_amounts
from .room import has_room, needs_of, roomiest, takers, vcpus_left
from .situation import Situation
from .sketch import Sketch
from .tenants import OUTRUN_MS

_HOSTS_RECKONED = 32
"""The best of so many that would do is taken."""
_ROOMY_RECKONED = 4
"""Where only capacity of a share is lacking, so many of the hosts that have room."""
_WITH_SHARES = 4
"""Where shares have capacity of their own, each host is so much more work."""
_NOTHING: tuple[Resources, tuple[GpuClaim, ...]] = (Resources(), ())


@dataclass(slots=True, eq=False)
class Clearing:
    """
    A host that is cleared for a unit.

    Attributes:
        draw: What it takes of bounds beside the host.
    """

    value: Reservation
    row: int
    draw: Draw
    turns_away: bool = False


class Clearings:
    """
    The cleared hosts of a plan.

    Args:
        situation: What the plan is made from.
        sketch: What it reckons on.
        now: The present.
    """

    def __init__(self, situation: Situation, sketch: Sketch, now: Instant) -> None:
        self._situation = situation
        self._sketch = sketch
        self._now = now
        self._kept: list[Clearing] = []
        self._occupants: dict[int, list[Occupant]] = {}
        self._stopping: dict[int, list[Occupant]] = {}
        """Who is being stopped on the hosts that were looked at, by row."""
        self._evicted: set[AttemptId] = set()
        self.evictions: list[Eviction] = []
        self.gives_up = False
        """Whether a host is cleared no more from which others had been turned away."""
        self.looked_at = 0
        """How many hosts were reckoned when somebody was last to be cleared one."""
        for hint in situation.reservations:
            if hint.is_cleared:
                self._keep_on(hint)

    @property
    def are_any(self) -> bool:
        """Whether a host is cleared for anybody."""
        return bool(self._kept)

    @property
    def rows(self) -> list[int]:
        """Rows of cleared hosts."""
        return [kept.row for kept in self._kept]

    def number(self, shape: Shape) -> int:
        """Return for how many units of a shape a host is cleared."""
        return sum(kept.value.shape == shape for kept in self._kept)

    def has(self, unit: Unit) -> bool:
        """Say whether a host is cleared for a unit."""
        return self._of(unit) is not None

    def values(self) -> list[Reservation]:
        """Return them for the next plan."""
        return [replace(kept.value, turns_away=kept.turns_away) for kept in self._kept]

    def _of(self, unit: Unit) -> Clearing | None:
        return next((kept for kept in self._kept if kept.value.is_for(unit.job.id, unit.index)), None)

    def _keep_on(self, hint: Reservation) -> None:
        """Bring into force again that a host is cleared, if that is of any use yet."""
        fleet, row = self._sketch.fleet, self._sketch.fleet.rows.get(hint.host_id)
        names = [environment.name for environment in self._situation.environments_of(hint.shape)]
        if row is None or hint.environment not in names:
            self.gives_up |= hint.turns_away
            return
        value = replace(hint, priority=self._situation.queues[hint.shape.queue].priority)
        kept = Clearing(value, row, fleet.bounds.draw_of(hint.shape), hint.turns_away)
        is_of_use = (fleet.usable[row] or self._stopping_on(row)) and self._have_room(row, [*self._kept, kept])
        quota = self._sketch.quota_of(hint.shape.queue)
        if is_of_use and (quota is None or not quota.later.lacks(hint.shape.share, self._use(kept))):
            self._keep(kept)
        else:
            self.gives_up |= hint.turns_away

    def _use(self, kept: Clearing) -> dict[str, int]:
        """Return what one will use of the capacity of its share."""
        return use_of(kept.value.shape.resources, self._sketch.fleet.facts[kept.row].host_type)

    def _keep(self, kept: Clearing) -> None:
        self._kept.append(kept)
        self._promise_bounds(kept, 1)

    def _drop(self, kept: Clearing) -> None:
        self._kept.remove(kept)
        self.gives_up |= kept.turns_away
        self._promise_bounds(kept, -1)

    def _promise_bounds(self, kept: Clearing, sign: int) -> None:
        self._sketch.draws.take(kept.draw, sign)
        quota = self._sketch.quota_of(kept.value.shape.queue)
        if quota is not None:
            quota.promise(kept.value.shape.share, self._use(kept), sign)

    # Clearing another ---------------------------------------------------------------

    def clear(self, shape: Shape, unit: Unit, wanted: Mask | None, barred: Sequence[int], draw: Draw) -> bool:
        """
        Have others stopped on a host so that a unit can start there; say whether that can be done.

        Args:
            shape: What the unit asks.
            unit: It lacks room.
            wanted: Where it goes; None for anywhere.
            barred: Rows of hosts that are kept for others.
            draw: What it takes of bounds.
        """
        found: list[tuple[tuple[int, ...], Clearing, tuple[Occupant, ...]]] = []
        self.looked_at, quota = 0, self._sketch.quota_of(shape.queue)
        for order, environment in enumerate(self._situation.environments_of(shape)):
            for row in self._occupied(shape, environment, wanted, barred):
                self.looked_at += 1 if quota is None else _WITH_SHARES
                kept = Clearing(self._promise(shape, unit, environment, row), row, draw)
                victims = self._victims(kept) if quota is None else self._victims_of_share(kept, quota)
                if victims is not None:
                    most = max((worth(self._situation.queues, victim) for victim in victims), default=())
                    found.append(((cost(victims), *most, order, row), kept, victims))
                if len(found) >= _HOSTS_RECKONED or (victims and quota is not None and self._fits(kept)(())):
                    break  # where there is room as it is, who is stopped is the same on all hosts
        if not found:
            return False
        _, kept, victims = min(found, key=lambda each: each[0])
        if victims:
            self._evict(kept.row, victims)
            ids = tuple(name for victim in victims for name in victim.attempt_ids)
            self.evictions.append(Eviction(ids, unit.job.id, unit.index))
        self._keep(kept)
        binding = self._binding(self._kept, shape)
        lower = [other for other in reversed(self._kept) if other not in binding]
        for other in sorted(lower, key=lambda other: other.row != kept.row):
            if not self._have_room(kept.row, self._kept):
                self._drop(other)
        return True

    def _evict(self, row: int, victims: Sequence[Occupant]) -> None:
        if any(len(victim.attempt_ids) > 1 for victim in victims):
            self._stopping.clear()  # nodes are on other hosts too
        self._stopping.pop(row, None)
        for victim in victims:
            self._evicted.update(victim.attempt_ids)
            quota = self._sketch.quota_of(victim.queue)
            for host_id in quota.evict(victim.attempt_ids) if quota is not None else ():
                self._stopping.pop(self._sketch.fleet.rows[host_id], None)

    def _occupied(
        self, shape: Shape, environment: ComputeEnvironment, wanted: Mask | None, barred: Sequence[int]
    ) -> list[int]:
        """Return the rows of hosts that could take a unit but for who is there; those with most of what is asked first."""
        situation, fleet, state = self._situation, self._sketch.fleet, self._sketch.state
        queues, mine = situation.queues, situation.queues[shape.queue]
        mask = takers(fleet, shape, [environment], NOBODY) & fleet.usable & (state[STARTS] > 0)
        mask = mask if wanted is None else mask & wanted
        mask[list(barred)] = False
        quota = self._sketch.quota_of(shape.queue)
        roomy: list[int] = []
        if quota is not None:  # who is stopped may be elsewhere
            rows = has_room(state, needs_of(shape), mask).nonzero()[0]
            roomy = roomiest(state, rows, shape)[:_ROOMY_RECKONED].tolist()
        lower = [q.name for q in queues.values() if q.preemptible and (q.priority < mine.priority or q is mine)]
        hosts = {host_id for name in lower for host_id in situation.hosts_of(name)}
        hosts |= quota.hosts_of_victims(shape) if quota is not None else set()
        mask[np.setdiff1d(np.arange(len(mask)), [fleet.rows[host_id] for host_id in hosts])] = False
        best: list[int] = roomiest(state, mask.nonzero()[0], shape).tolist()
        return roomy + best

    def _promise(self, shape: Shape, unit: Unit, environment: ComputeEnvironment, row: int) -> Reservation:
        host_id, starts_ms = self._sketch.fleet.ids[row], self._now.boot_ms + OUTRUN_MS
        value = self._situation.promise(shape, unit, environment.name, host_id, starts_ms, self._now)
        return replace(value, is_cleared=True)

    def _victims(self, wanted: Clearing) -> tuple[Occupant, ...] | None:
        """Return whom to stop on a host so that one has room there beside those it is cleared for; None if that does not do."""
        queues, shape = self._situation.queues, wanted.value.shape
        candidates = [
            each
            for each in self._occupants_of(wanted.row)
            if each.name not in self._evicted and may_preempt(queues, shape, each)
        ]
        return choose_victims(sorted(candidates, key=lambda each: worth(queues, each)), self._fits(wanted))

    def _fits(self, wanted: Clearing) -> Callable[[Sequence[Occupant]], bool]:
        """Return what says whether a host has room for one, beside those it is cleared for, without some who are there."""
        shape, row = wanted.value.shape, wanted.row
        together = [*self._binding(self._kept, shape), wanted]
        lacking = self._lacking(row, together)
        has_gpus = any(kept.value.shape.resources.gpu_millis for kept in together if kept.row == row)
        is_bounded = bool(self._situation.environments[wanted.value.environment].compute_resources.max_vcpus)

        def fits(victims: Sequence[Occupant]) -> bool:
            if any(sum(getattr(v.resources, kind) for v in victims) < amount for kind, amount in lacking):
                return False
            return not (has_gpus or is_bounded) or self._have_room(row, together, victims)

        return fits

    def _victims_of_share(self, wanted: Clearing, quota: QuotaSketch) -> tuple[Occupant, ...] | None:
        """Return whom to stop, here or elsewhere, for a unit of a quota share; None if that does not do."""
        recall = Recall(self._situation.queues, quota, wanted.value.shape, self._use(wanted), self._evicted)
        rows, hosts = self._sketch.fleet.rows, quota.quota.hosts()
        return recall.victims(
            self._occupants_of(wanted.row),
            (each for host_id in hosts for each in self._occupants_of(rows[host_id])),
            self._fits(wanted),
        )

    def _lacking(self, row: int, cleared: Iterable[Clearing]) -> list[tuple[str, int]]:
        """Return what a host lacks of amounts that are asked for by those whom it is to be cleared for."""
        here = [kept.value.shape.resources for kept in cleared if kept.row == row]
        found = []
        for kind, free in zip(RESOURCE_KINDS, self._sketch.state[:4, row].tolist(), strict=True):
            asked = sum(getattr(resources, kind) for resources in here)
            lacking = asked - free - sum(getattr(each.resources, kind) for each in self._stopping_on(row))
            if asked and lacking > 0:
                found.append((kind, lacking))
        return found

    # Who passes ---------------------------------------------------------------------

    def let_pass(self, unit: Unit, shape: Shape, row: int) -> bool:
        """Say whether a unit may use a host on which it fits, and if not, note that it was turned away."""
        here = self._on(row)
        if not here:
            return True
        binding = self._binding([kept for kept in here if kept is not self._own(unit, shape, here)], shape)
        gpus = self._sketch.choose_gpus(row, shape.resources, shape.access)
        if self._have_room(row, binding, beside=(shape.resources, gpus)):
            return True
        for kept in binding:
            kept.turns_away = True
        return False

    def let_spend(self, unit: Unit, shape: Shape, environment: str) -> bool:
        """Say whether a unit may count towards the bound of an environment, and if not, note that."""
        inside = [kept for kept in self._kept if kept.value.environment == environment]
        if not inside:
            return True
        binding = self._binding([kept for kept in inside if kept is not self._own(unit, shape, inside)], shape)
        if self._have_vcpus(environment, binding, beside_cpu=shape.resources.cpu_millis):
            return True
        for kept in binding:
            kept.turns_away = True
        return False

    def _own(self, unit: Unit, shape: Shape, cleared: Sequence[Clearing]) -> Clearing | None:
        """Return of some that which a unit uses: its own, or one of an equal in its line."""
        equals = [kept for kept in cleared if kept.value.shape == shape]
        return next((kept for kept in equals if kept.value.is_for(unit.job.id, unit.index)), next(iter(equals), None))

    def note_placed(self, unit: Unit, shape: Shape, row: int, environment: str) -> None:
        """Take in that a unit was placed: no host is cleared for it any more, nor for whose room it took."""
        if not self._kept:
            return
        own = self._of(unit)
        if own is not None:
            self._drop(own)
        while True:
            touched = [kept for kept in self._kept if kept.row == row or kept.value.environment == environment]
            if all(self._have_room(each, self._kept) for each in {kept.row for kept in touched}):
                return
            self._drop(min(reversed(touched), key=lambda kept: _standing(kept, shape, row)))

    # Who has room ---------------------------------------------------------------------

    def _on(self, row: int) -> list[Clearing]:
        return [kept for kept in self._kept if kept.row == row]

    def _binding(self, cleared: Iterable[Clearing], shape: Shape) -> list[Clearing]:
        """Return which of them bind a unit: those of no lower rank."""
        mine = self._situation.queues[shape.queue].priority
        return [
            kept
            for kept in cleared
            if kept.value.priority > mine or (kept.value.priority == mine and not outranks(shape, kept.value.shape))
        ]

    def _occupants_of(self, row: int) -> list[Occupant]:
        if row not in self._occupants:
            self._occupants[row] = self._situation.occupants(self._sketch.fleet.ids[row])
        return self._occupants[row]

    def _stopping_on(self, row: int) -> list[Occupant]:
        if row not in self._stopping:
            occupants = self._occupants_of(row)
            self._stopping[row] = [o for o in occupants if o.is_stopping or o.name in self._evicted]
        return self._stopping[row]

    def _have_room(
        self,
        row: int,
        cleared: Sequence[Clearing],
        victims: Sequence[Occupant] = (),
        beside: tuple[Resources, tuple[GpuClaim, ...]] = _NOTHING,
    ) -> bool:
        """
        Say whether hosts can be cleared for all of these, as far as one of them goes.

        Args:
            row: Of that host.
            cleared: All that count, on other hosts too, as these may have environments in common.
            victims: Who is stopped there beside those that are.
            beside: What another takes there, which does not end.
        """
        sketch = self._sketch
        free = dict(zip(RESOURCE_KINDS, sketch.state[:4, row].tolist(), strict=True))
        gpus = dict(sketch.gpus_of(row))
        add_amounts(free, gpus, *beside, -1)
        for each in (*self._stopping_on(row), *victims):
            add_amounts(free, gpus, each.resources, each.gpus)
        here = [kept.value.shape for kept in cleared if kept.row == row]
        for shape in sorted(here, key=lambda shape: -shape.resources.gpu_millis):
            asked, wanted = shape.resources, sketch.fleet.wanted_gpus(row, shape.access, gpus)
            needs = gpu_needs(asked.gpu_millis)
            if any(have < need for have, need in zip(gpu_levels(wanted), needs, strict=True)):
                return False
            add_amounts(free, gpus, asked, choose_gpus(wanted, asked.gpu_millis), -1)
            if any(free[kind] < 0 for kind in RESOURCE_KINDS if getattr(asked, kind)):
                return False
        names = {kept.value.environment for kept in cleared if kept.row == row}
        return all(self._have_vcpus(name, cleared, victims) for name in names)

    def _have_vcpus(
        self, name: str, cleared: Iterable[Clearing], victims: Sequence[Occupant] = (), beside_cpu: int = 0
    ) -> bool:
        """Say whether the bound of an environment has room for all that hosts are cleared for, and for one beside them."""
        environment = self._situation.environments[name]
        if not environment.compute_resources.max_vcpus:
            return True
        inside = [kept for kept in cleared if kept.value.environment == name]
        leaving = [*victims, *(each for row in {kept.row for kept in inside} for each in self._stopping_on(row))]
        left = vcpus_left(self._sketch.environment_cpu, environment) - beside_cpu
        left += sum(each.resources.cpu_millis for each in leaving if each.environment == name)
        return left >= sum(kept.value.shape.resources.cpu_millis for kept in inside)


def _standing(kept: Clearing, shape: Shape, row: int) -> tuple[bool, int, int, bool]:
    """Return in which order they give way to one of a shape that came to a host: equals in its line first, then the lowest."""
    return kept.value.shape != shape, kept.value.priority, kept.value.shape.priority, kept.row != row
