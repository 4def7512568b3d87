"""Settings: compute environments and job queues, as their owners made them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from batchyard.pairs import Pairs
from batchyard.security import SecurityLevel


class EnvironmentType(StrEnum):
    """AWS: type of a compute environment."""

    MANAGED = "MANAGED"
    UNMANAGED = "UNMANAGED"


class ResourceState(StrEnum):
    """Whether a compute environment or a queue takes new work."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"


class Platform(StrEnum):
    """
    Where jobs run. AWS: platform capability, and the orchestration EKS.

    FARGATE runs jobs of fixed sizes, in containers alone; EKS runs pods on nodes of a cluster.
    """

    EC2 = "EC2"
    FARGATE = "FARGATE"
    EKS = "EKS"


CAPABILITIES = (Platform.EC2, Platform.FARGATE)
"""What a definition and a host can name of these; for pods their runtime speaks."""


class CapacityType(StrEnum):
    """Which hosts an environment takes: those of SPOT and FARGATE_SPOT may be reclaimed, the others' are on-demand."""

    EC2 = "EC2"
    SPOT = "SPOT"
    FARGATE = "FARGATE"
    FARGATE_SPOT = "FARGATE_SPOT"

    @property
    def is_spot(self) -> bool:
        """Whether its hosts may be taken away."""
        return self in (CapacityType.SPOT, CapacityType.FARGATE_SPOT)

    @property
    def purchase_option(self) -> str:
        """Of its hosts."""
        return "spot" if self.is_spot else "on-demand"

    @property
    def platform(self) -> Platform:
        """What jobs it runs."""
        is_fargate = self in (CapacityType.FARGATE, CapacityType.FARGATE_SPOT)
        return Platform.FARGATE if is_fargate else Platform.EC2


class AllocationStrategy(StrEnum):
    """AWS: how the environment's hosts are chosen."""

    BEST_FIT = "BEST_FIT"
    BEST_FIT_PROGRESSIVE = "BEST_FIT_PROGRESSIVE"
    BEST_FIT_PROGRESSIVE_ORDERED = "BEST_FIT_PROGRESSIVE_ORDERED"
    SPOT_CAPACITY_OPTIMIZED = "SPOT_CAPACITY_OPTIMIZED"
    SPOT_CAPACITY_OPTIMIZED_PRIORITIZED = "SPOT_CAPACITY_OPTIMIZED_PRIORITIZED"
    SPOT_PRICE_CAPACITY_OPTIMIZED = "SPOT_PRICE_CAPACITY_OPTIMIZED"


SCALE_DOWN_DELAY_S = 300
"""Ours; AWS waits for the delay that is asked for, and else as it likes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeResources:
    """
    Selects hosts and bounds their use.

    Attributes:
        min_vcpus: With a provider: hosts with so many are kept, whatever waits.
        max_vcpus: Jobs use no more at once, and no more hosts are launched; 0: no bound, which a provider needs.
        desired_vcpus: With a provider: hosts with so many are launched at once; 0 as soon as they are
            there, as then what waits decides.
        provider: Who launches its hosts, which it then has alone; empty: it selects hosts that are there.
        bid_percentage: Of SPOT: a type whose spot price is more than so many per cent of its on-demand
            price is not launched; 0: whatever it is (AWS: 100).
        scale_down_delay_s: A host is stopped when nothing ran on it for so long; None: `SCALE_DOWN_DELAY_S`.
    """

    type: CapacityType = CapacityType.EC2
    allocation_strategy: AllocationStrategy = AllocationStrategy.BEST_FIT_PROGRESSIVE
    min_vcpus: int = 0
    max_vcpus: int = 0
    desired_vcpus: int = 0
    instance_types: tuple[str, ...] = ()
    labels: Pairs = ()
    provider: str = ""
    bid_percentage: int = 0
    scale_down_delay_s: int | None = None

    @property
    def delay_s(self) -> int:
        """After how long an idle host is stopped."""
        return SCALE_DOWN_DELAY_S if self.scale_down_delay_s is None else self.scale_down_delay_s


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesCluster:
    """A cluster whose nodes are an environment's hosts, and the namespace in which its jobs' pods are."""

    name: str
    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeEnvironment:
    """A named selection of hosts; with *kubernetes* the nodes of that cluster (AWS: eksConfiguration)."""

    name: str
    type: EnvironmentType = EnvironmentType.MANAGED
    state: ResourceState = ResourceState.ENABLED
    compute_resources: ComputeResources = ComputeResources()
    unmanaged_vcpus: int = 0
    service_role: str = ""
    tags: Pairs = ()
    annotations: Pairs = ()
    created_at_ms: int = 0
    kubernetes: KubernetesCluster | None = None

    @property
    def platform(self) -> Platform:
        """What jobs it runs."""
        return self.compute_resources.type.platform if self.kubernetes is None else Platform.EKS

    @property
    def has_provider(self) -> bool:
        """Whether its hosts are launched and stopped for it."""
        return bool(self.compute_resources.provider)


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


class DispatchOrder(StrEnum):
    """
    In which order equals of a queue start, and who may pass one that cannot start yet.

    DUE_TIME: by due times, which short jobs reach sooner; whoever does not delay it passes.
    SUBMISSION_TIME: as submitted; whoever does not delay it passes. STRICT: as submitted,
    and nobody passes (AWS's order).
    """

    DUE_TIME = "DUE_TIME"
    SUBMISSION_TIME = "SUBMISSION_TIME"
    STRICT = "STRICT"


class Preemption(StrEnum):
    """
    Whom a queue may have stopped so that a unit of it can start that lacks room.

    LOWER_PRIORITY: units of preemptible queues of lower priority; and, if it is preemptible
    itself, those of lower scheduling priority in the same share.
    """

    NEVER = "NEVER"
    LOWER_PRIORITY = "LOWER_PRIORITY"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQueue:
    """
    Where jobs wait. Higher priority is served first.

    Attributes:
        max_overtake_s: By due times: nobody submitted so long after a job starts before it
            where either could; 0 for no bound but that of the rule.
        scheduling_policy: Name of the one that it was created with, or of another in its place; empty for ever if
            it was created without.
        max_running: Most units that run at once; 0 means no bound.
        max_vcpus: Most vCPUs that these have at once; 0 means no bound.
        preemptible: Whether its units may be stopped for others of higher rank.
        security_level: What its units are kept to on their hosts, but for pods.
        fence_s: Of attempts whose jobs do not say it; -1: never; 0: that of their hosts.
    """

    name: str
    state: ResourceState = ResourceState.ENABLED
    priority: int = 0
    environment_order: tuple[EnvironmentOrder, ...] = ()
    scheduling_policy: str = ""
    state_time_limits: tuple[StateTimeLimit, ...] = ()
    dispatch_order: DispatchOrder = DispatchOrder.DUE_TIME
    max_overtake_s: int = 0
    max_running: int = 0
    max_vcpus: int = 0
    preemption: Preemption = Preemption.NEVER
    preemptible: bool = False
    security_level: SecurityLevel = SecurityLevel.PRIVILEGED
    fence_s: int = 0
    tags: Pairs = ()
    annotations: Pairs = ()
    created_at_ms: int = 0

    @property
    def compute_environments(self) -> tuple[str, ...]:
        """Names of its compute environments, in the order in which they are tried."""
        steps = sorted(self.environment_order, key=lambda step: step.order)
        return tuple(step.compute_environment for step in steps)
