"""
Quota sketch: the quota shares of a queue as a plan finds and changes them.

Shares go round: of those that have capacity of their own left for who comes first in them
that one goes first which uses the least part of it; then those that have to borrow, first
come first served. So idle capacity is borrowed after its owners were asked.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from batchyard.ids import AttemptId, HostId
from batchyard_controller.core.model.quota_shares import GPU, MEMORY_MIB, VCPU

from .fleet import Fleet
from .kinds import Mask
from .line import Rank, Shape
from .quotas import Quota, Use, sum_uses, use_of

_BORROWS = 2.0
"""More than any part of its own that a share uses within that."""


class QuotaSketch:
    """What shares use in a plan: now, and once those have left that are stopped and those have come that were promised room."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.now = quota.ledger.copy()
        self.later = quota.later()
        self._is_apart = bool(quota.stopping)
        """Whether these two may differ."""
        self.types = [unit for unit in quota.ledger.limits if unit not in (VCPU, MEMORY_MIB, GPU)]
        """Host types of which the shares have limits."""

    def uses(self, shape: Shape) -> list[Use]:
        """Return what a unit of a shape may come to use: on hosts of each type, if that makes a difference."""
        return [use_of(shape.resources, host_type) for host_type in self.types or ("",)]

    def score(self, rank: Rank, shape: Shape) -> float:
        """Return by what shares take turns, of which one of such a rank and shape comes first; the least goes first."""
        own = [use for use in self.uses(shape) if self.now.is_own(shape.share, use)]
        if own:
            return min(self.now.fullness(shape.share, use) for use in own)
        return _BORROWS + rank[3]

    def is_own(self, shape: Shape) -> bool:
        """Say whether one more of a shape is within what is its share's own."""
        return any(self.later.is_own(shape.share, use) for use in self.uses(shape))

    def hosts_for(self, shape: Shape, fleet: Fleet, *, is_promised: bool) -> tuple[bool, Mask | None]:
        """
        Say whether a share may use so much more as one of a shape asks, and if that hangs on the type of hosts, on which.

        What is promised to others is not taken, unless it *is promised* to this one; None stands for all hosts.
        """
        may, mask = self._allows(shape.share, use_of(shape.resources), is_promised), None
        for host_type in self.types if may else ():
            if not self._allows(shape.share, use_of(shape.resources, host_type), is_promised):
                others = ~fleet.of_type(host_type)
                mask = others if mask is None else mask & others
        return may, mask

    def _allows(self, share: str, use: Use, is_promised: bool) -> bool:
        if self.now.lacks(share, use):
            return False
        return is_promised or not self._is_apart or not self.later.lacks(share, use)

    def allows_all(self, share: str, uses: Iterable[Use], *, is_promised: bool) -> bool:
        """Say whether a share may use so much more all at once; *is_promised* as in `hosts_for`."""
        return self._allows(share, sum_uses(uses), is_promised)

    def has_victims(self, shape: Shape) -> bool:
        """Say whether there may be somebody to stop for one of a shape, of its own queue."""
        own = self.quota.ledger.shares.get(shape.share)
        if own is not None and own.in_share_preemption and shape.priority:
            return True
        return bool(self._borrowers(shape))

    def hosts_of_victims(self, shape: Shape) -> set[HostId]:
        """Return on which hosts there may be somebody to stop for one of a shape, of its own queue."""
        own = self.quota.ledger.shares.get(shape.share)
        shares = self._borrowers(shape)
        if own is not None and own.in_share_preemption:
            shares.add(shape.share)
        return {holding.host_id for holding in self.quota.holdings.values() if holding.share in shares}

    def _borrowers(self, shape: Shape) -> set[str]:
        """Return which other shares use more than their own, if one of a shape would be within its share's own."""
        if not self.is_own(shape):
            return set()
        limits = self.later.limits
        uses = [(unit, used) for unit, used in self.later.used.items() if unit in limits]
        over = {share for unit, used in uses for share, amount in used.items() if amount > limits[unit].get(share, 0)}
        return over - {shape.share}

    def most(self, share: str, use: Use, wanted: int) -> int:
        """Return how many of so many *wanted* units a share may let use so much each, once those have left that are being stopped."""
        return bisect.bisect_left(range(wanted), True, key=lambda n: bool(self.later.lacks(share, _times(use, n + 1))))

    def take(self, share: str, use: Use) -> None:
        """Let a share use more from now on."""
        self.now.add(share, use)
        self.later.add(share, use)

    def take_units(self, share: str, use: Use, units: int) -> None:
        """Let so many units of a share use so much each."""
        self.take(share, _times(use, units))

    def promise(self, share: str, use: Use, sign: int = 1) -> None:
        """Promise a share that it may use so much, or no longer (-1)."""
        self._is_apart = True
        self.later.add(share, use, sign)

    def evict(self, names: Iterable[AttemptId]) -> set[HostId]:
        """Let attempts leave, and return their hosts; now they are still there."""
        self._is_apart, held = True, [self.quota.holdings[name] for name in names]
        for holding in held:
            self.later.add(holding.share, holding.use, -1)
        return {holding.host_id for holding in held}

    def stay(self, names: Iterable[AttemptId]) -> None:
        """Let attempts stay after all that were to leave."""
        for holding in (self.quota.holdings[name] for name in names):
            self.later.add(holding.share, holding.use)


def _times(use: Use, units: int) -> Use:
    return {unit: amount * units for unit, amount in use.items()}
