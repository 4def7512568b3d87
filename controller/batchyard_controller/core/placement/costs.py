"""
Costs: by how much the worth of a host falls if it takes one more unit of a shape.

A part of a GPU goes to the GPU whose remainder loses least, of equal ones to the
tightest; what it loses counts before all else. Costs are whole numbers of grains, so
that equal ones are equal however they came about.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from batchyard.resources import GPU_WHOLE, Resources

from .feasibility import Access
from .kinds import Kinds, Mask
from .packing import CHUNK, Packing
from .prices import PRECISION
from .states import NO_LEVEL, Numbers

GRAIN = 1e-3
"""Thousandths of a GPU that make a difference."""
REGRET = 1e5
"""What the loss of a GPU's remainder counts for, a GPU in thousandths of worth."""
_OFFSET = 0.381966
"""Between two grains, where costs of round amounts do not lie: rounding is never by chance."""
_LOSS = round(REGRET / PRECISION / GRAIN)
"""Grains that the least loss of a remainder counts for."""
_NEVER = 1 << 60
_NO_LOSS: Numbers = np.zeros(1, dtype=np.int64)

Costs = npt.NDArray[np.float64]


class ShapeCosts:
    """What one more unit of a shape costs hosts, by their states; what is known is kept."""

    def __init__(self, asked: Resources, access: Access) -> None:
        self._asked = asked
        self._access = access
        self._epoch = (-1, -1)
        self._known: Costs = np.zeros(0)
        self._next: dict[int, int] = {}
        """In which state a host is that was in one and got a unit."""
        self.reckoned = 0
        """How many states were reckoned with when it was last asked."""

    def of(self, packing: Packing, kinds: Kinds, states: Numbers) -> Costs:
        """Return the costs, in grains, of hosts in such states, each of which has room."""
        self._make_room(packing)
        self.reckoned = 0
        costs = self._known[states]
        is_new = np.isnan(costs)
        if is_new.any():
            new = _distinct(states[is_new])
            self.reckoned = len(new)
            for start in range(0, len(new), CHUNK):
                some = new[start : start + CHUNK]
                self._known[some] = self._reckon(packing, kinds, some)
            costs = self._known[states]
        return costs

    def after(self, packing: Packing, kinds: Kinds, state: int) -> tuple[int, float] | None:
        """
        Return the state of a host once it has got one more unit, and what another costs it then; it has room for both.

        Several are reckoned with at once, as a run of units fills a host. None where a host has
        GPUs of several kinds.
        """
        self._make_room(packing)
        self.reckoned = 0
        if state not in self._next:
            found = packing.following(state, self._asked)
            if not found:
                return None
            self._next.update(pairwise([state, *found]))
            self.of(packing, kinds, np.array(found))
        state = self._next[state]
        return state, float(self._known[state])

    def _make_room(self, packing: Packing) -> None:
        size = len(packing.states.cpu)
        if self._epoch != packing.epoch:
            self._epoch, self._known = packing.epoch, np.full(size, np.nan)
            self._next.clear()
        elif len(self._known) < size:
            self._known = np.append(self._known, np.full(size - len(self._known), np.nan))

    def _reckon(self, packing: Packing, kinds: Kinds, states: Numbers) -> Costs:
        worth, known, asked = packing.worth, packing.states, self._asked
        assert worth is not None, "the packing was told to follow"
        counts, before = packing.valued(states)
        levels, of_kind, losses = known.levels[states], known.kinds[states], _NO_LOSS
        mixed = worth.mixed(of_kind)
        if len(mixed):
            wanted = kinds.wanted(self._access)[of_kind[mixed, np.newaxis], known.places[states[mixed]]]
            levels[mixed] = np.where(wanted, levels[mixed], NO_LEVEL)
        if 0 < asked.gpu_millis < GPU_WHOLE:
            places, losses = _choose(levels, worth.prices.worths, asked.gpu_millis)
            counts = worth.less_part(counts, levels[np.arange(len(levels)), places], asked.gpu_millis)
        elif asked.gpu_millis:
            counts = worth.less_whole(counts, asked.gpu_millis // GPU_WHOLE)
        units = worth.units(counts)
        if len(mixed):
            some = states[mixed]
            left = known.levels[some] - _taken(levels[mixed], worth.prices.worths, asked.gpu_millis)
            units[mixed] = worth.units_wanted(of_kind[mixed], left, known.places[some])
        cpu, memory = known.cpu[states] - asked.cpu_millis, known.memory[states] - asked.memory_mib
        falls = before - worth.values(of_kind, cpu, memory, units)
        costs: Costs = np.floor(falls / GRAIN + _OFFSET) + losses * _LOSS
        return costs


def _distinct(states: Numbers) -> Numbers:
    """Return each of some states once."""
    if len(states) > CHUNK:
        return np.unique(states)
    return np.array([*dict.fromkeys(states.tolist())])


def _choose(levels: Numbers, worths: Numbers, asked: int) -> tuple[Numbers, Numbers]:
    """Return the place of the GPU that a part goes to, and what its remainder loses; `choose_gpus` for many hosts."""
    left = np.maximum(levels, asked)
    losses = np.where(levels >= asked, worths[left] - worths[left - asked], _NEVER // 2048)
    places = (losses * 2048 + left).argmin(axis=1)
    return places, losses[np.arange(len(levels)), places]


def _taken(levels: Numbers, worths: Numbers, asked: int) -> Numbers:
    """Return what is taken of each GPU of hosts with such levels of those that will do; `choose_gpus` for many hosts."""
    taken: Numbers = np.zeros_like(levels)
    if asked >= GPU_WHOLE:
        is_free: Mask = levels == GPU_WHOLE
        taken[is_free & (is_free.cumsum(axis=1) <= asked // GPU_WHOLE)] = GPU_WHOLE
    elif asked:
        taken[np.arange(len(levels)), _choose(levels, worths, asked)[0]] = asked
    return taken
