"""
Supply: what hosts have left, and what those under way will have, to reckon with.

A copy: nothing of the fleet changes. A column is a host, or a launch whose host has not
joined; units of a shape are put upon columns many at a time. Shares of GPUs are reckoned
as amounts, so that a host may be launched a little too late, never for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from batchyard.ids import HostId, LaunchId
from batchyard.resources import GPU_WHOLE, Resources
from batchyard_controller.core.model.hosts import HostFacts
from batchyard_controller.core.model.settings import ComputeEnvironment
from batchyard_controller.core.placement.feasibility import allows, offers
from batchyard_controller.core.placement.fleet import WHOLE_GPUS, Fleet, row_of
from batchyard_controller.core.placement.kinds import Mask
from batchyard_controller.core.placement.line import Shape
from batchyard_controller.core.placement.strategies import Amounts

_LINES = (0, 1, 2, 3, WHOLE_GPUS)
"""Of the fleet's state: the four amounts, and how many GPUs are quite free."""


def needs_of(resources: Resources) -> Amounts:
    """Return what one unit takes of each line."""
    whole = resources.gpu_millis // GPU_WHOLE
    needs: Amounts = np.array([*row_of(resources).tolist(), whole], dtype=np.int64)
    return needs


def room_of(facts: HostFacts) -> Amounts:
    """Return what a host that runs nothing has of each line."""
    gpus = sum(not gpu.fault for gpu in facts.gpus)
    room: Amounts = np.append(row_of(facts.capacity), np.int64(gpus))
    room[2] = gpus * GPU_WHOLE
    return room


def times(room: Amounts, needs: Amounts) -> Amounts:
    """Return how many units fit in each column."""
    asked = needs > 0
    if not asked.any():
        return np.zeros(room.shape[1:], dtype=np.int64)
    fit: Amounts = (room[asked].T // needs[asked]).min(axis=-1)
    return np.maximum(fit, 0)


def could_run(facts: HostFacts, shape: Shape) -> bool:
    """Say whether a host of such a kind could run a shape, however much it has."""
    return (not shape.runtime or offers(facts, shape.runtime)) and allows(facts, shape.access)


class Supply:
    """
    What there is to be had.

    Args:
        fleet: All hosts.
        returning: Hosts that count although they are not connected: they were a moment ago.
    """

    def __init__(self, fleet: Fleet, returning: Iterable[HostId]) -> None:
        self._fleet = fleet
        self._hosts = len(fleet.ids)
        present = fleet.hopeful.copy()
        present[[fleet.rows[host_id] for host_id in returning]] = True
        self._free: Amounts = np.where(present, fleet.state[_LINES, :], 0)
        self._used: Mask = np.zeros(self._hosts, dtype=np.bool_)
        self._launches: list[tuple[LaunchId, str, HostFacts]] = []
        self._cpu = dict(fleet.environment_cpu)

    def add(self, launch_id: LaunchId, environment: str, facts: HostFacts) -> None:
        """Reckon with a host that is under way."""
        self._launches.append((launch_id, environment, facts))
        self._free = np.append(self._free, room_of(facts)[:, np.newaxis], axis=1)
        self._used = np.append(self._used, np.False_)

    def most(self, environment: ComputeEnvironment, shape: Shape) -> int:
        """Return how many more units of a shape the bound of an environment lets run; a huge number without one."""
        bound, cpu = environment.compute_resources.max_vcpus, shape.resources.cpu_millis
        if not bound or not cpu:
            return 1 << 40
        return max(0, bound * 1000 - self._cpu.get(environment.name, 0)) // cpu

    def take(self, environment: ComputeEnvironment, shape: Shape, wanted: int) -> int:
        """Put units upon what an environment has, the first columns first; return how many found room."""
        needs = needs_of(shape.resources)
        rooms = np.where(self._allowed(environment, shape), times(self._free, needs), 0)
        if shape.is_spread:  # a node, which shares its host with no other of its job
            rooms = np.minimum(rooms, 1)
        before: npt.NDArray[np.int64] = np.cumsum(rooms) - rooms
        taken = np.clip(wanted - before, 0, rooms)
        total = int(taken.sum())
        if total:
            self._free -= needs[:, np.newaxis] * taken
            self._used |= taken > 0
            name = environment.name
            self._cpu[name] = self._cpu.get(name, 0) + total * shape.resources.cpu_millis
        return total

    def is_used(self, host_id: HostId) -> bool:
        """Say whether something that waits was put upon a host."""
        row = self._fleet.rows.get(host_id)
        return row is not None and bool(self._used[row])

    def _allowed(self, environment: ComputeEnvironment, shape: Shape) -> Mask:
        hosts = self._fleet.members(environment, shape.runtime, shape.access)
        launches = [name == environment.name and could_run(facts, shape) for _, name, facts in self._launches]
        allowed: Mask = np.append(hosts, np.array(launches, dtype=np.bool_))
        return allowed
