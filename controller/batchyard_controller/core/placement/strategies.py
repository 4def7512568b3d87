"""
Strategies: which of an environment's hosts come first, by what they are and not by how full they are.

A strategy is one pure function from what an environment's hosts are offered as, one
column a kind of hosts, to sort keys, the first of them the most significant. Of those that can
take a job the hosts of the lowest key get it; of equal ones the rule decides by which
hosts are filled (`ranking`). Hosts of your own cost what their agents say, and nothing if they
say nothing, so that without prices all are equal but for the order of types and risks.

AWS's strategies choose what to launch; here they also choose among what is there (Batch User
Guide, "Instance type allocation strategies").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchyard_controller.core.model.settings import AllocationStrategy

Amounts = npt.NDArray[np.int64]
Keys = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """
    What hosts are offered as, one column a kind.

    Attributes:
        price: Of an hour of a host; 0 where none is said.
        vcpus: How many a host has; of hosts without a price it does not count.
        order: The place of the host's type among the environment's instance types.
        rate: Reclaims to be expected in an hour of a host of the pool.
        depth: How much of the pool is in use, from 1 for nothing to 3: who uses much of a pool loses more.
        run_h: How long a job is taken to run, in hours.
    """

    price: Keys
    vcpus: Keys
    order: Keys
    rate: Keys
    depth: Keys
    run_h: float

    @property
    def risk(self) -> Keys:
        """Reclaims to be expected in an hour, weighed by depth."""
        return self.rate * self.depth


Strategy = Callable[[Offers], tuple[Keys, ...]]


def cheapest(offers: Offers) -> tuple[Keys, ...]:
    """BEST_FIT: the lowest price of a host; `WAITING` says that a job waits for such hosts."""
    return (offers.price,)


def cheapest_per_vcpu(offers: Offers) -> tuple[Keys, ...]:
    """BEST_FIT_PROGRESSIVE: the lowest price of a vCPU, then the next."""
    return (offers.price / np.maximum(offers.vcpus, 1e-3),)


def first_named(offers: Offers) -> tuple[Keys, ...]:
    """BEST_FIT_PROGRESSIVE_ORDERED: the type that is named first, then the next."""
    return (offers.order,)


def least_risk(offers: Offers) -> tuple[Keys, ...]:
    """SPOT_CAPACITY_OPTIMIZED: the pool that is least likely to lose the host."""
    return (offers.risk,)


def least_risk_first_named(offers: Offers) -> tuple[Keys, ...]:
    """SPOT_CAPACITY_OPTIMIZED_PRIORITIZED: as before, but among risks of one order of magnitude (twofold) by type."""
    return np.floor(np.log2(offers.risk)), offers.order, offers.risk


def least_cost_of_work(offers: Offers) -> tuple[Keys, ...]:
    """
    SPOT_PRICE_CAPACITY_OPTIMIZED: the least that a job costs until it has run through.

    Who is reclaimed at a rate and begins again until a run of *d* hours is through, needs
    (exp(rate d) - 1) / rate hours in the mean. Where nothing has a price, the least risk.
    """
    hours = np.expm1(offers.risk * offers.run_h) / offers.risk
    return offers.price * hours, offers.risk


STRATEGIES: dict[AllocationStrategy, Strategy] = {
    AllocationStrategy.BEST_FIT: cheapest,
    AllocationStrategy.BEST_FIT_PROGRESSIVE: cheapest_per_vcpu,
    AllocationStrategy.BEST_FIT_PROGRESSIVE_ORDERED: first_named,
    AllocationStrategy.SPOT_CAPACITY_OPTIMIZED: least_risk,
    AllocationStrategy.SPOT_CAPACITY_OPTIMIZED_PRIORITIZED: least_risk_first_named,
    AllocationStrategy.SPOT_PRICE_CAPACITY_OPTIMIZED: least_cost_of_work,
}

WAITING = frozenset({AllocationStrategy.BEST_FIT})
"""Of these a job waits for the hosts that come first of those that could take it if they were empty (AWS)."""

RISKY = frozenset(
    {
        AllocationStrategy.SPOT_CAPACITY_OPTIMIZED,
        AllocationStrategy.SPOT_CAPACITY_OPTIMIZED_PRIORITIZED,
        AllocationStrategy.SPOT_PRICE_CAPACITY_OPTIMIZED,
    }
)
"""Those that heed pools, which change with each unit that is placed."""


def ranks_of(keys: tuple[Keys, ...]) -> Amounts:
    """Return the rank of each column by its keys: 0 for the lowest, the same for equal ones."""
    order = np.lexsort(keys[::-1])
    rises = np.zeros(len(order), dtype=np.bool_)
    for key in keys:
        rises[1:] |= np.diff(key[order]) > 0
    ranks = np.zeros(len(order), dtype=np.int64)
    ranks[order] = np.cumsum(rises)
    return ranks
