"""
Pools: hosts of one type in one zone, and how often such hosts were reclaimed lately.

Who reclaims hosts takes many of a pool at once, so what happened to one tells of the
others. Reclaims and hours on the watch are forgotten alike, half of them in a day; a
pool of which little is known is taken for one that loses a host in twenty hours of a
host, twenty times over. Pure: `now` is an argument; nothing of it is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from batchyard_controller.core.model.hosts import HostFacts
from batchyard_controller.core.model.values import Instant

HALF_LIFE_H = 24.0
PRIOR_RATE = 0.05
"""Reclaims in an hour of a host that are expected of a pool of which nothing is known."""
PRIOR_H = 20.0
"""Hours of a host that this counts for."""
_HOUR_MS = 3_600_000
_FORGOTTEN_H = 1e-3


@dataclass(frozen=True, slots=True)
class Pool:
    """Hosts that are reclaimed together."""

    host_type: str
    zone: str

    @classmethod
    def of(cls, facts: HostFacts) -> Pool:
        """Return the pool of a host."""
        return cls(facts.host_type, facts.zone)


class Pools:
    """How often hosts of each pool were reclaimed, by the hours that they were here."""

    def __init__(self) -> None:
        self._reclaims: dict[Pool, float] = {}
        self._hours: dict[Pool, float] = {}
        self._at_boot_ms: int | None = None

    def note_time(self, hosts: Mapping[Pool, int], now: Instant) -> None:
        """Take in the time since it was last told: who is here now, by pool, was here for all of it."""
        passed_h = 0.0 if self._at_boot_ms is None else max(0, now.boot_ms - self._at_boot_ms) / _HOUR_MS
        self._at_boot_ms = now.boot_ms
        kept = 0.5 ** (passed_h / HALF_LIFE_H)
        for known in (self._reclaims, self._hours):
            for pool in list(known):
                known[pool] *= kept
                if known[pool] < _FORGOTTEN_H and pool not in hosts:
                    del known[pool]
        for pool, number in hosts.items():
            self._hours[pool] = self._hours.get(pool, 0.0) + number * passed_h

    def note_reclaim(self, pool: Pool) -> None:
        """Count a host of a pool that is reclaimed; whoever tells it does so once a host."""
        self._reclaims[pool] = self._reclaims.get(pool, 0.0) + 1

    def rate(self, pool: Pool) -> float:
        """Return how many reclaims are to be expected in an hour of a host of a pool."""
        return (PRIOR_RATE * PRIOR_H + self._reclaims.get(pool, 0.0)) / (PRIOR_H + self._hours.get(pool, 0.0))
