"""
Types: which type of hosts is launched next, by the environment's strategy.

A strategy is one pure function from what a type would do for the jobs that wait to a
sort key; the lowest key is launched. Whether a type may be launched now is asked
elsewhere, of all strategies alike.

Source of the rules: AWS Batch User Guide, "Instance type allocation strategies".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from batchyard_controller.core.model.settings import AllocationStrategy, CapacityType, ComputeResources

Key = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """
    A type that is large enough, and what it would do for the jobs that wait.

    Attributes:
        name: The type's.
        place: In the order in which the environment, or else the catalogue, names types.
        price: Of a host, an hour.
        cpu_millis: Of a host.
        jobs: How many of those that wait one host would take, at least 1.
        waiting: How many wait.
        spare: How many more hosts of it there can be; infinite where nobody declared it.
        strikes: Failures to launch it, in a row.
    """

    name: str
    place: int
    price: float
    cpu_millis: int
    jobs: int
    waiting: int
    spare: float
    strikes: int

    @property
    def price_per_vcpu(self) -> float:
        """What a vCPU costs an hour."""
        return self.price * 1000 / self.cpu_millis

    @property
    def hosts(self) -> int:
        """How many hosts of it all that wait would need."""
        return -(-self.waiting // self.jobs)


def best_fit(candidate: Candidate) -> Key:
    """Whatever hosts all that wait for the least money, and of such with the least left over."""
    return candidate.hosts * candidate.price, candidate.hosts * candidate.cpu_millis, candidate.place


def least_price_per_vcpu(candidate: Candidate) -> Key:
    """The cheapest vCPU; of equally cheap ones what fits best."""
    return candidate.price_per_vcpu, *best_fit(candidate)


def deepest_pool(candidate: Candidate) -> Key:
    """Of what there is most left, and what failed least."""
    return candidate.strikes, -candidate.spare, *least_price_per_vcpu(candidate)


def price_and_depth(candidate: Candidate) -> Key:
    """The cheapest vCPU, dearer by half of itself for each failure and for a pool whose last host it would be."""
    doubts = candidate.strikes + (candidate.spare <= candidate.hosts)
    return candidate.price_per_vcpu * (1 + doubts / 2), -candidate.spare, *best_fit(candidate)


def declared_order(candidate: Candidate) -> Key:
    """The order in which the environment names them."""
    return (candidate.place,)


ORDERS: Mapping[AllocationStrategy, Callable[[Candidate], Key]] = {
    AllocationStrategy.BEST_FIT: best_fit,
    AllocationStrategy.BEST_FIT_PROGRESSIVE: least_price_per_vcpu,
    AllocationStrategy.BEST_FIT_PROGRESSIVE_ORDERED: declared_order,
    AllocationStrategy.SPOT_CAPACITY_OPTIMIZED: deepest_pool,
    AllocationStrategy.SPOT_CAPACITY_OPTIMIZED_PRIORITIZED: declared_order,
    AllocationStrategy.SPOT_PRICE_CAPACITY_OPTIMIZED: price_and_depth,
}

WAITING = (AllocationStrategy.BEST_FIT,)
"""Strategies that wait when their first choice cannot be launched; the others go on to the next type (AWS)."""


def may_exceed(resources: ComputeResources) -> bool:
    """Say whether the bound of an environment may be exceeded by one host (AWS: ComputeResource, maxvCpus)."""
    return resources.allocation_strategy not in WAITING or resources.type is CapacityType.SPOT
