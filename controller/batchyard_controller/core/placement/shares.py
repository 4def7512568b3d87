"""
Shares: what each share of a queue has used, and so whose turn it is.

The share goes first that has least, times its weight, of what it held on average lately,
where what is longer ago counts exponentially less; a little of what it holds now is added,
so that what it was given a moment ago counts at once. So shares that always have work use
in inverse proportion to their weights, and one that had nothing for a while gets more
until that is made good. Law: what is added is not so much that a share could do without
its turn for ever. Nothing of it is stored: what is retained of ended jobs tells it again.

Source: AWS Batch User Guide, "Fair-share scheduling" and API reference, FairsharePolicy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from batchyard_controller.core.model.policies import FairsharePolicy

_DECAY_MS_MIN = 600_000
"""AWS's least window."""
_DECAY_MS_MAX = 604_800_000
"""AWS's largest."""
_RUNS_MIN = 64
"""So many runs of the share that is due least must be in a window, or weights could not be kept."""
_WINDOWS_KEPT = 8
"""What was held longer ago counts for nothing (e^-8)."""


@dataclass(frozen=True, slots=True)
class Window:
    """
    How a queue remembers; the same throughout a round of slices.

    Attributes:
        decay_ms: Over how long what was used fades to a third (1/e).
        held_part: How much of what is held now counts beside the average: what a run will have come to.
    """

    decay_ms: float = _DECAY_MS_MIN
    held_part: float = 1 / _RUNS_MIN


@dataclass(slots=True)
class _Use:
    """
    What one share holds and held.

    Attributes:
        units: How many run.
        held: vCPU thousandths that they hold.
        average: Of what was held, fading, as of *at_ms* (boot time).
        until_ms: Of a share that holds nothing: until when it counts as active.
    """

    units: int = 0
    held: int = 0
    average: float = 0.0
    at_ms: int = 0
    until_ms: int = 0

    def advance(self, now_ms: int, decay_ms: float) -> None:
        """Let time pass."""
        kept = math.exp(-max(0, now_ms - self.at_ms) / decay_ms)
        self.average = self.average * kept + self.held * (1 - kept)
        self.at_ms = now_ms

    def is_active(self, now_ms: int) -> bool:
        """Say whether it holds something, or did until less than a decay period ago."""
        return bool(self.held) or self.until_ms > now_ms


@dataclass(slots=True)
class Shares:
    """What the shares of queues with a policy hold and held."""

    _uses: dict[str, dict[str, _Use]] = field(default_factory=dict)
    _windows: dict[str, Window] = field(default_factory=dict)
    _most: dict[str, int] = field(default_factory=dict)
    """How many units of a queue ever ran at once."""

    def set_window(self, queue: str, policy: FairsharePolicy, waiting: Iterable[str], run_ms: int, now_ms: int) -> None:
        """
        Reckon anew how a queue remembers, whose jobs run for so long on average.

        The policy's decay, but no less than in which the share that is due least has many runs.
        """
        due = [1 / weight for weight in weights_of(policy, self.active(queue, waiting, now_ms)).values()]
        running = sum(use.units for use in self._uses.get(queue, {}).values())
        self._most[queue] = running = max(1, running, self._most.get(queue, 0))
        least = min(due, default=1.0) / (sum(due) or 1.0)
        many_runs_ms = min(_RUNS_MIN * run_ms / (running * least), _DECAY_MS_MAX)
        decay_ms = max(policy.share_decay_s * 1000, _DECAY_MS_MIN, many_runs_ms)
        self._windows[queue] = Window(decay_ms, min(1.0, run_ms / decay_ms))

    def window(self, queue: str) -> Window:
        """Return how a queue remembers."""
        return self._windows.get(queue, Window())

    def hold(self, queue: str, share: str, cpu_millis: int, units: int, now_ms: int) -> bool:
        """
        Take in that a share has so many units more, or less, from now on, and what they hold.

        Returns whether it had not been active.
        """
        use = self._use(queue, share, now_ms)
        is_new = not use.is_active(now_ms)
        use.advance(now_ms, self.window(queue).decay_ms)
        use.units += units
        use.held += cpu_millis
        use.until_ms = now_ms + int(self.window(queue).decay_ms)
        return is_new

    def note_past(self, queue: str, share: str, cpu_millis: int, ran_ms: int, ended_ms: int, now_ms: int) -> None:
        """Take in, after a restart, what a share held for a time that ended at *ended_ms*."""
        decay_ms, ago = self.window(queue).decay_ms, max(0, now_ms - ended_ms)
        if ago < decay_ms * _WINDOWS_KEPT:
            use = self._use(queue, share, now_ms)
            use.average += cpu_millis * (1 - math.exp(-ran_ms / decay_ms)) * math.exp(-ago / decay_ms)
            use.until_ms = max(use.until_ms, ended_ms + int(decay_ms))

    def _use(self, queue: str, share: str, now_ms: int) -> _Use:
        """Return what is known of a share; each time their number has doubled, those are forgotten that count no more."""
        uses = self._uses.setdefault(queue, {})
        use = uses.get(share)
        if use is None:
            use = uses[share] = _Use(at_ms=now_ms)
            if not len(uses) & (len(uses) - 1):
                since_ms = now_ms - int((_WINDOWS_KEPT - 1) * self.window(queue).decay_ms)
                for name in [n for n, old in uses.items() if old is not use and not old.is_active(since_ms)]:
                    del uses[name]
        return use

    def drop_queue(self, queue: str) -> None:
        """Forget a deleted queue."""
        self._uses.pop(queue, None)
        self._windows.pop(queue, None)
        self._most.pop(queue, None)

    def active(self, queue: str, waiting: Iterable[str], now_ms: int) -> set[str]:
        """Return the shares that have jobs, or had some until a decay period ago."""
        uses = self._uses.get(queue, {})
        return set(waiting) | {share for share, use in uses.items() if use.is_active(now_ms)}

    def standing(self, queue: str, policy: FairsharePolicy, waiting: Iterable[str], now_ms: int) -> Standing:
        """Return whose turn it is."""
        active, uses, window = self.active(queue, waiting, now_ms), self._uses.get(queue, {}), self.window(queue)
        averages: dict[str, float] = {}
        for share in active:
            use = replace(uses.get(share, _Use(at_ms=now_ms)))
            use.advance(now_ms, window.decay_ms)
            averages[share] = use.average
        holds = {share: uses[share].held if share in uses else 0 for share in active}
        held = sum(use.held for use in uses.values())
        weights = weights_of(policy, active)
        return Standing(weights, averages, holds, window.held_part, policy.compute_reservation, held)


@dataclass(slots=True)
class Standing:
    """
    The shares of a queue as a plan finds and changes them.

    What is held is counted in whole numbers, so that it is the same whenever it was counted.

    Attributes:
        weights: Of each active share.
        averages: vCPU thousandths that it held.
        holds: vCPU thousandths that it holds.
        held_part: How much of that counts beside the average.
        reservation: Per cent, see FairsharePolicy.
        held: vCPU thousandths of all shares.
    """

    weights: dict[str, float]
    averages: dict[str, float]
    holds: dict[str, int]
    held_part: float
    reservation: int
    held: int

    def score(self, share: str) -> float:
        """Return by what shares take turns; the least goes first."""
        return self.level(share) * self.weights[share]

    def level(self, share: str) -> float:
        """Return the vCPU thousandths that count of a share."""
        return self.averages[share] + self.held_part * self.holds[share]

    def take(self, share: str, cpu_millis: int) -> None:
        """Let a share hold more."""
        self.holds[share] += cpu_millis
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
