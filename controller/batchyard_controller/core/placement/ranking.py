"""
Ranking: for one shape and one environment, the key of every host that can take one more unit.

A ranking is kept from plan to plan and brought up to date when it is asked: it looks
again at the hosts that changed since, all at once, and at no other. Laws: it says what
a look at all hosts would say; of equal keys the first row wins; it may be dropped at
any time and costs one look at all hosts to make again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batchyard_controller.core.model.settings import ComputeEnvironment

from .changes import Rows
from .fleet import Fleet, row_of
from .kinds import Kinds, Mask
from .line import Shape
from .room import has_room, have_gpus, needs_of
from .sketch import Sketch
from .strategies import STRATEGIES, Keys

_CELLS_KEPT = 1 << 22
"""Keys in memory at most (32 MiB): those of rankings that nobody has asked for longest go first."""
_RANKINGS_MIN = 64
_ROWS_FEW = 64
"""So many are looked at in about the time that one takes."""
_ALL = slice(None)
_NEVER: Keys = np.full(1, np.inf)


class Ranking:
    """The keys of all hosts for one shape in one environment; infinite where no unit fits."""

    def __init__(self, shape: Shape, environment: ComputeEnvironment) -> None:
        self.environment = environment
        self.asked = row_of(shape.resources)
        self._needs = needs_of(shape)
        self._shape = shape
        self._strategy = STRATEGIES[environment.compute_resources.allocation_strategy]
        self._kinds: Kinds | None = None
        self._allowed: Mask = np.zeros(0, dtype=np.bool_)
        self._keys: Keys = np.zeros(0)
        self._seen = -1
        """How many changes of the fleet are taken in."""
        self.looked_at = 0
        """At how many hosts it looked when it was last asked."""

    def best(self, sketch: Sketch, wanted: Mask | None, closed: Sequence[int] = ()) -> int | None:
        """Return the row of the host for the next unit, of those *wanted*, if any are said, but for some that are *closed*."""
        self._refresh(sketch)
        keys = self._keys if wanted is None else np.where(wanted, self._keys, np.inf)
        if closed:
            keys = keys.copy()
            keys[list(closed)] = np.inf
        row = int(keys.argmin()) if len(keys) else 0
        return row if len(keys) and keys[row] != np.inf else None

    def _refresh(self, sketch: Sketch) -> None:
        fleet = sketch.fleet
        hosts, rows = len(fleet.ids), fleet.changes.since(self._seen)
        self._seen = fleet.changes.count
        if rows is None or len(rows) > max(hosts, _ROWS_FEW):
            self._keys, self.looked_at = self._judge(sketch, _ALL), hosts
            return
        self.looked_at = len(rows)
        if len(self._keys) < hosts:
            self._keys = np.append(self._keys, _NEVER.repeat(hosts - len(self._keys)))
        if len(rows):
            self._keys[rows] = self._judge(sketch, rows)

    def _judge(self, sketch: Sketch, rows: Rows | slice) -> Keys:
        """Return the keys of some hosts, or of all."""
        fleet, state = sketch.fleet, sketch.state[:, rows]
        fits = has_room(state, self._needs, self._allowed_of(fleet.kinds)[fleet.kind_of[rows]])
        if self._shape.access.chooses_gpus:
            fits = have_gpus(fleet, fits, np.arange(len(fleet.ids))[rows], self._shape, sketch.gpus_of)
        keys: Keys = np.where(fits, self._strategy(state[:4], fleet.capacity[:, rows], self.asked), np.inf)
        return keys

    def _allowed_of(self, kinds: Kinds) -> Mask:
        """Return which kinds of hosts may run it; asked for again only when there are others."""
        if self._kinds is not kinds or len(self._allowed) < len(kinds):
            shape = self._shape
            self._kinds, self._allowed = kinds, kinds.allowed(self.environment, shape.runtime, shape.access)
        return self._allowed


class Rankings:
    """The rankings of a fleet that are kept."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._kept: dict[tuple[object, ...], Ranking] = {}

    def of(self, shape: Shape, environment: ComputeEnvironment) -> Ranking:
        """Return the ranking of a shape in an environment; shapes that differ in nothing a host has share one."""
        key = (environment.name, shape.resources, shape.runtime, shape.access)
        ranking = self._kept.pop(key, None)
        if ranking is None or ranking.environment is not environment:
            ranking = Ranking(shape, environment)
        self._kept[key] = ranking
        if len(self._kept) > max(_RANKINGS_MIN, _CELLS_KEPT // max(len(self.fleet.ids), 1)):
            del self._kept[next(iter(self._kept))]
        return ranking
