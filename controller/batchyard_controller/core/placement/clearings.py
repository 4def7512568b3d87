"""
Clearings: hosts on which others are stopped, in a plan, so that units can start there.

A cleared host is promised to a unit beside what `Promises` holds, and stays so from plan to
plan until that has started, or waits no more. Several may be promised one host. Laws: what
they need is left of it, together, by nobody of their rank or below, however short he is;
so are the bounds that they count towards; and of equals in one line the first goes first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from batchyard.ids import JobId
from batchyard_controller.core.model.settings import ComputeEnvironment
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant

from .bounds import Draw
from .fleet import STARTS
from .gang_clearings import GangSearch
from .kinds import Mask
from .line import NOBODY, Shape
from .preemption import Eviction, Occupant, choose_victims, cost, may_preempt, outranks, worth
from .quotas import sum_uses, use_of
from .recalls import Recall
from .reservations import Reservation
from .room import has_room, needs_of, roomiest, takers
from .situation import Situation
from .sketch import Sketch
from .tenants import OUTRUN_MS
from .vacancies import Clearing, Vacancies

_HOSTS_RECKONED = 32
"""The best of so many that would do is taken."""
_ROOMY_RECKONED = 4
"""Where only capacity of a share is lacking, so many of the hosts that have room."""
_WITH_SHARES = 4
"""Where shares have capacity of their own, each host is so much more work."""


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
        self._kept: dict[Clearing, None] = {}
        self._on: dict[int, list[Clearing]] = {}
        """By row."""
        self._recalled: dict[JobId, list[Reservation]] = {}
        """Of gangs the hosts of which it is known that others are stopped there for them, and not where each node goes."""
        self.vacancies = Vacancies(situation, sketch)
        self.evictions: list[Eviction] = []
        self.gives_up = False
        """Whether a host is cleared no more from which others had been turned away."""
        self.looked_at = 0
        """How many hosts were reckoned when somebody was last to be cleared one."""
        together: dict[tuple[JobId, int | None], list[Reservation]] = {}
        for hint in situation.reservations:
            if hint.is_cleared:
                together.setdefault((hint.job_id, hint.index), []).append(hint)
        rows = sketch.fleet.rows
        self.vacancies.note_emptied(
            rows[hint.host_id] for each in together.values() for hint in each if hint.host_id in rows
        )
        for hints in together.values():
            self._keep_on(hints)

    @property
    def are_any(self) -> bool:
        """Whether a host is cleared for anybody."""
        return bool(self._kept)

    @property
    def rows(self) -> list[int]:
        """Rows of cleared hosts."""
        return list(self._on)

    def number(self, shape: Shape) -> int:
        """Return for how many units, or gangs, of a shape hosts are cleared."""
        return len({(k.value.job_id, k.value.index) for k in self._kept if k.value.shape == shape})

    def has(self, unit: Unit) -> bool:
        """Say whether a host is cleared for a unit, or hosts for the job of a node."""
        return bool(self._of(unit))

    def seats(self, unit: Unit, shape: Shape, environment: str) -> list[tuple[int, int]]:
        """Return where the nodes of a gang, or of an equal in its line, have their places: part and row of each."""
        inside = [kept for kept in self._kept if kept.value.environment == environment]
        return [(kept.value.part, kept.row) for kept in self._own(unit, shape, inside)]

    def recalled(self, job_id: JobId) -> list[int]:
        """Return rows of hosts on which others were stopped for a gang before a restart, and still are."""
        rows = (self._sketch.fleet.rows.get(hint.host_id) for hint in self._recalled.get(job_id, ()))
        return [row for row in rows if row is not None and self.vacancies.stopping_on(row)]

    def values(self) -> list[Reservation]:
        """Return them for the next plan."""
        seated = {kept.value.job_id for kept in self._kept}
        left = [
            hint
            for job_id, hints in self._recalled.items()
            if job_id not in seated and self.recalled(job_id)
            for hint in hints
        ]
        return [replace(kept.value, turns_away=kept.turns_away) for kept in self._kept] + left

    def _of(self, unit: Unit) -> list[Clearing]:
        job_id, is_node = unit.job.id, unit.is_node
        return [k for k in self._kept if k.value.job_id == job_id and (is_node or k.value.index == unit.index)]

    def _keep_on(self, hints: Sequence[Reservation]) -> None:
        """Bring into force again that hosts are cleared for a unit, if all of that is of any use yet."""
        fleet, shape = self._sketch.fleet, hints[0].shape
        names = [environment.name for environment in self._situation.environments_of(shape)]
        priority, draw = self._situation.queues[shape.queue].priority, fleet.bounds.draw_of(shape)
        found = [
            Clearing(
                replace(hint, priority=priority, is_in_force=True),
                fleet.rows[hint.host_id],
                () if place else draw,
                hint.turns_away,
            )
            for place, hint in enumerate(hints)
            if hint.host_id in fleet.rows and hint.environment in names
        ]
        sizes = {place: part.size for place, part in enumerate(shape.parts)} or {0: 1}
        if Counter(kept.value.part for kept in found) == sizes and self._are_of_use(shape, found):
            for kept in found:
                self.keep(kept)
            return
        self.gives_up |= any(hint.turns_away for hint in hints)
        if shape.parts:
            # They bind nobody, and whoever was turned away there is asked again once, not with each plan.
            self._recalled[hints[0].job_id] = [replace(hint, is_in_force=False, turns_away=False) for hint in hints]

    def _are_of_use(self, shape: Shape, found: Sequence[Clearing]) -> bool:
        quota = self._sketch.quota_of(shape.queue)
        if quota is not None and quota.later.lacks(shape.share, sum_uses(map(self.use, found))):
            return False
        together = [*self._kept, *found]
        for row in {kept.row for kept in found}:
            if not (self._sketch.fleet.usable[row] or self.vacancies.stopping_on(row)):
                return False
            here = [*self._on.get(row, ()), *(kept for kept in found if kept.row == row)]
            if not self.vacancies.have_room(row, here):
                return False
        return all(self.vacancies.have_vcpus(name, together) for name in {kept.value.environment for kept in found})

    def use(self, kept: Clearing) -> dict[str, int]:
        """Return what one will use of the capacity of its share."""
        return use_of(kept.asked.resources, self._sketch.fleet.facts[kept.row].host_type)

    def keep(self, kept: Clearing) -> None:
        """Have a host cleared from now on."""
        self._kept[kept] = None
        self._on.setdefault(kept.row, []).append(kept)
        self._promise_bounds(kept, 1)

    def take_back(self, kept: Clearing) -> None:
        """Have it cleared no more."""
        del self._kept[kept]
        self._on[kept.row].remove(kept)
        if not self._on[kept.row]:
            del self._on[kept.row]
        self._promise_bounds(kept, -1)

    def _drop(self, kept: Clearing) -> None:
        """Clear nothing more for a unit; of a gang no host at all."""
        job_id, index = kept.value.job_id, kept.value.index
        for each in [each for each in self._kept if each.value.is_for(job_id, index)]:
            self.take_back(each)
            self.gives_up |= each.turns_away

    def _promise_bounds(self, kept: Clearing, sign: int) -> None:
        self._sketch.draws.take(kept.draw, sign)
        quota = self._sketch.quota_of(kept.value.shape.queue)
        if quota is not None:
            quota.promise(kept.value.shape.share, self.use(kept), sign)

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
        self.looked_at = 0
        if shape.parts:
            search = GangSearch(self, self._situation, self._sketch, shape, unit, barred, draw)
            rows, victims = search.run(), tuple(search.victims)
        else:
            rows, victims = self._clear_one(shape, unit, wanted, barred, draw)
        if not rows:
            return False
        if victims:
            ids = tuple(name for victim in victims for name in victim.attempt_ids)
            self.evictions.append(Eviction(ids, unit.job.id, unit.index))
        self._recalled.pop(unit.job.id, None)
        binding = {*self._binding(self._kept, shape)}
        lower = [other for other in reversed(self._kept) if other not in binding]
        for row in rows if lower else ():
            for other in sorted(lower, key=lambda other: other.row != row):
                if other in self._kept and not self._is_kept_for_all(row):
                    self._drop(other)
        return True

    def _clear_one(
        self, shape: Shape, unit: Unit, wanted: Mask | None, barred: Sequence[int], draw: Draw
    ) -> tuple[list[int], tuple[Occupant, ...]]:
        """Have a host cleared for a unit that goes by itself; return its row, and who is stopped."""
        found: list[tuple[tuple[int, ...], Clearing, tuple[Occupant, ...]]] = []
        quota = self._sketch.quota_of(shape.queue)
        for order, environment in enumerate(self._situation.environments_of(shape)):
            for row in self.occupied(shape, environment, wanted, barred):
                kept = Clearing(self.promise(shape, unit, environment, row), row, draw)
                victims = self.victims(kept)
                if victims is not None:
                    found.append(((*self.price(victims), order, row), kept, victims))
                if len(found) >= _HOSTS_RECKONED or (victims and quota is not None and self.fits(kept)(())):
                    break  # where there is room as it is, who is stopped is the same on all hosts
        if not found:
            return [], ()
        _, kept, victims = min(found, key=lambda each: each[0])
        if victims:
            self.vacancies.evict(kept.row, victims)
        self.keep(kept)
        return [kept.row], victims

    def price(self, victims: Sequence[Occupant]) -> tuple[int, ...]:
        """Return how much some count whose stopping would do; the least are stopped."""
        return cost(victims), *max((worth(self._situation.queues, victim) for victim in victims), default=())

    def occupied(
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

    def promise(
        self, shape: Shape, unit: Unit, environment: ComputeEnvironment, row: int, part: int = 0
    ) -> Reservation:
        """Return the promise of a cleared host."""
        host_id, starts_ms = self._sketch.fleet.ids[row], self._now.boot_ms + OUTRUN_MS
        value = self._situation.promise(shape, unit, environment.name, host_id, starts_ms, self._now)
        return replace(value, is_cleared=True, part=part)

    def victims(self, wanted: Clearing) -> tuple[Occupant, ...] | None:
        """Return whom to stop so that one has room on a host beside those it is cleared for; None if that does not do."""
        queues, shape = self._situation.queues, wanted.value.shape
        quota = self._sketch.quota_of(shape.queue)
        self.looked_at += 1 if quota is None else _WITH_SHARES
        if quota is not None:
            recall = Recall(queues, quota, shape, self.use(wanted), self.vacancies.evicted)
            rows, hosts = self._sketch.fleet.rows, quota.quota.hosts()
            return recall.victims(
                self.vacancies.occupants_of(wanted.row),
                (each for host_id in hosts for each in self.vacancies.occupants_of(rows[host_id])),
                self.fits(wanted),
            )
        candidates = [
            each
            for each in self.vacancies.occupants_of(wanted.row)
            if each.name not in self.vacancies.evicted and may_preempt(queues, shape, each)
        ]
        return choose_victims(sorted(candidates, key=lambda each: worth(queues, each)), self.fits(wanted))

    def fits(self, wanted: Clearing) -> Callable[[Sequence[Occupant]], bool]:
        """Return what says whether a host has room for one, beside those it is cleared for, without some who are there."""
        shape, row = wanted.value.shape, wanted.row
        is_bounded = self._is_bounded(wanted.value.environment)
        together = [*self._binding(self._kept if is_bounded else self._on.get(row, ()), shape), wanted]
        lacking = self.vacancies.lacking(row, together)
        has_gpus = any(kept.asked.resources.gpu_millis for kept in together if kept.row == row)

        def fits(victims: Sequence[Occupant]) -> bool:
            if any(sum(getattr(v.resources, kind) for v in victims) < amount for kind, amount in lacking):
                return False
            return not (has_gpus or is_bounded) or self.vacancies.have_room(row, together, victims)

        return fits

    # Who passes ---------------------------------------------------------------------

    def let_pass(self, unit: Unit, shape: Shape, row: int, line: Shape) -> bool:
        """Say whether a unit, or a node, of a line may use a host on which it fits, and if not, note that it was turned away."""
        here = self._on.get(row, [])
        if not here:
            return True
        own = self._own(unit, line, here)
        binding = self._binding([kept for kept in here if kept not in own], shape)
        gpus = self._sketch.choose_gpus(row, shape.resources, shape.access)
        if self.vacancies.have_room(row, binding, beside=(shape.resources, gpus)):
            return True
        for kept in binding:
            kept.turns_away = True
        return False

    def let_spend(self, unit: Unit, shape: Shape, environment: str) -> bool:
        """Say whether a unit may count towards the bound of an environment, and if not, note that."""
        if not self._is_bounded(environment):
            return True
        inside = [kept for kept in self._kept if kept.value.environment == environment]
        own = {*self._own(unit, shape, inside)}
        binding = self._binding([kept for kept in inside if kept not in own], shape)
        if self.vacancies.have_vcpus(environment, binding, beside_cpu=shape.resources.cpu_millis):
            return True
        for kept in binding:
            kept.turns_away = True
        return False

    def _own(self, unit: Unit, shape: Shape, cleared: Sequence[Clearing]) -> list[Clearing]:
        """Return of some those which a unit, or a gang, uses: its own, or those of an equal in its line."""
        equals = [kept for kept in cleared if kept.value.shape == shape]
        whose = next((k.value for k in equals if k.value.is_for(unit.job.id, unit.index)), None)
        whose = whose or next((kept.value for kept in equals), None)
        return [kept for kept in equals if whose is not None and kept.value.is_for(whose.job_id, whose.index)]

    def note_placed(self, unit: Unit, line: Shape, row: int, environment: str) -> None:
        """Take in that one of a line was placed: no host is cleared for it any more, nor for whose room it took."""
        self._recalled.pop(unit.job.id, None)
        for own in self._of(unit)[:1]:
            self._drop(own)
        while not self._is_kept_for_all(row, environment):
            touched = self._on.get(row, [])
            if self._is_bounded(environment):
                touched = [kept for kept in self._kept if kept.row == row or kept.value.environment == environment]
            self._drop(min(reversed(touched), key=lambda kept: _standing(kept, line, row)))

    # Who has room ---------------------------------------------------------------------

    def _is_bounded(self, environment: str) -> bool:
        return bool(self._situation.environments[environment].compute_resources.max_vcpus)

    def _is_kept_for_all(self, row: int, environment: str = "") -> bool:
        """Say whether a host, and the bounds of its clearings' environments and of another, have room for all they are kept for."""
        here = self._on.get(row, [])
        names = {kept.value.environment for kept in here} | ({environment} if environment else set())
        return (not here or self.vacancies.have_room(row, here)) and all(
            self.vacancies.have_vcpus(name, self._kept) for name in names
        )

    def _binding(self, cleared: Iterable[Clearing], shape: Shape) -> list[Clearing]:
        """Return which of them bind a unit: those of no lower rank."""
        mine = self._situation.queues[shape.queue].priority
        return [
            kept
            for kept in cleared
            if kept.value.priority > mine or (kept.value.priority == mine and not outranks(shape, kept.value.shape))
        ]


def _standing(kept: Clearing, shape: Shape, row: int) -> tuple[bool, int, int, bool]:
    """Return in which order they give way to one of a shape that came to a host: equals in its line first, then the lowest."""
    return kept.value.shape != shape, kept.value.priority, kept.value.shape.priority, kept.row != row
