"""Situation: all that plans are made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from batchyard_controller.core.model.policies import SchedulingPolicy
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue
from batchyard_controller.core.model.values import Instant

from .lines import Lines
from .ranking import Rankings
from .reservations import Reservation, Tenant
from .shares import Shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """
    All that plans are made from.

    Attributes:
        host_tenants: Tells who holds a host now.
        environment_tenants: Tells who counts now towards the bound of an environment.
        reservations: Of the last plan.
    """

    lines: Lines
    queues: Mapping[str, JobQueue]
    environments: Mapping[str, ComputeEnvironment]
    policies: Mapping[str, SchedulingPolicy]
    shares: Shares
    rankings: Rankings
    host_tenants: Callable[[str, Instant], list[Tenant]]
    environment_tenants: Callable[[str, Instant], list[Tenant]]
    reservations: tuple[Reservation, ...]
