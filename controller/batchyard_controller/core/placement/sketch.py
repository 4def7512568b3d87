"""Sketch: a copy of the fleet's free amounts that a plan may draw on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from batchyard.resources import Resources
from batchyard_controller.core.model.attempts import GpuClaim

from .bounds import Draws
from .feasibility import Access
from .fleet import GPU_PART, STARTS, WHOLE_GPUS, Fleet
from .gpus import NOTHING_LOST, choose_gpus, gpu_levels
from .quota_sketch import QuotaSketch
from .strategies import Amounts


@dataclass(slots=True)
class Sketch:
    """
    A copy of the fleet's free amounts that a plan may draw on.

    What is drawn is noted among the fleet's changes, so that rankings take it in, and again
    when the sketch is thrown away, so that they take it back.
    """

    fleet: Fleet
    state: Amounts
    environment_cpu: dict[str, int]
    draws: Draws
    remainders: Sequence[int] = NOTHING_LOST
    """What is worth what is left of a GPU, by thousandths."""
    gpu_free: dict[int, dict[str, int]] = field(default_factory=dict)
    """Copies of rows that were touched."""
    _drawn: list[int] = field(default_factory=list)
    _quotas: dict[str, QuotaSketch] = field(default_factory=dict)

    @classmethod
    def of(cls, fleet: Fleet, remainders: Sequence[int] = NOTHING_LOST) -> Sketch:
        """Return a sketch of a fleet as it is."""
        return cls(fleet, fleet.state.copy(), dict(fleet.environment_cpu), Draws(fleet.bounds), remainders)

    def quota_of(self, queue: str) -> QuotaSketch | None:
        """Return the quota shares of a queue; None of one that has none."""
        if queue not in self._quotas:
            quota = self.fleet.quotas.of(queue)
            if quota is None:
                return None
            self._quotas[queue] = QuotaSketch(quota)
        return self._quotas[queue]

    def gpus_of(self, row: int) -> Mapping[str, int]:
        """Return the thousandths free of each GPU of a host."""
        return self.gpu_free.get(row) or self.fleet.gpu_free[row]

    def choose_gpus(self, row: int, resources: Resources, access: Access) -> tuple[GpuClaim, ...]:
        """Return which GPUs of a host a unit would get that fits there."""
        if not resources.gpu_millis:
            return ()
        free = self.fleet.wanted_gpus(row, access, self.gpus_of(row))
        return choose_gpus(free, resources.gpu_millis, self.remainders)

    def claim(
        self, row: int, resources: Resources, access: Access, asked: Amounts, environment: str
    ) -> tuple[GpuClaim, ...]:
        """Take amounts from a host, and choose its GPUs."""
        gpus = self.choose_gpus(row, resources, access)
        if gpus:
            left = dict(self.gpus_of(row))
            for gpu in gpus:
                left[gpu.uuid] -= gpu.millis
            self.gpu_free[row] = left
            self.state[WHOLE_GPUS : GPU_PART + 1, row] = gpu_levels(left)
        self.state[:4, row] -= asked
        self.state[STARTS, row] -= 1
        self.environment_cpu[environment] = self.environment_cpu.get(environment, 0) + resources.cpu_millis
        self._drawn.append(row)
        self.fleet.changes.note(row)
        return gpus

    def throw_away(self) -> None:
        """Let rankings look again at what was drawn on."""
        for row in set(self._drawn):
            self.fleet.changes.note(row)
