"""
Worth: how much GPU the jobs that are expected could still use on a host.

For each shape of the mix the GPU that units of it could take there, bounded by what is
left of CPU and memory; the worth is the mean of that over the mix. Three corrections:
CPU and memory a GPU are pulled to the mean of the mix, as a host fills with a mixture
and not with one shape; a shape counts the more, the smaller the part of the yard's room
that it is allowed to use; what a remainder of one GPU is worth is said by prices. All of
it orders hosts; whether a unit fits is asked of true amounts elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from batchyard.resources import GPU_WHOLE, Resources
from batchyard_controller.core.model.settings import ComputeEnvironment

from .feasibility import Access
from .kinds import Kinds, Mask
from .mix import Demand
from .prices import Prices, price_parts

PULL = 0.25
"""How much of a shape's own CPU and memory a GPU counts; the rest is the mean of the mix."""
_LEAST = 1e-9
_ONE = 1 - 1e-9
"""Room for one unit, whatever was rounded."""

Amounts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One shape of the mix: what its units ask, on which hosts, and how many of all they are."""

    resources: Resources
    runtime: str
    access: Access
    environments: tuple[ComputeEnvironment, ...]
    share: float

    @classmethod
    def of(cls, demand: Demand, environments: tuple[ComputeEnvironment, ...], share: float) -> Expected:
        """Return what is expected of a demand."""
        asked = Resources(cpu_millis=demand.cpu_millis, memory_mib=demand.memory_mib, gpu_millis=demand.gpu_millis)
        return cls(
            resources=asked, runtime=demand.runtime, access=demand.access, environments=environments, share=share
        )

    @classmethod
    def mean_of(cls, demands: Sequence[tuple[Demand, float]], environments: tuple[ComputeEnvironment, ...]) -> Expected:
        """Return a mean of demands, each with its share, that differ in CPU and memory alone."""
        share = sum(part for _, part in demands)
        cpu = round(sum(part * demand.cpu_millis for demand, part in demands) / share)
        memory = round(sum(part * demand.memory_mib for demand, part in demands) / share)
        return cls.of(demands[0][0]._replace(cpu_millis=cpu, memory_mib=memory), environments, share)

    @property
    def asks(self) -> tuple[object, ...]:
        """All but how many they are."""
        names = tuple(environment.name for environment in self.environments)
        return self.resources, self.runtime, self.access, names

    def with_share(self, share: float) -> Expected:
        """Return as many of them as this."""
        return replace(self, share=share)


class Worth:
    """
    What is expected, ready to be reckoned with.

    Attributes:
        expected: The mix, with a GPU each; shares sum to 1.
        prices: Of parts of GPUs.
        weights: Of its shapes; sum 1.
        allowed: 1 where a kind of hosts may run a shape, else 0; a line a kind.
    """

    def __init__(self, expected: Sequence[Expected]) -> None:
        self.expected = tuple(expected)
        asked = [e.resources for e in self.expected]
        self._shares = np.array([e.share for e in self.expected])
        self._gpu = np.array([r.gpu_millis for r in asked], dtype=np.float64)
        parts: dict[int, float] = {}
        for e in self.expected:
            if e.resources.gpu_millis < GPU_WHOLE:
                parts[e.resources.gpu_millis] = parts.get(e.resources.gpu_millis, 0.0) + e.share
        self.prices: Prices = price_parts(parts)
        sizes = sorted(parts)
        groups = sorted({r.gpu_millis // GPU_WHOLE for r in asked} - {0})
        self._places = {size: i for i, size in enumerate([*sizes, *(GPU_WHOLE * count for count in groups)])}
        self._column = np.array([self._places[r.gpu_millis] for r in asked])
        levels = np.arange(-1, GPU_WHOLE + 1)[:, np.newaxis]
        self._fits_of: Amounts = np.maximum(levels, 0) // np.array(
            [*sizes, *([GPU_WHOLE] * bool(groups))], dtype=np.int64
        )
        """How many parts of each size, and whole GPUs, are in one with so much left; the first line is of no GPU."""
        self._groups = np.array(groups, dtype=np.int64)
        self._sizes = len(sizes)
        self._per_cpu = 1 / self._pulled(np.array([r.cpu_millis for r in asked], dtype=np.float64))
        self._per_memory = 1 / self._pulled(np.array([r.memory_mib for r in asked], dtype=np.float64))
        self.weights = self._shares
        self._kinds: Kinds | None = None
        self.allowed = np.zeros((0, len(asked)))
        self._gains: Values = self.allowed
        self._is_mixed: Mask = np.zeros(0, dtype=np.bool_)
        self._wanted: Mask = np.zeros((0, 0, len(asked)), dtype=np.bool_)
        """Whether a shape may have a GPU: by kind of hosts, place of the GPU's kind, and shape."""

    def _pulled(self, amounts: Values) -> Values:
        """Pull amounts of CPU or memory to those that the mean of the mix asks a GPU."""
        mean = (self._shares * amounts).sum() / (self._shares * self._gpu).sum()
        pulled: Values = np.maximum(PULL * amounts + (1 - PULL) * mean * self._gpu, _LEAST)
        return pulled

    def know(self, kinds: Kinds) -> None:
        """Take in the kinds of hosts there are now."""
        if self._kinds is not kinds or len(self.allowed) != len(kinds):
            self._kinds = kinds
            masks = [
                np.logical_or.reduce([kinds.allowed(env, e.runtime, e.access) for env in e.environments])
                if e.environments
                else np.zeros(len(kinds), dtype=np.bool_)
                for e in self.expected
            ]
            self.allowed = np.array(masks, dtype=np.float64).T
            self._is_mixed = kinds.are_mixed
            if self._is_mixed.any():
                self._wanted = np.stack([kinds.wanted(e.access) for e in self.expected], axis=2)
            self.use(self.weights)

    @property
    def columns(self) -> int:
        """How many numbers `counts` returns of a host."""
        return len(self._fits_of[0])

    @property
    def is_restricted(self) -> bool:
        """Whether some shape is not allowed on some kind of host."""
        return not self.allowed.all()

    def counts(self, levels: Amounts) -> Amounts:
        """Return how many parts of each size, and whole GPUs, are in GPUs of such levels, one line a host."""
        found: Amounts = self._fits_of[levels + 1].sum(axis=1)
        return found

    def less_whole(self, counts: Amounts, gpus: int) -> Amounts:
        """Return these counts after so many whole GPUs were taken of each host."""
        left: Amounts = counts - self._fits_of[-1] * gpus
        return left

    def less_part(self, counts: Amounts, levels: Amounts, asked: int) -> Amounts:
        """Return these counts after a part was taken of a GPU of such a level, one a host."""
        left: Amounts = counts - self._fits_of[levels + 1] + self._fits_of[levels + 1 - asked]
        return left

    def mixed(self, kinds: Amounts) -> Amounts:
        """Return which of hosts of such kinds have GPUs of several kinds, of which shapes may want some alone."""
        places: Amounts = self._is_mixed[kinds].nonzero()[0]
        return places

    def units(self, counts: Amounts) -> Amounts:
        """Return, one line a host, how many units of each shape its GPUs hold, if any GPU will do."""
        if len(self._groups):
            whole = counts[:, -1:] // self._groups
            counts = np.concatenate((counts[:, : self._sizes], whole), axis=1)
        found: Amounts = counts.take(self._column, axis=1)
        return found

    def units_wanted(self, kinds: Amounts, levels: Amounts, places: Amounts) -> Amounts:
        """Return the same where each shape has those GPUs alone that will do for it."""
        fits = self._fits_of[levels + 1].take(np.minimum(self._column, self._sizes), axis=2)
        fits *= self._wanted[kinds[:, np.newaxis], places]
        found: Amounts = fits.sum(axis=1) // np.maximum(self._gpu.astype(np.int64) // GPU_WHOLE, 1)
        return found

    def usable(self, cpu: Amounts, memory: Amounts, units: Amounts) -> Values:
        """Return, one line a host, how many units of each shape could use it, in fractions; nothing below one."""
        usable: Values = np.minimum(np.multiply.outer(cpu, self._per_cpu), np.multiply.outer(memory, self._per_memory))
        has_room = usable >= _ONE
        np.minimum(usable, units, out=usable)
        usable *= has_room
        return usable

    def values(self, kinds: Amounts, cpu: Amounts, memory: Amounts, units: Amounts) -> Values:
        """Return the worth of hosts of such kinds and with so much left, in thousandths of a GPU."""
        usable = self.usable(cpu, memory, units)
        usable *= self._gains[0] if len(self._gains) == 1 else self._gains[kinds]
        worth: Values = usable.sum(axis=1)
        return worth

    def weigh(self, room: Values, allowed: Values) -> Values:
        """
        Return what shapes weigh: the more, the smaller the part of the room is that they are allowed to use.

        Args:
            room: What `usable` says of each shape, over all hosts.
            allowed: The same over those where it may run.
        """
        weights = np.where(allowed > 0, self._shares * room / np.maximum(allowed, _LEAST), 0.0)
        return weights / weights.sum() if weights.sum() > 0 else self.weights

    def use(self, weights: Values) -> None:
        """Weigh shapes so from now on."""
        self.weights = weights
        self._gains = self.allowed * (weights * self._gpu)
