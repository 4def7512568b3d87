"""
Quotas: what each quota share of a queue may use of its capacity, uses, lends and borrows.

A share uses its own capacity, and if it borrows, what those that lend leave idle. What it
uses beyond its own is borrowed. Laws, of each unit of capacity: what starts never brings
the use of all above the limits of all, nor what is borrowed above what lenders leave
idle, nor what one borrows above its borrow limit; a share that reserves lends nothing. Use follows from
the live attempts. A plan reckons twice: with who is there now, and with who will be once
those have left that are being stopped, and those have come for whom room is made.

Source: AWS Batch API reference, CreateQuotaShare; User Guide, "Quota shares".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import assert_never

from batchyard.ids import AttemptId, HostId
from batchyard.resources import Resources
from batchyard_controller.core.model.quota_shares import GPU, MEMORY_MIB, UNBOUNDED, VCPU, QuotaShare, SharingStrategy

from .line import Shape
from .refusals import Refusal

QUOTA_SHARE = "quota_share"
"""Kind of refusals."""
SCALES = {VCPU: 1000, GPU: 1000}
"""In what a unit of capacity is counted, where that is not itself: thousandths."""

Use = Mapping[str, int]
"""Amounts by unit of capacity."""


def use_of(resources: Resources, host_type: str = "") -> dict[str, int]:
    """Return what one unit uses, and of which type of hosts it is, if any is said."""
    use = {VCPU: resources.cpu_millis, MEMORY_MIB: resources.memory_mib, GPU: resources.gpu_millis}
    if host_type:
        use[host_type] = 1
    return {unit: amount for unit, amount in use.items() if amount}


class Lack(Enum):
    """Why a share cannot use more of a unit of capacity."""

    LIMIT = auto()
    """Its own is used, and it does not borrow."""
    BORROW_LIMIT = auto()
    IDLE = auto()
    """Others lend no more."""
    LENT = auto()
    """Its own is used by others."""


@dataclass(frozen=True, slots=True)
class Account:
    """
    How a share stands with one unit of capacity.

    Attributes:
        used: By its attempts, borrowed and not.
        lent: What others use of its idle capacity, if it is this share's turn to lend before that of others.
    """

    unit: str
    limit: int
    used: int
    lent: int

    @property
    def borrowed(self) -> int:
        """What it uses beyond its own."""
        return max(0, self.used - self.limit)


@dataclass(slots=True)
class Ledger:
    """What the shares of one queue may use, and what they use at a time."""

    shares: dict[str, QuotaShare] = field(default_factory=dict)
    limits: dict[str, dict[str, int]] = field(default_factory=dict)
    """By unit of capacity and share."""
    used: dict[str, dict[str, int]] = field(default_factory=dict)
    """By unit of capacity and share; of units that no share lists, too."""
    overdrafts: dict[str, int] = field(default_factory=dict)
    """By unit of capacity how much more is borrowed than lenders leave idle; below 0 there is some left."""

    def copy(self) -> Ledger:
        """Return one that may be changed without this; of the same shares."""
        used = {unit: dict(used) for unit, used in self.used.items()}
        return Ledger(self.shares, self.limits, used, dict(self.overdrafts))

    def set_shares(self, shares: Iterable[QuotaShare]) -> None:
        """Take what the shares of the queue are."""
        self.shares = {share.name: share for share in shares}
        self.limits = {}
        for share in self.shares.values():
            for limit in share.capacity_limits:
                scale = SCALES.get(limit.capacity_unit, 1)
                self.limits.setdefault(limit.capacity_unit, {})[share.name] = limit.max_capacity * scale
        self.overdrafts = {}
        for unit in self.limits:
            used = self.used.get(unit, {})
            self.overdrafts[unit] = sum(self._overdraft(n, unit, used.get(n, 0)) for n in {*used, *self.shares})

    def add(self, share: str, use: Use, sign: int = 1) -> None:
        """Let a share use so much more, or less (-1)."""
        for unit, amount in use.items():
            of_unit = self.used.setdefault(unit, {})
            before = of_unit.get(share, 0)
            after = of_unit[share] = before + sign * amount
            if unit in self.limits:
                self.overdrafts[unit] += self._overdraft(share, unit, after) - self._overdraft(share, unit, before)
            if not of_unit[share]:
                del of_unit[share]

    def counted(self, use: Use) -> Iterator[tuple[str, int]]:
        """Yield of what is used that of which some share of the queue has a limit."""
        return ((unit, amount) for unit, amount in use.items() if unit in self.limits)

    def account(self, share: str, unit: str) -> Account:
        """Say how a share stands; of what is lent, those lend first whose names come first."""
        limits, used = self.limits.get(unit, {}), self.used.get(unit, {})
        left = sum(max(0, amount - limits.get(name, 0)) for name, amount in used.items())
        lent = 0
        for name in sorted(self.shares):
            lent = min(left, self._idle(name, limits, used))
            left -= lent
            if name == share:
                break
        return Account(unit, limits.get(share, 0), used.get(share, 0), lent if share in self.shares else 0)

    def _idle(self, share: str, limits: Use, used: Use) -> int:
        """Return what a share leaves to others."""
        if self.shares[share].sharing_strategy is SharingStrategy.RESERVE:
            return 0
        return max(0, limits.get(share, 0) - used.get(share, 0))

    def lacks(self, share: str, use: Use) -> list[tuple[str, Lack]]:
        """Say of which units of capacity, and why, a share may not use so much more."""
        found = []
        for unit, amount in self.counted(use):
            lack = self._lack(share, unit, amount)
            if lack is not None:
                found.append((unit, lack))
        return found

    def _lack(self, share: str, unit: str, amount: int) -> Lack | None:
        limits, used = self.limits[unit], self.used.get(unit, {})
        after = used.get(share, 0) + amount
        beyond = after - limits.get(share, 0)
        if beyond > 0:
            own = self.shares.get(share)
            if own is None or own.sharing_strategy is not SharingStrategy.LEND_AND_BORROW:
                return Lack.LIMIT
            if beyond > self.borrow_limit(share, unit):
                return Lack.BORROW_LIMIT
        overdraft = self.overdrafts[unit]
        more = self._overdraft(share, unit, after) - self._overdraft(share, unit, used.get(share, 0))
        is_over = overdraft + more > max(0, overdraft) or sum(used.values()) + amount > sum(limits.values())
        return None if not is_over else Lack.IDLE if beyond > 0 else Lack.LENT

    def _overdraft(self, share: str, unit: str, used: int) -> int:
        """Return what a share that uses so much adds to the overdraft: what it borrows, less what it leaves to others."""
        beyond = used - self.limits[unit].get(share, 0)
        own = self.shares.get(share)
        lends = own is not None and own.sharing_strategy is not SharingStrategy.RESERVE
        return beyond if beyond > 0 or lends else 0

    def borrow_limit(self, share: str, unit: str) -> int:
        """Return how much of a unit of capacity a share that borrows may use beyond its own."""
        per_cent = self.shares[share].borrow_limit
        limits = self.limits.get(unit, {})
        if per_cent == UNBOUNDED:
            return sum(limits.values())
        return limits.get(share, 0) * per_cent // 100

    def lent_at_most(self, share: str, unit: str) -> int:
        """Return how much of a unit of capacity other shares would lend if they used nothing."""
        limits = self.limits.get(unit, {})
        return sum(self._idle(name, limits, {}) for name in self.shares if name != share)

    def idle(self, unit: str) -> int:
        """Return how much of a unit of capacity is left to be borrowed."""
        return max(0, -self.overdrafts.get(unit, 0))

    def beyond(self, unit: str) -> int:
        """Return how much of a unit of capacity all shares use beyond what is their own."""
        limits = self.limits.get(unit, {})
        return sum(max(0, used - limits.get(name, 0)) for name, used in self.used.get(unit, {}).items())

    def is_own(self, share: str, use: Use) -> bool:
        """Say whether so much more is within a share's own capacity, whoever uses that now."""
        return all(
            self.used.get(unit, {}).get(share, 0) + amount <= self.limits[unit].get(share, 0)
            for unit, amount in self.counted(use)
        )

    def borrows(self, share: str, use: Use) -> bool:
        """Say whether an attempt that uses so much is of a share that uses more than its own of some of that."""
        return any(
            self.used.get(unit, {}).get(share, 0) > self.limits[unit].get(share, 0) for unit, _ in self.counted(use)
        )

    def fullness(self, share: str, use: Use) -> float:
        """Return which part of its own a share uses, of that unit of capacity of which it is most; 0 to 1 within its own."""
        parts = [
            self.used.get(unit, {}).get(share, 0) / self.limits[unit].get(share, 0)
            for unit, _ in self.counted(use)
            if self.limits[unit].get(share, 0)
        ]
        return max(parts, default=0.0)


@dataclass(frozen=True, slots=True)
class Holding:
    """What one live attempt of a share uses."""

    share: str
    host_id: HostId
    use: Use


def total_use(holdings: Iterable[Holding]) -> Use:
    """Return what several attempts use together."""
    return sum_uses(holding.use for holding in holdings)


def sum_uses(uses: Iterable[Use]) -> dict[str, int]:
    """Return amounts in all, by unit of capacity."""
    total: dict[str, int] = {}
    for use in uses:
        for unit, amount in use.items():
            total[unit] = total.get(unit, 0) + amount
    return total


@dataclass(slots=True, eq=False)
class Quota:
    """The shares of one queue, and the live attempts that use their capacity."""

    ledger: Ledger = field(default_factory=Ledger)
    holdings: dict[AttemptId, Holding] = field(default_factory=dict)
    stopping: dict[AttemptId, Holding] = field(default_factory=dict)
    """Those of them that are being stopped."""

    def hosts(self) -> list[HostId]:
        """Return the hosts on which there are such attempts."""
        return sorted({holding.host_id for holding in self.holdings.values()})

    def later(self) -> Ledger:
        """Return what will be used once those have left that are being stopped."""
        ledger = self.ledger.copy()
        for holding in self.stopping.values():
            ledger.add(holding.share, holding.use, -1)
        return ledger


class Quotas:
    """The queues that have quota shares."""

    def __init__(self) -> None:
        self._queues: dict[str, Quota] = {}

    def of(self, queue: str) -> Quota | None:
        """Return the shares of a queue; None of one that has none, as mostly."""
        return self._queues.get(queue)

    @property
    def queues(self) -> Collection[str]:
        """Their names."""
        return self._queues.keys()

    def set_queue(self, queue: str, shares: Iterable[QuotaShare]) -> bool:
        """Take the shares of a queue; return whether it is new, so that what its attempts use is yet to be told."""
        is_new = queue not in self._queues
        self._queues.setdefault(queue, Quota()).ledger.set_shares(shares)
        return is_new

    def drop_queue(self, queue: str) -> None:
        """Forget a deleted queue."""
        self._queues.pop(queue, None)

    def claim(self, queue: str, name: AttemptId, holding: Holding, *, is_stopping: bool = False) -> None:
        """Count what a new attempt uses."""
        quota = self._queues.get(queue)
        if quota is not None and name not in quota.holdings:
            quota.holdings[name] = holding
            quota.ledger.add(holding.share, holding.use)
            if is_stopping:
                quota.stopping[name] = holding

    def stop(self, queue: str, name: AttemptId) -> None:
        """Note that an attempt is being stopped."""
        quota = self._queues.get(queue)
        if quota is not None and name in quota.holdings:
            quota.stopping[name] = quota.holdings[name]

    def release(self, queue: str, name: AttemptId) -> None:
        """Count no longer what an attempt used."""
        quota = self._queues.get(queue)
        holding = quota.holdings.pop(name, None) if quota is not None else None
        if quota is not None and holding is not None:
            quota.stopping.pop(name, None)
            quota.ledger.add(holding.share, holding.use, -1)


def quota_refusals(quotas: Quotas, shape: Shape, host_types: Iterable[str]) -> tuple[Refusal, ...]:
    """Say which limits of quota shares stand against one more unit of a shape, of which hosts of such types could take it."""
    quota = quotas.of(shape.queue)
    if quota is None:
        return ()
    ledger, share = quota.ledger, shape.share
    lacks = ledger.lacks(share, use_of(shape.resources))
    if not lacks:
        of_types = [ledger.lacks(share, use_of(shape.resources, host_type)) for host_type in host_types]
        lacks = [lack for each in of_types for lack in each] if of_types and all(of_types) else []
    return tuple(_refusal(ledger, shape, unit, lack) for unit, lack in lacks)


def _refusal(ledger: Ledger, shape: Shape, unit: str, lack: Lack) -> Refusal:
    account, own = ledger.account(shape.share, unit), ledger.shares.get(shape.share)
    asked = use_of(shape.resources).get(unit, 1)  # of a host type it is one that is counted
    holder = f"quota share {shape.share} of queue {shape.queue}"
    most = account.limit
    if own is not None and own.sharing_strategy is SharingStrategy.LEND_AND_BORROW:
        most += min(ledger.borrow_limit(shape.share, unit), ledger.lent_at_most(shape.share, unit))
    used, limit = _text(unit, account.used), _text(unit, account.limit)
    text = f"{_text(unit, asked)} {unit} asked, {holder} uses {used} of its limit of {limit}"
    match lack:
        case Lack.LIMIT:
            text += " and borrows nothing" + (f" ({own.sharing_strategy})" if own is not None else "")
        case Lack.BORROW_LIMIT:
            text += f" and may borrow {_text(unit, ledger.borrow_limit(shape.share, unit))} at most"
        case Lack.IDLE:
            text += f", and other shares have {_text(unit, ledger.idle(unit))} idle to lend"
        case Lack.LENT:
            text += f", but other shares use {_text(unit, ledger.beyond(unit))} beyond theirs"
        case _:
            assert_never(lack)
    free = max(0, account.limit - account.used)
    return Refusal(kind=QUOTA_SHARE, message=text, asked=asked, free=free, largest_free=free, largest_capacity=most)


def _text(unit: str, amount: int) -> str:
    return f"{amount / SCALES.get(unit, 1):.10g}"
