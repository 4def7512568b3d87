"""
Room: which hosts can take one more unit of a shape now, and which could if they were empty.

One predicate, `has_room`, serves placement and its explanations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from batchyard.ids import HostId
from batchyard.resources import GPU_WHOLE
from batchyard_controller.core.model.settings import ComputeEnvironment, ResourceState

from .changes import Rows
from .fleet import CPU, GPU, Fleet, row_of
from .gpus import gpu_levels, gpu_needs
from .kinds import Mask
from .line import NOBODY, Shape
from .strategies import Amounts

_OVERDRAWN = np.iinfo(np.int64).min
_BOUNDLESS = np.iinfo(np.int64).max


def needs_of(shape: Shape) -> Amounts:
    """Return what a host must have of each line of the fleet's state; what is not asked for may be overdrawn."""
    asked = row_of(shape.resources)
    needs: Amounts = np.array([*asked.tolist(), *gpu_needs(int(asked[GPU])), 1, 1], dtype=np.int64)
    needs[needs == 0] = _OVERDRAWN
    return needs[:, np.newaxis]


def has_room(state: Amounts, needs: Amounts, allowed: Mask) -> Mask:
    """Say of hosts in such a *state*, of which some are *allowed*, whether one more unit fits there now."""
    mask: Mask = (state >= needs).all(axis=0) & allowed
    return mask


def have_gpus(
    fleet: Fleet, fits: Mask, rows: npt.NDArray[np.int64], shape: Shape, gpus_of: Callable[[int], Mapping[str, int]]
) -> Mask:
    """
    Return which hosts fit of those that do by amounts; others have too few of the GPUs that will do.

    Args:
        fleet: All hosts.
        fits: Whether some of them fit by amounts.
        rows: Of these.
        shape: What the unit asks.
        gpus_of: Tells how much of each GPU of a row counts.
    """
    if not shape.access.chooses_gpus:
        return fits
    needed, fits = gpu_needs(shape.resources.gpu_millis), fits.copy()
    for place in np.nonzero(fits & fleet.has_mixed_gpus[rows])[0].tolist():
        row = int(rows[place])
        whole, most = gpu_levels(fleet.wanted_gpus(row, shape.access, gpus_of(row)))
        fits[place] = whole >= needed[0] and most >= needed[1]
    return fits


def could_take(fleet: Fleet, shape: Shape, hosts: Mask) -> Mask:
    """Say which of some *hosts* would have room for a unit if they were empty."""
    asked = row_of(shape.resources)[:, np.newaxis]
    mask = hosts & (fleet.capacity >= asked).all(axis=0)
    return have_gpus(
        fleet, mask, np.arange(len(mask)), shape, lambda row: dict.fromkeys(fleet.gpu_free[row], GPU_WHOLE)
    )


def amounts_for(fleet: Fleet, shape: Shape) -> tuple[Amounts, Amounts]:
    """Return what is free on each host and what it has; of its GPUs those that will do."""
    if not shape.access.chooses_gpus:
        return fleet.free, fleet.capacity
    free, capacity = fleet.free.copy(), fleet.capacity.copy()
    for row in np.nonzero(fleet.has_mixed_gpus)[0].tolist():
        wanted = fleet.wanted_gpus(row, shape.access, fleet.gpu_free[row])
        free[GPU, row], capacity[GPU, row] = sum(wanted.values()), GPU_WHOLE * len(wanted)
    return free, capacity


def roomiest(state: Amounts, rows: Rows, shape: Shape) -> Rows:
    """Order hosts by how many times they have what a unit asks for in such a *state*, those with most first; of equal ones the first row."""
    asked = row_of(shape.resources)
    kinds = asked > 0
    if not len(rows) or not kinds.any():
        return rows
    parts = (state[:4][kinds][:, rows] / asked[kinds, np.newaxis]).min(axis=0)
    return rows[np.argsort(-parts, kind="stable")]


def vcpus_left(environment_cpu: Mapping[str, int], environment: ComputeEnvironment) -> int:
    """Return how many thousandths of vCPU the bound of an environment leaves."""
    bound = environment.compute_resources.max_vcpus
    return bound * 1000 - environment_cpu.get(environment.name, 0) if bound else _BOUNDLESS


def queue_vcpus(fleet: Fleet, environments: Iterable[ComputeEnvironment]) -> int:
    """Return the thousandths of vCPU of a queue's environments: their bounds, or what their hosts have."""
    total = 0
    for environment in environments:
        bound = environment.compute_resources.max_vcpus or environment.unmanaged_vcpus
        total += bound * 1000 or int(fleet.capacity[CPU, fleet.members(environment, "")].sum())
    return total


def takers(
    fleet: Fleet,
    shape: Shape,
    environments: Iterable[ComputeEnvironment],
    avoided: Iterable[HostId],
    returning: Iterable[HostId] = (),
) -> Mask:
    """
    Return which hosts could take a unit, or any node of a job, if they were empty.

    Args:
        fleet: All hosts; those count that get work now, or will after a short rest.
        shape: What the unit asks.
        environments: Of its queue.
        avoided: Hosts that do not count.
        returning: Hosts that count although they are not connected.
    """
    mask: Mask = np.zeros(len(fleet.ids), dtype=np.bool_)
    if shape.parts:
        cpu, able = shape.resources.cpu_millis, [*environments]
        able = [e for e in able if not 0 < e.compute_resources.max_vcpus * 1000 < cpu]
        for each in shape.singles:
            mask |= takers(fleet, each, able, avoided, returning)
        return mask
    for environment in environments:
        bound = environment.compute_resources.max_vcpus
        if environment.state is ResourceState.ENABLED and (bound == 0 or shape.resources.cpu_millis <= bound * 1000):
            mask |= fleet.members(environment, shape.runtime, shape.access)
    hopeful = fleet.hopeful.copy()
    hopeful[[fleet.rows[host_id] for host_id in returning]] = True
    mask = could_take(fleet, shape, mask & hopeful)
    mask[[fleet.rows[host_id] for host_id in avoided if host_id in fleet.rows]] = False
    return mask


def wanted_hosts(fleet: Fleet, shape: Shape, environments: Sequence[ComputeEnvironment]) -> Mask | None:
    """Return where units go that avoid some hosts; None for anywhere, as where nobody else could take them."""
    avoided = (shape.doubts & fleet.doubted) | fleet.lacking.get(shape.image, NOBODY)
    on_demand = on_demand_of(environments) if shape.on_demand else ()
    if not avoided and not on_demand:
        return None
    mask = takers(fleet, shape, on_demand or environments, avoided)
    if mask.any():
        return mask
    return takers(fleet, shape, on_demand, NOBODY) if on_demand else None


def on_demand_of(environments: Iterable[ComputeEnvironment]) -> tuple[ComputeEnvironment, ...]:
    """Return the environments whose hosts nobody takes away."""
    return tuple(e for e in environments if not e.compute_resources.type.is_spot)
