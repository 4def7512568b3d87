"""
Vacancies: what hosts will have once those have gone who are being stopped there.

It is reckoned anew from what is free in a plan's sketch, what those hold that leave, and what
those ask for whom hosts are cleared, so that nothing is counted along.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from batchyard.ids import AttemptId
from batchyard.resources import RESOURCE_KINDS, Resources
from batchyard_controller.core.model.attempts import GpuClaim

from .bounds import Draw
from .gpus import choose_gpus, gpu_levels, gpu_needs
from .line import Shape
from .preemption import Occupant
from .reservations import Reservation, add_amounts
from .room import vcpus_left
from .situation import Situation
from .sketch import Sketch

_NOTHING: tuple[Resources, tuple[GpuClaim, ...]] = (Resources(), ())


@dataclass(slots=True, eq=False)
class Clearing:
    """
    A host that is cleared for a unit, or for one node of a gang.

    Attributes:
        draw: What the unit takes of bounds beside the host; of a gang the first one has it.
        asked: What is asked of the host.
    """

    value: Reservation
    row: int
    draw: Draw
    turns_away: bool = False
    asked: Shape = field(init=False)

    def __post_init__(self) -> None:
        shape = self.value.shape
        self.asked = shape.of_part(shape.parts[self.value.part]) if shape.parts else shape


class Vacancies:
    """
    What will be left of hosts, and of the bounds of environments.

    Args:
        situation: What the plan is made from.
        sketch: What it reckons on.
    """

    def __init__(self, situation: Situation, sketch: Sketch) -> None:
        self._situation = situation
        self._sketch = sketch
        self._occupants: dict[int, list[Occupant]] = {}
        self._stopping: dict[int, list[Occupant]] = {}
        """Who is being stopped on the hosts that were looked at, by row."""
        self.evicted: set[AttemptId] = set()
        """Whom this plan stops."""
        self._emptied: set[int] = set()
        """Rows of hosts on which somebody is being stopped, as far as is known."""

    def note_emptied(self, rows: Iterable[int]) -> None:
        """Take in on which hosts others were stopped by former plans."""
        self._emptied.update(rows)

    def evict(self, row: int, victims: Sequence[Occupant]) -> None:
        """Let some leave, who are on a host but where they hold what a quota share gives back."""
        if any(len(victim.attempt_ids) > 1 for victim in victims):
            self._stopping.clear()  # nodes are on other hosts too
        self._stopping.pop(row, None)
        self._emptied.add(row)
        for victim in victims:
            self.evicted.update(victim.attempt_ids)
            quota = self._sketch.quota_of(victim.queue)
            for host_id in quota.evict(victim.attempt_ids) if quota is not None else ():
                self._stopping.pop(self._sketch.fleet.rows[host_id], None)

    def stay(self, victims: Iterable[Occupant]) -> None:
        """Let some stay after all who were to leave."""
        self._stopping.clear()
        for victim in victims:
            self.evicted.difference_update(victim.attempt_ids)
            quota = self._sketch.quota_of(victim.queue)
            if quota is not None:
                quota.stay(victim.attempt_ids)

    def occupants_of(self, row: int) -> list[Occupant]:
        """Return who is on a host."""
        if row not in self._occupants:
            self._occupants[row] = self._situation.occupants(self._sketch.fleet.ids[row])
        return self._occupants[row]

    def stopping_on(self, row: int) -> list[Occupant]:
        """Return who is being stopped on a host, by this plan or before."""
        if row not in self._stopping:
            occupants = self.occupants_of(row)
            self._stopping[row] = [o for o in occupants if o.is_stopping or o.name in self.evicted]
        return self._stopping[row]

    def lacking(self, row: int, cleared: Iterable[Clearing]) -> list[tuple[str, int]]:
        """Return what a host lacks of amounts that are asked for by those whom it is to be cleared for."""
        here = [kept.asked.resources for kept in cleared if kept.row == row]
        found = []
        for kind, free in zip(RESOURCE_KINDS, self._sketch.state[:4, row].tolist(), strict=True):
            asked = sum(getattr(resources, kind) for resources in here)
            lacking = asked - free - sum(getattr(each.resources, kind) for each in self.stopping_on(row))
            if asked and lacking > 0:
                found.append((kind, lacking))
        return found

    def have_room(
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
        for each in (*self.stopping_on(row), *victims):
            add_amounts(free, gpus, each.resources, each.gpus)
        here = [kept.asked for kept in cleared if kept.row == row]
        for shape in sorted(here, key=lambda shape: -shape.resources.gpu_millis):
            asked, wanted = shape.resources, sketch.fleet.wanted_gpus(row, shape.access, gpus)
            needs = gpu_needs(asked.gpu_millis)
            if any(have < need for have, need in zip(gpu_levels(wanted), needs, strict=True)):
                return False
            add_amounts(free, gpus, asked, choose_gpus(wanted, asked.gpu_millis), -1)
            if any(free[kind] < 0 for kind in RESOURCE_KINDS if getattr(asked, kind)):
                return False
        names = {kept.value.environment for kept in cleared if kept.row == row}
        return all(self.have_vcpus(name, cleared, victims) for name in names)

    def have_vcpus(
        self, name: str, cleared: Iterable[Clearing], victims: Sequence[Occupant] = (), beside_cpu: int = 0
    ) -> bool:
        """Say whether the bound of an environment has room for all that hosts are cleared for, and for one beside them."""
        environment = self._situation.environments[name]
        if not environment.compute_resources.max_vcpus:
            return True
        inside = [kept for kept in cleared if kept.value.environment == name]
        rows = self._emptied.union(kept.row for kept in inside)
        leaving = [*victims, *(each for row in rows for each in self.stopping_on(row))]
        left = vcpus_left(self._sketch.environment_cpu, environment) - beside_cpu
        left += sum(each.resources.cpu_millis for each in leaving if each.environment == name)
        return left >= sum(kept.asked.resources.cpu_millis for kept in inside)
