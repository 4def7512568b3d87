"""
Ranking: for one shape and one environment, the key of every host that can take one more unit.

A ranking is kept from plan to plan and brought up to date when it is asked: it looks
again at the hosts that changed since, all at once, and at no other. Laws: it says what
a look at all hosts would say; of equal keys the first row wins; it may be dropped at
any time and costs one look at all hosts to make again.

The environment's strategy says which hosts come first (`tiers`); among those the key
decides: where no job with a GPU is expected, what is left of the host after one more unit,
and otherwise what that costs its worth (`costs`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import lt

import numpy as np

from batchyard_controller.core.model.settings import ComputeEnvironment

from .changes import Rows
from .costs import ShapeCosts
from .fleet import GPU, Fleet, row_of
from .kinds import Kinds, Mask
from .line import Shape
from .packing import Packing
from .pools import Pools
from .room import could_take, has_room, have_gpus, needs_of
from .sketch import Sketch
from .strategies import Amounts, Keys
from .tiers import NO_TIER, Tiers

_CELLS_KEPT = 1 << 23
"""Keys and costs in memory at most (64 MiB): those of rankings that nobody has asked for longest go first."""
_RANKINGS_MIN = 64
_ROWS_FEW = 64
"""So many are looked at in about the time that one takes."""
_LOOKS_A_HOST, _LOOKS_A_STATE, _LOOKS_TO_RECKON = 6, 64, 6_144
"""To look a cost up, to reckon one, and to reckon at all, are as much work as to look at so many hosts."""
_TIGHTEST = 0.2
"""Of hosts that cost the same the tightest one, which is told apart by less than a grain."""
_ALL = slice(None)
_NEVER: Keys = np.full(1, np.inf)


class Ranking:
    """The keys of all hosts for one shape in one environment; infinite where no unit fits."""

    def __init__(self, shape: Shape, tiers: Tiers, packing: Packing) -> None:
        self.environment = tiers.environment
        self.asked = row_of(shape.resources)
        self._asked: list[int] = self.asked.tolist()
        self._needs = needs_of(shape)
        self._needed: list[int] = self._needs[:, 0].tolist()
        self._shape = shape
        self._tiers = tiers
        self._packing = packing
        self._costs = ShapeCosts(shape.resources, shape.access)
        self._kinds: Kinds | None = None
        self._allowed: Mask = np.zeros(0, dtype=np.bool_)
        self._keys: Keys = np.zeros(0)
        self._seen = -1
        """How many changes of the fleet are taken in."""
        self._last = -1
        """The host that was told last."""
        self._was_any_wanted = False
        """Whether that was the best of all."""
        self._taken = -1
        """How many changes there were when that had got a unit."""
        self._version = 0
        """Of the packing's worth by which the keys were made."""
        self.looked_at = 0
        """At how many hosts it looked when it was last asked, or as much other work as that."""

    def best(self, sketch: Sketch, wanted: Mask | None, run_h: float, closed: Sequence[int] = ()) -> int | None:
        """
        Return the row of the host for the next unit; None where there is no room.

        Args:
            sketch: What is free.
            wanted: Hosts that may be taken; None for any.
            run_h: How long it is taken to run, in hours.
            closed: Rows of hosts that are kept for others.
        """
        is_any_wanted = wanted is None and not closed
        if self._refresh(sketch) and is_any_wanted and self._was_any_wanted and not self._tiers.is_risky:
            return self._last  # in the first tier, where it is still the best
        self._was_any_wanted = is_any_wanted
        keys = self._keys if wanted is None else np.where(wanted, self._keys, np.inf)
        if closed:
            keys = keys.copy()
            keys[list(closed)] = np.inf
        if not len(keys):
            return None
        tiers = self._tiers.of(sketch, run_h)
        if tiers is not None:
            keys = np.where(tiers == self._first_tier(sketch, tiers, keys, wanted), keys, np.inf)
        row = int(keys.argmin())
        if keys[row] == np.inf:
            return None
        self._last = row
        return row

    def note_taken(self, sketch: Sketch) -> None:
        """Note that the host that was told last has got a unit, just now."""
        self._taken = sketch.fleet.changes.count

    def _first_tier(self, sketch: Sketch, tiers: Amounts, keys: Keys, wanted: Mask | None) -> int:
        """Return the tier of which hosts are taken: the first that has room, or would have if its hosts were empty."""
        can = keys != np.inf
        if self._tiers.waits:
            fleet = sketch.fleet
            hosts = fleet.hopeful & self._allowed_of(fleet.kinds)[fleet.kind_of]
            can = could_take(fleet, self._shape, hosts if wanted is None else hosts & wanted)
        return int(tiers.min(where=can, initial=NO_TIER))

    def _refresh(self, sketch: Sketch) -> bool:
        """Look again at hosts that changed; say whether that is the one told last alone, which is no worse than it was."""
        fleet = sketch.fleet
        if fleet.changes.count == self._taken == self._seen + 1 and self._version == self._packing.version:
            self._seen, self.looked_at = self._taken, 1
            before, now = self._keys[self._last], self._judge_last(sketch)
            self._keys[self._last] = now
            return bool(now <= before)  # it was the first of the best, and only it has changed
        hosts, rows = len(fleet.ids), fleet.changes.since(self._seen)
        self._seen = fleet.changes.count
        if rows is None or len(rows) > max(hosts, _ROWS_FEW) or self._version != self._packing.version:
            self._version, self.looked_at = self._packing.version, hosts
            self._keys = self._judge(sketch, _ALL)
            return False
        self.looked_at = len(rows)
        if len(self._keys) < hosts:
            self._keys = np.append(self._keys, _NEVER.repeat(hosts - len(self._keys)))
        if len(rows):
            self._keys[rows] = self._judge(sketch, rows)
        return False

    def _judge_last(self, sketch: Sketch) -> float:
        """Return the key of the host that was taken last, which has got a unit, and nothing else has changed."""
        row, packing, fleet = self._last, self._packing, sketch.fleet
        left: list[int] = sketch.state[:, row].tolist()
        if any(map(lt, left, self._needed)):
            return math.inf
        if packing.worth is None and not self._shape.access.chooses_gpus:
            return self._tightness_of(left, fleet, row)
        knows = packing.worth is not None and packing.states.knows_all_but_last(fleet)
        before = int(packing.states.of_row[row]) if knows else -1
        after = self._costs.after(packing, fleet.kinds, before) if knows else None
        if after is None:
            return float(self._judge(sketch, np.array([row]))[0])
        state, cost = after
        packing.states.note_last(fleet, row, state)
        self._count_reckoned(1)
        return cost if self._asked[GPU] else cost + _TIGHTEST * self._tightness_of(left, fleet, row)

    def _judge(self, sketch: Sketch, rows: Rows | slice) -> Keys:
        """Return the keys of some hosts, or of all."""
        fleet, state = sketch.fleet, sketch.state[:, rows]
        fits = has_room(state, self._needs, self._allowed_of(fleet.kinds)[fleet.kind_of[rows]])
        if self._shape.access.chooses_gpus:
            fits = have_gpus(fleet, fits, np.arange(len(fleet.ids))[rows], self._shape, sketch.gpus_of)
        if self._packing.worth is None:
            keys: Keys = np.where(fits, tightness(state[:4], fleet.capacity[:, rows], self.asked), np.inf)
            return keys
        packed = np.arange(len(fits)) if isinstance(rows, slice) else rows
        if fits.all():
            return self._packed(sketch, packed)
        keys = np.full(len(fits), np.inf)
        if fits.any():
            keys[fits] = self._packed(sketch, packed[fits])
        return keys

    def _packed(self, sketch: Sketch, rows: Rows) -> Keys:
        """Return the keys of hosts with room where jobs with GPUs are expected."""
        self._packing.follow(sketch)
        keys = self._costs.of(self._packing, sketch.fleet.kinds, self._packing.states.of_row[rows])
        self._count_reckoned(len(rows))
        if not self.asked[GPU]:
            keys = keys + self._tightness(sketch, rows)
        return keys

    def _count_reckoned(self, hosts: int) -> None:
        if new := self._costs.reckoned:
            self.looked_at += hosts * _LOOKS_A_HOST + new * _LOOKS_A_STATE + _LOOKS_TO_RECKON

    def _tightness(self, sketch: Sketch, rows: Rows | slice) -> Keys:
        return _TIGHTEST * tightness(sketch.state[:4, rows], sketch.fleet.capacity[:, rows], self.asked)

    def _tightness_of(self, state: list[int], fleet: Fleet, row: int) -> float:
        """Return the same as `tightness` of one host in such a state, in a tenth of the time that arrays take."""
        left = 0.0
        for free, capacity, asked in zip(state, fleet.capacity[:, row].tolist(), self._asked, strict=False):
            left += (free - asked) / (capacity or 1)
        return left

    def _allowed_of(self, kinds: Kinds) -> Mask:
        """Return which kinds of hosts may run it; asked for again only when there are others."""
        if self._kinds is not kinds or len(self._allowed) < len(kinds):
            shape = self._shape
            self._kinds, self._allowed = kinds, kinds.allowed(self.environment, shape.runtime, shape.access)
        return self._allowed


def tightness(free: Amounts, capacity: Amounts, asked: Amounts) -> Keys:
    """Return, per host, the share of it that stays free after one more unit: the sum over amounts, 0 to 4."""
    left = (free - asked[:, np.newaxis]) / np.maximum(capacity, 1)
    keys: Keys = left.sum(axis=0)
    return keys


class Rankings:
    """The rankings of a fleet that are kept."""

    def __init__(self, fleet: Fleet, pools: Pools) -> None:
        self.fleet = fleet
        self.packing = Packing(fleet)
        self._pools = pools
        self._tiers: dict[str, Tiers] = {}
        self._kept: dict[tuple[object, ...], Ranking] = {}

    def of(self, shape: Shape, environment: ComputeEnvironment) -> Ranking:
        """Return the ranking of a shape in an environment; shapes that differ in nothing a host has share one."""
        key = (environment.name, shape.resources, shape.runtime, shape.access)
        ranking = self._kept.pop(key, None)
        if ranking is None or ranking.environment is not environment:
            ranking = Ranking(shape, self._tiers_of(environment), self.packing)
        self._kept[key] = ranking
        cells = len(self.fleet.ids) + len(self.packing.states.cpu)
        if len(self._kept) > max(_RANKINGS_MIN, _CELLS_KEPT // max(cells, 1)):
            del self._kept[next(iter(self._kept))]
        return ranking

    def awaited(self, environment: ComputeEnvironment, sketch: Sketch, able: Mask) -> Mask:
        """Return for which of the hosts that could take a unit it waits in an environment."""
        tiers = self._tiers_of(environment)
        return tiers.awaited(sketch, able) if tiers.waits else able

    def _tiers_of(self, environment: ComputeEnvironment) -> Tiers:
        tiers = self._tiers.get(environment.name)
        if tiers is None or tiers.environment is not environment:
            tiers = self._tiers[environment.name] = Tiers(environment, self._pools)
        return tiers
