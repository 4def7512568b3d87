"""Sketch: a copy of the fleet's free amounts that a plan may draw on, and the room that is left in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from batchyard.ids import HostId
from batchyard_controller.core.model.attempts import GpuClaim
from batchyard_controller.core.model.settings import ComputeEnvironment, ResourceState

from .fleet import CPU, GPU, Fleet, Mask, row_of
from .gpus import choose_gpus, gpu_room
from .lines import NOBODY, Shape
from .strategies import Amounts


@dataclass(slots=True)
class Sketch:
    """A copy of the fleet's free amounts that a plan may draw on."""

    fleet: Fleet
    free: Amounts
    environment_cpu: dict[str, int]
    start_room: Amounts
    gpu_free: dict[int, dict[str, int]] = field(default_factory=dict)
    """Copies of rows that were touched."""
    version: int = 0

    @classmethod
    def of(cls, fleet: Fleet) -> Sketch:
        """Return a sketch of a fleet as it is."""
        return cls(fleet, fleet.free.copy(), dict(fleet.environment_cpu), fleet.start_room.copy())

    def gpus_of(self, row: int) -> Mapping[str, int]:
        """Return the thousandths free of each GPU of a host."""
        return self.gpu_free.get(row) or self.fleet.gpu_free[row]

    def claim(self, row: int, asked: Amounts, environment: str) -> tuple[GpuClaim, ...]:
        """Take amounts from a host, and choose its GPUs."""
        gpus = choose_gpus(self.gpus_of(row), int(asked[GPU]))
        if gpus:
            left = dict(self.gpus_of(row))
            for gpu in gpus:
                left[gpu.uuid] -= gpu.millis
            self.gpu_free[row] = left
        self.free[row] -= asked
        self.start_room[row] -= 1
        self.environment_cpu[environment] = self.environment_cpu.get(environment, 0) + int(asked[CPU])
        self.version += 1
        return gpus


def vcpus_left(sketch: Sketch, environment: ComputeEnvironment) -> int:
    """Return how many thousandths of vCPU the bound of an environment leaves."""
    bound = environment.compute_resources.max_vcpus
    if bound == 0:
        return np.iinfo(np.int64).max
    return bound * 1000 - sketch.environment_cpu.get(environment.name, 0)


def takers(
    fleet: Fleet,
    shape: Shape,
    environments: Iterable[ComputeEnvironment],
    avoided: Iterable[HostId],
    returning: Iterable[HostId] = (),
) -> Mask:
    """
    Return which hosts could take a unit if they were empty.

    Args:
        fleet: All hosts; those count that get work now, or will after a short rest.
        shape: What the unit asks.
        environments: Of its queue.
        avoided: Hosts that do not count.
        returning: Hosts that count although they are not connected.
    """
    asked = row_of(shape.resources)
    mask: Mask = np.zeros(len(fleet.ids), dtype=np.bool_)
    for environment in environments:
        bound = environment.compute_resources.max_vcpus
        if environment.state is ResourceState.ENABLED and (bound == 0 or asked[CPU] <= bound * 1000):
            mask |= fleet.members(environment, shape.runtime, shape.access)
    hopeful = fleet.hopeful.copy()
    hopeful[[fleet.rows[host_id] for host_id in returning]] = True
    mask &= hopeful & (fleet.capacity >= asked).all(axis=1)
    mask[[fleet.rows[host_id] for host_id in avoided if host_id in fleet.rows]] = False
    return mask


def wanted_hosts(fleet: Fleet, shape: Shape, environments: Iterable[ComputeEnvironment]) -> Mask | None:
    """Return where units go that avoid some hosts; None for anywhere, as where nobody else could take them."""
    avoided = (shape.doubts & fleet.doubted) | fleet.lacking.get(shape.image, NOBODY)
    if not avoided:
        return None
    mask = takers(fleet, shape, environments, avoided)
    return mask if mask.any() else None


def room_for(
    sketch: Sketch, shape: Shape, environment: ComputeEnvironment, asked: Amounts, wanted: Mask | None = None
) -> Amounts:
    """Return how many units each host can take now, of the *wanted* ones if any are said."""
    fleet = sketch.fleet
    mask = fleet.members(environment, shape.runtime, shape.access) & fleet.usable
    if wanted is not None:
        mask &= wanted
    room: Amounts = np.zeros(len(fleet.ids), dtype=np.int64)
    if not mask.any():
        return room
    kinds = np.nonzero(asked)[0]
    room[mask] = np.maximum((sketch.free[mask][:, kinds] // asked[kinds]).min(axis=1), 0) if len(kinds) else 1
    if asked[GPU]:
        for row in np.nonzero(room)[0].tolist():
            room[row] = min(int(room[row]), gpu_room(sketch.gpus_of(row), int(asked[GPU])))
    return np.minimum(room, np.maximum(sketch.start_room, 0))
