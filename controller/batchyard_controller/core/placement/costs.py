"""
Costs: by how much the worth of a host falls if it takes one more unit of a shape.

A part of a GPU goes to the GPU whose remainder loses least, of equal ones to the
tightest; what it loses counts before all else. Costs are whole numbers of grains, so
that equal ones are equal however they came about.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchyard.resources import GPU_WHOLE, Resources

from .packing import CHUNK, Packing
from .prices import PRECISION
from .states import Numbers

GRAIN = 1e-3
"""Thousandths of a GPU that make a difference."""
REGRET = 1e5
"""What the loss of a GPU's remainder counts for, a GPU in thousandths of worth."""
_OFFSET = 0.381966
"""Between two grains, where costs of round amounts do not lie: rounding is never by chance."""
_LOSS = round(REGRET / PRECISION / GRAIN)
"""Grains that the least loss of a remainder counts for."""
_NEVER = 1 << 60

Costs = npt.NDArray[np.float64]


class ShapeCosts:
    """What one more unit of a shape costs hosts, by their states; what is known is kept."""

    def __init__(self, asked: Resources) -> None:
        self._asked = asked
        self._epoch = (-1, -1)
        self._known: Costs = np.zeros(0)
        self.reckoned = 0
        """How many states were reckoned with when it was last asked."""

    def of(self, packing: Packing, states: Numbers, *, in_run: bool = False) -> Costs:
        """
        Return the costs, in grains, of hosts in such states, each of which has room.

        *in_run*: more units of the shape are likely to be put on the same host at once.
        """
        self._make_room(packing)
        costs = self._known[states]
        is_new = np.isnan(costs)
        self.reckoned = 0
        if is_new.any():
            new = np.unique(states[is_new])
            if in_run:
                new = np.array([*new, *packing.following(int(new[0]), self._asked)])
                self._make_room(packing)
            self.reckoned = len(new)
            for start in range(0, len(new), CHUNK):
                some = new[start : start + CHUNK]
                self._known[some] = self._reckon(packing, some)
            costs = self._known[states]
        return costs

    def _make_room(self, packing: Packing) -> None:
        size = len(packing.states.cpu)
        if self._epoch != packing.epoch:
            self._epoch, self._known = packing.epoch, np.full(size, np.nan)
        elif len(self._known) < size:
            self._known = np.append(self._known, np.full(size - len(self._known), np.nan))

    def _reckon(self, packing: Packing, states: Numbers) -> Costs:
        worth, known, asked = packing.worth, packing.states, self._asked
        assert worth is not None, "the packing was told to follow"
        counts, before = packing.valued(states)
        losses: Numbers | int = 0
        if 0 < asked.gpu_millis < GPU_WHOLE:
            chosen, losses = _choose(known.levels[states], worth.prices.worths, asked.gpu_millis)
            counts = worth.less_part(counts, chosen, asked.gpu_millis)
        elif asked.gpu_millis:
            counts = worth.less_whole(counts, asked.gpu_millis // GPU_WHOLE)
        cpu, memory = known.cpu[states] - asked.cpu_millis, known.memory[states] - asked.memory_mib
        falls = before - worth.values(known.kinds[states], cpu, memory, counts)
        costs: Costs = np.floor(falls / GRAIN + _OFFSET) + losses * _LOSS
        return costs


def _choose(levels: Numbers, worths: Numbers, asked: int) -> tuple[Numbers, Numbers]:
    """Return what is left of the GPU that a part goes to, and what its remainder loses; `choose_gpus` for many hosts."""
    left = np.maximum(levels, asked)
    losses = np.where(levels >= asked, worths[left] - worths[left - asked], _NEVER // 2048)
    best = (losses * 2048 + left).argmin(axis=1)
    lines = np.arange(len(levels))
    return left[lines, best], losses[lines, best]
