"""
Run times: how long units ran lately, and how long one that waits is expected to run.

Of each owner (a share, or else a job definition's name, within a queue) the last runs
are remembered. Nothing of it is stored: what is retained of ended jobs tells it again.

Source of the rule and its constants: measured on the KTH-SP2 log, see decision 0016.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from batchyard.resources import Resources

RUNS_KEPT = 32
"""Of an owner, the newest first."""
_FADE = 0.8
"""Of the weight of each run that is one older."""
_OTHER_WEIGHT = 0.3
"""Of runs of another revision, or with other amounts."""
_PRIOR_WEIGHT = 0.3
"""Of the bound, or where there is none, of the queue's mean."""
_MEAN_FADE = 0.99
_RUN_MIN_MS = 1_000
_KEPT = 1 << 16
_OWNERS_KEPT = 1 << 14
"""Of which something ended last."""


class Owner(NamedTuple):
    """
    Whose runs are alike.

    Attributes:
        name: A share identifier, or else the name of a job definition; empty of jobs without either.
    """

    queue: str
    name: str


class Run(NamedTuple):
    """One that is over, or will be: its definition with revision, what it asked for, and for how long at most (ms; 0: no bound)."""

    owner: Owner
    definition: str
    resources: Resources
    bound_ms: int

    @property
    def kind(self) -> tuple[str, Resources]:
        """What makes runs of one owner very much alike."""
        return self.definition, self.resources


@lru_cache(maxsize=1024)
def remembered(queue: str, share: str, definition: str, resources: Resources, timeout_s: int) -> Run:
    """Return as what a unit's run is remembered; its owner is its share, or else its definition's name."""
    owner = Owner(queue, share or definition.partition(":")[0])
    return Run(owner, definition, resources, timeout_s * 1000)


@dataclass(slots=True)
class _Past:
    runs: deque[tuple[tuple[str, Resources], int]] = field(default_factory=lambda: deque(maxlen=RUNS_KEPT))
    version: int = 0


class RunTimes:
    """What is remembered."""

    def __init__(self) -> None:
        self._past: dict[Owner, _Past] = {}
        """That of whom nothing has ended for longest comes first."""
        self._means: dict[str, tuple[float, float]] = {}
        """By queue: fading sums of milliseconds and of runs."""
        self._versions = itertools.count(1)
        self._predicted: dict[Run, tuple[int, int | None]] = {}

    def note(self, run: Run, took_ms: int) -> None:
        """Remember that a unit ran for so long, whether it succeeded or failed."""
        past = self._past.pop(run.owner, None) or _Past()
        self._past[run.owner] = past
        if len(self._past) > _OWNERS_KEPT:
            del self._past[next(iter(self._past))]
        past.runs.appendleft((run.kind, took_ms))
        past.version = next(self._versions)
        total, number = self._means.get(run.owner.queue, (0.0, 0.0))
        self._means[run.owner.queue] = (total * _MEAN_FADE + took_ms, number * _MEAN_FADE + 1)

    def drop_queue(self, queue: str) -> None:
        """Forget a deleted queue."""
        self._means.pop(queue, None)
        for owner in [owner for owner in self._past if owner.queue == queue]:
            del self._past[owner]
        self._predicted.clear()

    def mean_ms(self, queue: str) -> int | None:
        """Return how long units of a queue ran lately; None of a queue of which none has ended."""
        total, number = self._means.get(queue, (0.0, 0.0))
        return int(total / number) if number else None

    def predict_ms(self, run: Run) -> int | None:
        """Return for how long a unit is expected to run, within its bound; None where nothing tells."""
        past = self._past.get(run.owner)
        if past is None:
            return self._predict(run, ())
        known = self._predicted.get(run)
        if known is None or known[0] != past.version:
            if len(self._predicted) >= _KEPT:
                self._predicted.clear()
            known = self._predicted[run] = past.version, self._predict(run, past.runs)
        return known[1]

    def _predict(self, run: Run, past: Iterable[tuple[tuple[str, Resources], int]]) -> int | None:
        bound = run.bound_ms
        prior = bound or self.mean_ms(run.owner.queue)
        total, weights = (_PRIOR_WEIGHT * prior, _PRIOR_WEIGHT) if prior else (0.0, 0.0)
        weight = 1.0
        for kind, took_ms in past:
            counts = weight if kind == run.kind else weight * _OTHER_WEIGHT
            total += counts * (min(took_ms, bound) if bound else took_ms)
            weights += counts
            weight *= _FADE
        return max(_RUN_MIN_MS, int(total / weights)) if weights else None
