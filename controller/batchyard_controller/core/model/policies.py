"""Scheduling policies: how a queue is shared, as their owners made them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from batchyard.pairs import Pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareWeight:
    """
    What one share identifier, or all that begin alike, may use (AWS: ShareAttributes).

    Attributes:
        share_identifier: Of one share; one that ends in ``*`` of all that begin so, which have the weight together.
        weight_factor: 0.0001 to 999.9999; the lower, the more: a share of 0.125 gets eight times what one of 1 gets.
        max_running: Most units that run at once, of all that begin so together; 0 means no bound. Ours.
        max_vcpus: Most vCPUs that these have at once; 0 means no bound. Ours.
    """

    share_identifier: str
    weight_factor: float = 1.0
    max_running: int = 0
    max_vcpus: int = 0

    def covers(self, share: str) -> bool:
        """Say whether a share that a job names is this one, or one of those that begin so."""
        said = self.share_identifier
        return share == said or (said.endswith("*") and share.startswith(said[:-1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class FairsharePolicy:
    """
    AWS: FairsharePolicy.

    Attributes:
        share_decay_s: Over how long what was used counts, ever less; 0 is AWS's least window, 600 s.
        compute_reservation: Per cent, 0 to 99, kept free for shares that are not active: of the
            environments' most, this fraction to the power of the number of active shares.
        share_distribution: Weights; shares that none says have 1.
    """

    share_decay_s: int = 0
    compute_reservation: int = 0
    share_distribution: tuple[ShareWeight, ...] = ()


class IdleAssignment(StrEnum):
    """Who borrows idle capacity first (AWS: idleResourceAssignmentStrategy, of which there is one)."""

    FIFO = "FIFO"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaSharePolicy:
    """AWS: QuotaSharePolicy; what the shares are is said of each queue."""

    idle_resource_assignment: IdleAssignment = IdleAssignment.FIFO


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulingPolicy:
    """
    How the shares of the queues that name it take turns; of two kinds, of which a policy keeps its own.

    Attributes:
        fairshare: By what shares used lately; at its defaults where there is the other.
        quota_share: By capacity that is each share's own.
    """

    name: str
    fairshare: FairsharePolicy = FairsharePolicy()
    quota_share: QuotaSharePolicy | None = None
    tags: Pairs = ()
    annotations: Pairs = ()
    created_at_ms: int = 0
