"""Situation: all that plans are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from batchyard_controller.core.model.policies import SchedulingPolicy
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue

from .lines import Lines
from .ranking import Rankings
from .reservations import Reservation
from .shares import Shares
from .tenants import Tenants


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """
    All that plans are made from.

    Attributes:
        reservations: Of the last plan.
    """

    lines: Lines
    queues: Mapping[str, JobQueue]
    environments: Mapping[str, ComputeEnvironment]
    policies: Mapping[str, SchedulingPolicy]
    shares: Shares
    rankings: Rankings
    tenants: Tenants
    reservations: tuple[Reservation, ...]
