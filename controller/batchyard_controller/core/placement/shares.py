"""
Shares: what each share of a queue has used, and so whose turn it is.

The share goes first that has least, times its weight, of what it holds now and of what it
held on average lately, where what is longer ago counts exponentially less. So shares that
always have work hold in inverse proportion to their weights, and one that had nothing for
a while gets more until that is made good. Nothing of it is stored: what is retained of
ended jobs tells it again.

Source: AWS Batch User Guide, "Fair-share scheduling" and API reference, FairsharePolicy;
what a share holds now is ours (there, all that is known is that recent use weighs more).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from batchyard_controller.core.model.policies import FairsharePolicy

_DECAY_MIN_S = 600
"""AWS's least window."""
_WINDOWS_KEPT = 8
"""What was held longer ago counts for nothing (e^-8)."""
_PATIENCE = 3
"""So many decay periods after it stopped being active a share need not wait for what its next unit asks."""


@dataclass(slots=True)
class _Use:
    """
    What one share holds and held.

    Attributes:
        held: vCPU thousandths now.
        average: Of what was held, fading, as of *at_ms* (boot time).
        until_ms: Of a share that holds nothing: until when it counts as active.
    """

    held: int = 0
    average: float = 0.0
    at_ms: int = 0
    until_ms: int = 0

    def advance(self, now_ms: int, decay_ms: int) -> None:
        """Let time pass."""
        kept = math.exp(-max(0, now_ms - self.at_ms) / decay_ms)
        self.average = self.average * kept + self.held * (1 - kept)
        self.at_ms = now_ms

    def is_active(self, now_ms: int) -> bool:
        """Say whether it holds something, or did until less than a decay period ago."""
        return bool(self.held) or self.until_ms > now_ms


def decay_ms(policy: FairsharePolicy) -> int:
    """Return over how long what was used fades to a third (1/e)."""
    return max(policy.share_decay_s, _DECAY_MIN_S) * 1000


@dataclass(slots=True)
class Shares:
    """What the shares of queues with a policy hold and held."""

    _uses: dict[str, dict[str, _Use]] = field(default_factory=dict)

    def hold(self, queue: str, share: str, policy: FairsharePolicy, cpu_millis: int, now_ms: int) -> bool:
        """Take in that a share holds so much more, or less, from now on; say whether it had not been active."""
        use = self._use(queue, share, policy, now_ms)
        is_new = not use.is_active(now_ms)
        use.advance(now_ms, decay_ms(policy))
        use.held += cpu_millis
        use.until_ms = now_ms + decay_ms(policy)
        return is_new

    def note_past(
        self, queue: str, share: str, policy: FairsharePolicy, cpu_millis: int, ran_ms: int, ended_ms: int, now_ms: int
    ) -> None:
        """Take in, after a restart, what a share held for a time that ended at *ended_ms*."""
        window = decay_ms(policy)
        ago = max(0, now_ms - ended_ms)
        if ago < window * _WINDOWS_KEPT:
            use = self._use(queue, share, policy, now_ms)
            use.average += cpu_millis * (1 - math.exp(-ran_ms / window)) * math.exp(-ago / window)
            use.until_ms = max(use.until_ms, ended_ms + window)

    def _use(self, queue: str, share: str, policy: FairsharePolicy, now_ms: int) -> _Use:
        """Return what is known of a share; each time their number has doubled, those are forgotten that count no more."""
        uses = self._uses.setdefault(queue, {})
        use = uses.get(share)
        if use is None:
            use = uses[share] = _Use(at_ms=now_ms)
            if not len(uses) & (len(uses) - 1):
                since_ms = now_ms - (_WINDOWS_KEPT - 1) * decay_ms(policy)
                for name in [n for n, old in uses.items() if old is not use and not old.is_active(since_ms)]:
                    del uses[name]
        return use

    def drop_queue(self, queue: str) -> None:
        """Forget a deleted queue."""
        self._uses.pop(queue, None)

    def held(self, queue: str) -> dict[str, int]:
        """Return the vCPU thousandths that each share of a queue holds."""
        return {share: use.held for share, use in self._uses.get(queue, {}).items() if use.held}

    def active(self, queue: str, waiting: Iterable[str], now_ms: int) -> set[str]:
        """Return the shares that have jobs, or had some until a decay period ago."""
        uses = self._uses.get(queue, {})
        return set(waiting) | {share for share, use in uses.items() if use.is_active(now_ms)}

    def standing(self, queue: str, policy: FairsharePolicy, waiting: Iterable[str], now_ms: int) -> Standing:
        """Return whose turn it is."""
        active = self.active(queue, waiting, now_ms)
        weights = weights_of(policy, active)
        uses, window = self._uses.get(queue, {}), decay_ms(policy)
        levels, patience = dict.fromkeys(active, 0.0), dict.fromkeys(active, 0.0)
        for share in active & uses.keys():
            use = uses[share]
            kept = math.exp(-max(0, now_ms - use.at_ms) / window)
            levels[share] = use.average * kept + use.held * (1 - kept) + use.held
            patience[share] = math.exp(min(0.0, _PATIENCE - (now_ms - use.until_ms) / window))
        return Standing(weights, levels, patience, policy.compute_reservation, sum(u.held for u in uses.values()))


@dataclass(slots=True)
class Standing:
    """
    The shares of a queue as a plan finds and changes them.

    Attributes:
        weights: Of each active share.
        levels: vCPU thousandths: what it holds and what it held on average, added.
        patience: 1 of a share of which something started or ended less than four decay periods ago; then it fades.
        reservation: Per cent, see FairsharePolicy.
        held: vCPU thousandths of all shares.
    """

    weights: dict[str, float]
    levels: dict[str, float]
    patience: dict[str, float]
    reservation: int
    held: int

    def score(self, share: str, cpu_millis: int) -> float:
        """
        Return by what shares take turns whose next units ask for so much; the least goes first.

        Half of what is asked is added, so that in the long run neither small shares are ahead
        by what their last job was too much, nor large ones by what it was too little (Webster's
        method, as for seats of a parliament). That is no reason to wait for ever, so it fades
        where nothing moves: whoever has less than others goes first in the end, however much it asks.
        """
        return (self.levels[share] + self.patience[share] * cpu_millis / 2) * self.weights[share]

    def take(self, share: str, cpu_millis: int) -> None:
        """Let a share hold more."""
        self.levels[share] += cpu_millis
        self.patience[share] = 1.0
        self.held += cpu_millis

    def room(self, capacity_millis: int) -> float:
        """Return how much all may hold more, as some of the capacity is kept for shares that are not active."""
        if not self.reservation:
            return math.inf
        kept = (self.reservation / 100) ** max(1, len(self.weights))
        return capacity_millis * (1 - kept) - self.held


def weights_of(policy: FairsharePolicy, shares: Iterable[str]) -> dict[str, float]:
    """Return the weight of each share; those that one entry means together share it, so each is that many times heavier."""
    exact = {w.share_identifier: w.weight_factor for w in policy.share_distribution}
    prefixes = {name[:-1]: weight for name, weight in exact.items() if name.endswith("*")}
    entries = {share: share if share in exact else _prefix(share, prefixes) for share in shares}
    number = Counter(entries.values())
    return {
        share: exact[share] if share in exact else prefixes[entry] * number[entry] if entry is not None else 1.0
        for share, entry in entries.items()
    }


def _prefix(share: str, prefixes: Mapping[str, float]) -> str | None:
    return next((prefix for prefix in prefixes if share.startswith(prefix)), None)
