"""Catalogue: which types of hosts a provider launches, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from batchyard_controller.core.model.hosts import HostFacts
from batchyard_controller.core.model.settings import CapacityType, ComputeResources

JOIN_LIMIT_S = 600
"""Ours: most machines boot in less."""
_ANY = "optimal"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchType:
    """
    A type of hosts that a provider launches.

    Attributes:
        facts: What a host of it is going to be: capacity, GPUs, runtimes and what its operator allows.
        price: On-demand, an hour, in any one currency.
        spot_price: Of a host that may be reclaimed; None: as much.
        count: How many there can be at once, as of own machines that are switched on; 0: any number.
    """

    facts: HostFacts
    price: float = 0.0
    spot_price: float | None = None
    count: int = 0

    @property
    def name(self) -> str:
        """Its name, which is its hosts' type."""
        return self.facts.host_type

    def price_as(self, capacity: CapacityType) -> float:
        """Return what an hour costs of a host that is on-demand or spot."""
        return self.spot_price if capacity is CapacityType.SPOT and self.spot_price is not None else self.price

    def is_affordable(self, resources: ComputeResources) -> bool:
        """Say whether its spot price is within an environment's bid (AWS: bidPercentage, of the on-demand price)."""
        if resources.type is not CapacityType.SPOT or not resources.bid_percentage:
            return True
        return self.price_as(CapacityType.SPOT) <= self.price * resources.bid_percentage / 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """
    What a provider offers.

    Attributes:
        provider: Its name.
        types: By name, in the order in which they were declared.
        join_limit_s: A host whose agent has not joined after so long is given up.
    """

    provider: str
    types: Mapping[str, LaunchType] = field(default_factory=dict)
    join_limit_s: int = JOIN_LIMIT_S

    def chosen(self, resources: ComputeResources) -> tuple[LaunchType, ...]:
        """Return the types that an environment names, whole or by family, in its order; all if it names none."""
        wanted = resources.instance_types
        if not wanted or _ANY in wanted:
            return tuple(self.types.values())
        named = (t for name in wanted for t in self.types.values() if name in (t.name, t.name.partition(".")[0]))
        return tuple({each.name: each for each in named}.values())
