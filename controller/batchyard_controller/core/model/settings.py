"""Settings: compute environments and job queues, as their owners made them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from batchyard.pairs import Pairs


class EnvironmentType(StrEnum):
    """AWS: type of a compute environment."""

    MANAGED = "MANAGED"
    UNMANAGED = "UNMANAGED"


class ResourceState(StrEnum):
    """Whether a compute environment or a queue takes new work."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"


class CapacityType(StrEnum):
    """Which hosts an environment takes: EC2 is on-demand, SPOT may be reclaimed."""

    EC2 = "EC2"
    SPOT = "SPOT"


class AllocationStrategy(StrEnum):
    """AWS: how the environment's hosts are chosen."""

    BEST_FIT = "BEST_FIT"
    BEST_FIT_PROGRESSIVE = "BEST_FIT_PROGRESSIVE"
    BEST_FIT_PROGRESSIVE_ORDERED = "BEST_FIT_PROGRESSIVE_ORDERED"
    SPOT_CAPACITY_OPTIMIZED = "SPOT_CAPACITY_OPTIMIZED"
    SPOT_CAPACITY_OPTIMIZED_PRIORITIZED = "SPOT_CAPACITY_OPTIMIZED_PRIORITIZED"
    SPOT_PRICE_CAPACITY_OPTIMIZED = "SPOT_PRICE_CAPACITY_OPTIMIZED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeResources:
    """Selects hosts and bounds their use. ``max_vcpus`` 0 means no bound."""

    type: CapacityType = CapacityType.EC2
    allocation_strategy: AllocationStrategy = AllocationStrategy.BEST_FIT_PROGRESSIVE
    min_vcpus: int = 0
    max_vcpus: int = 0
    desired_vcpus: int = 0
    instance_types: tuple[str, ...] = ()
    labels: Pairs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeEnvironment:
    """A named selection of hosts."""

    name: str
    type: EnvironmentType = EnvironmentType.MANAGED
    state: ResourceState = ResourceState.ENABLED
    compute_resources: ComputeResources = ComputeResources()
    unmanaged_vcpus: int = 0
    service_role: str = ""
    tags: Pairs = ()
    annotations: Pairs = ()
    created_at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentOrder:
    """One step of a queue's way through compute environments, lowest order first."""

    order: int
    compute_environment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateTimeLimit:
    """AWS: jobStateTimeLimitActions entry."""

    reason: str
    state: str
    max_time_s: int
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQueue:
    """Where jobs wait. Higher priority is served first."""

    name: str
    state: ResourceState = ResourceState.ENABLED
    priority: int = 0
    environment_order: tuple[EnvironmentOrder, ...] = ()
    scheduling_policy: str = ""
    state_time_limits: tuple[StateTimeLimit, ...] = ()
    tags: Pairs = ()
    annotations: Pairs = ()
    created_at_ms: int = 0

    @property
    def compute_environments(self) -> tuple[str, ...]:
        """Names of its compute environments, in the order in which they are tried."""
        steps = sorted(self.environment_order, key=lambda step: step.order)
        return tuple(step.compute_environment for step in steps)
