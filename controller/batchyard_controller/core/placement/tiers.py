"""
Tiers: how an environment's strategy ranks the hosts of a fleet.

Law: a tier rests on what hosts are, on which hosts of a pool have work, and on what is
known of pools, all of it as it is when it is asked.
"""

from __future__ import annotations

import numpy as np

from batchyard_controller.core.model.settings import ComputeEnvironment

from .feasibility import type_place
from .fleet import USABLE
from .kinds import Kinds, Mask
from .pools import Pool, Pools
from .sketch import Sketch
from .strategies import RISKY, STRATEGIES, WAITING, Amounts, Keys, Offers, ranks_of

_DEEP = 2.0
"""So much more often, and once, do those lose hosts who use all of a pool."""
NO_TIER = np.iinfo(np.int64).max
"""Of no host."""
_ANY_H = 1.0
"""Of strategies that heed no pools."""


class Tiers:
    """The ranks of hosts in one environment."""

    def __init__(self, environment: ComputeEnvironment, pools: Pools) -> None:
        wanted = environment.compute_resources
        self.environment = environment
        self.is_risky = wanted.allocation_strategy in RISKY
        """Whether who is on hosts makes a difference to their tiers."""
        self.waits = wanted.allocation_strategy in WAITING
        self._types = wanted.instance_types
        self._strategy = STRATEGIES[wanted.allocation_strategy]
        self._pools = pools
        self._known = 0
        self._kinds: Kinds | None = None
        self._price, self._vcpus, self._order = np.zeros((3, 0))
        self._names: list[Pool] = []
        self._pool_of: Amounts = np.zeros(0, dtype=np.int64)
        """By kind, the place of its pool among the names."""
        self._ranks: Amounts | None = None
        """By kind, of a strategy that does not heed pools; None if all are equal."""

    def of(self, sketch: Sketch, run_h: float) -> Amounts | None:
        """Return the tier of each host for a job that is taken to run so long, the lowest first; None if all are equal."""
        fleet = sketch.fleet
        if self._kinds is not fleet.kinds or self._known < len(fleet.kinds):
            self._know(fleet.kinds)
        ranks = self._ranked(*self._pool_risks(sketch), run_h) if self.is_risky else self._ranks
        return None if ranks is None else ranks[fleet.kind_of]

    def awaited(self, sketch: Sketch, able: Mask) -> Mask:
        """Return the hosts of the first tier of those *able*, for a strategy that waits."""
        ranks = self.of(sketch, _ANY_H)
        if ranks is None:
            return able
        mask: Mask = able & (ranks == ranks.min(where=able, initial=NO_TIER))
        return mask

    def _know(self, kinds: Kinds) -> None:
        """Take in the kinds of hosts there are now."""
        facts = kinds.facts()
        self._kinds, self._known = kinds, len(facts)
        self._price = np.array([f.price_per_hour for f in facts])
        self._vcpus = np.array([f.capacity.cpu_millis / 1000 for f in facts])
        self._order = np.array([float(type_place(f.host_type, self._types)) for f in facts])
        places: dict[Pool, int] = {}
        self._pool_of = np.array([places.setdefault(Pool.of(f), len(places)) for f in facts], dtype=np.int64)
        self._names = list(places)
        if not self.is_risky:
            safe = np.ones(len(facts))
            self._ranks = self._ranked(safe, safe, _ANY_H)

    def _pool_risks(self, sketch: Sketch) -> tuple[Keys, Keys]:
        """Return, by kind, how often hosts of its pool are reclaimed, and how deep we are in it."""
        fleet, pools = sketch.fleet, len(self._names)
        pool_of = self._pool_of[fleet.kind_of]
        is_busy = (sketch.state[:4] < fleet.capacity).any(axis=0)
        used = np.bincount(pool_of, weights=is_busy, minlength=pools)
        size = np.bincount(pool_of, weights=sketch.state[USABLE] > 0, minlength=pools)
        depth = 1 + _DEEP * (used + 1) / np.maximum(size, 1)
        rate = np.array([self._pools.rate(pool) for pool in self._names])
        return rate[self._pool_of], depth[self._pool_of]

    def _ranked(self, rate: Keys, depth: Keys, run_h: float) -> Amounts | None:
        offers = Offers(price=self._price, vcpus=self._vcpus, order=self._order, rate=rate, depth=depth, run_h=run_h)
        ranks = ranks_of(self._strategy(offers))
        return ranks if ranks.any() else None
