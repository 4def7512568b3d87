"""
Room: which hosts can take one more unit of a shape now, and which could if they were empty.

One predicate, `has_room`, serves placement and its explanations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from batchyard.ids import HostId
from batchyard_controller.core.model.settings import ComputeEnvironment, ResourceState

from .fleet import GPU, Fleet, row_of
from .gpus import gpu_needs
from .kinds import Mask
from .lines import NOBODY, Shape
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


def could_take(fleet: Fleet, asked: Amounts, allowed: Mask, wanted: Mask | None) -> Mask:
    """Say which hosts that are *allowed*, and *wanted* if any are said, would have room if they were empty."""
    mask: Mask = fleet.hopeful & allowed & (fleet.capacity >= asked[:, np.newaxis]).all(axis=0)
    return mask if wanted is None else mask & wanted


def vcpus_left(environment_cpu: Mapping[str, int], environment: ComputeEnvironment) -> int:
    """Return how many thousandths of vCPU the bound of an environment leaves."""
    bound = environment.compute_resources.max_vcpus
    return bound * 1000 - environment_cpu.get(environment.name, 0) if bound else _BOUNDLESS


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
    asked = row_of(shape.resources)[:, np.newaxis]
    mask: Mask = np.zeros(len(fleet.ids), dtype=np.bool_)
    for environment in environments:
        bound = environment.compute_resources.max_vcpus
        if environment.state is ResourceState.ENABLED and (bound == 0 or shape.resources.cpu_millis <= bound * 1000):
            mask |= fleet.members(environment, shape.runtime, shape.access)
    hopeful = fleet.hopeful.copy()
    hopeful[[fleet.rows[host_id] for host_id in returning]] = True
    mask &= hopeful & (fleet.capacity >= asked).all(axis=0)
    mask[[fleet.rows[host_id] for host_id in avoided if host_id in fleet.rows]] = False
    return mask


def wanted_hosts(fleet: Fleet, shape: Shape, environments: Iterable[ComputeEnvironment]) -> Mask | None:
    """Return where units go that avoid some hosts; None for anywhere, as where nobody else could take them."""
    avoided = (shape.doubts & fleet.doubted) | fleet.lacking.get(shape.image, NOBODY)
    if not avoided:
        return None
    mask = takers(fleet, shape, environments, avoided)
    return mask if mask.any() else None
