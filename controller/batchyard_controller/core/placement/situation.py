"""Situation: all that plans are made from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from batchyard.ids import HostId
from batchyard_controller.core.model.policies import SchedulingPolicy
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue, ResourceState
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant

from .line import Shape
from .lines import Lines
from .preemption import Occupant
from .ranking import Rankings
from .reservations import Reservation
from .shares import Shares
from .tenants import Tenants


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """
    All that plans are made from.

    Attributes:
        occupants: Tells who could be stopped on a host, and who is.
        hosts_of: Tells on which hosts units of a queue are.
        reservations: Of the last plan.
    """

    lines: Lines
    queues: Mapping[str, JobQueue]
    environments: Mapping[str, ComputeEnvironment]
    policies: Mapping[str, SchedulingPolicy]
    shares: Shares
    rankings: Rankings
    tenants: Tenants
    occupants: Callable[[str], list[Occupant]]
    hosts_of: Callable[[str], Collection[HostId]]
    reservations: tuple[Reservation, ...]

    def environments_of(self, shape: Shape) -> list[ComputeEnvironment]:
        """Return where those of a shape may go, in order."""
        found = [self.environments[name] for name in self.queues[shape.queue].compute_environments]
        return [environment for environment in found if environment.state is ResourceState.ENABLED]

    def promise(
        self, shape: Shape, unit: Unit, environment: str, host_id: HostId, starts_ms: int, now: Instant
    ) -> Reservation:
        """Return the promise of a host to a unit of a shape."""
        waited_ms = max(0, now.wall_ms - unit.job.created_at_ms)
        patience_ms = self.lines.due_times.patience_ms(shape.queue) - waited_ms
        return Reservation(
            self.queues[shape.queue].priority,
            unit.job.id,
            unit.index,
            shape,
            host_id,
            environment,
            starts_ms,
            promised_ms=starts_ms,
            patient_until_ms=now.boot_ms + patience_ms,
        )
