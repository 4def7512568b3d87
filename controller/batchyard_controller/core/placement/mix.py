"""
Mix: which jobs with GPUs are asked for, as far as it is known: those that wait, and those placed lately.

What was placed counts the less the more has been placed since. Law: the mix is a
function of who waits and of the order in which units were placed, not of the plans or
slices by which they were.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from batchyard.security import SecurityLevel
from batchyard_controller.core.model.units import Unit

from .feasibility import Access, access_of
from .line import Line, Shape

MEMORY = 1_000
"""Units that are remembered: of one that was placed so many ago a share of 1/e still counts."""
_DECAY = 1 - 1 / MEMORY
_FORGOTTEN = 0.01


class Demand(NamedTuple):
    """What units that count as one kind of demand ask, through which queue."""

    queue: str
    gpu_millis: int
    cpu_millis: int
    memory_mib: int
    runtime: str
    access: Access

    @classmethod
    def of(cls, shape: Shape) -> Demand:
        """Return what a shape counts as."""
        asked = shape.resources
        return cls(shape.queue, asked.gpu_millis, asked.cpu_millis, asked.memory_mib, shape.runtime, shape.access)

    @classmethod
    def of_unit(cls, unit: Unit, level: SecurityLevel) -> Demand:
        """Return what a unit counts as, in a queue of a security level."""
        asked, task = unit.task.resources, unit.task
        queue, access = unit.job.spec.queue, access_of(task, unit.job.spec.platform_capabilities, level)
        return cls(queue, asked.gpu_millis, asked.cpu_millis, asked.memory_mib, task.runtime, access)


class Mix:
    """The units with GPUs that were placed lately; together with those that wait it is what is expected."""

    def __init__(self) -> None:
        self.placed = 0
        """How many were, ever."""
        self._weights: dict[Demand, tuple[float, int]] = {}
        """What those of a kind counted when the last of them was placed, and which that was."""

    def note_placed(self, demand: Demand) -> None:
        """Note that a unit that asks for a GPU was placed."""
        weight = self._weight(demand)
        self.placed += 1
        self._weights[demand] = (weight * _DECAY + 1, self.placed)

    def _weight(self, demand: Demand) -> float:
        weight, at = self._weights.get(demand, (0.0, self.placed))
        return weight * _DECAY ** (self.placed - at)

    def weigh(self, lines: Iterable[Line]) -> dict[Demand, float]:
        """
        Return how many units of each demand count: remembered ones, and those that wait in *lines*.

        Of one line no more count than are remembered of all that were placed, so that a
        long queue of one shape does not hide what else is asked for.
        """
        for demand in list(self._weights):
            if self._weight(demand) < _FORGOTTEN:
                del self._weights[demand]
        weights = {demand: self._weight(demand) for demand in self._weights}
        for line in lines:
            for shape in [each for each in line.shape.singles if each.resources.gpu_millis]:
                demand = Demand.of(shape)
                weights[demand] = weights.get(demand, 0.0) + min(len(line), MEMORY)
        return weights
