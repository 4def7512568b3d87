"""Quota shares: parts of a queue with capacity of their own, as their owners made them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from batchyard.pairs import Pairs

from .settings import ResourceState

VCPU, MEMORY_MIB, GPU = "VCPU", "MEMORY_MIB", "GPU"
"""Units of capacity; any other is a host type, of which jobs and children on such hosts are counted."""
UNBOUNDED = -1
"""A borrow limit that is none (AWS's default)."""


class SharingStrategy(StrEnum):
    """What becomes of a share's idle capacity, and whether it may use that of others (AWS: resourceSharingConfiguration)."""

    RESERVE = "RESERVE"
    LEND = "LEND"
    LEND_AND_BORROW = "LEND_AND_BORROW"


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityLimit:
    """How much of one unit of capacity is a share's own (AWS: QuotaShareCapacityLimit)."""

    capacity_unit: str
    max_capacity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaShare:
    """
    A part of a queue, which jobs choose by their share identifier.

    Attributes:
        capacity_limits: What is its own, 1 to 5 units of capacity. Of a unit that only other shares of the
            queue list it has none; one that no share lists is not counted.
        borrow_limit: Of a share that borrows: how much more than its own it may use, in per cent of that;
            -1 for as much as is idle.
        in_share_preemption: Whether its jobs may be stopped for others of it of higher scheduling priority.
        state: DISABLED: no new jobs; those it has go on.
    """

    job_queue: str
    name: str
    capacity_limits: tuple[CapacityLimit, ...]
    sharing_strategy: SharingStrategy
    borrow_limit: int = UNBOUNDED
    in_share_preemption: bool = False
    state: ResourceState = ResourceState.ENABLED
    tags: Pairs = ()
    created_at_ms: int = 0

    @property
    def id(self) -> str:
        """By which it is kept: the names of queues and shares hold no slash."""
        return share_id(self.job_queue, self.name)


def share_id(job_queue: str, name: str) -> str:
    """Return the id of a share of a queue."""
    return f"{job_queue}/{name}"
