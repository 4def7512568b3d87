"""Gang explain: why the nodes of a job cannot be placed together now: how many hosts are asked, and how many there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batchyard.resources import RESOURCE_KINDS, Resources
from batchyard_controller.core.model.settings import ComputeEnvironment

from .fleet import Fleet
from .gangs import able_hosts, can_spread, free_hosts, match
from .kinds import Mask
from .line import Part, Shape
from .refusals import UNITS, Block, Refusal
from .room import vcpus_left
from .strategies import Amounts

GANG = "gang"
"""Kind of refusals in which hosts are counted."""


def gang_refusals(shape: Shape, environments: Sequence[ComputeEnvironment], fleet: Fleet) -> tuple[Refusal, ...]:
    """Say, environment by environment, which part of a gang finds too few hosts; nothing if there is room for it."""
    found: list[Refusal] = []
    for environment in environments:
        where = f" in compute environment {environment.name}" if len(environments) > 1 else ""
        refusals = _refusals(shape, environment, fleet, where)
        if not refusals:
            return ()
        found += refusals
    return tuple(found)


def gang_block(shape: Shape, environments: Sequence[ComputeEnvironment], fleet: Fleet) -> Block | None:
    """Say why a gang could never be placed whatever ends; None if some time it could, or if nothing is known of hosts."""
    cpu = shape.resources.cpu_millis
    if all(0 < e.compute_resources.max_vcpus * 1000 < cpu for e in environments):
        return Block.BEYOND_ENVIRONMENTS
    if fleet.ids and not any(_could_ever(shape, environment, fleet) for environment in environments):
        return Block.BEYOND_HOSTS
    return None


def _could_ever(shape: Shape, environment: ComputeEnvironment, fleet: Fleet) -> bool:
    """Say whether the hosts of an environment, those that are away included, could take all nodes if they were empty."""
    if 0 < environment.compute_resources.max_vcpus * 1000 < shape.resources.cpu_millis:
        return False
    able = [able_hosts(fleet, each, environment) for each in shape.singles]
    if match(able, [part.size for part in shape.parts]) is not None:
        return True
    if shape.is_spread:
        return False
    rooms = [
        int(_times(fleet.capacity[:, mask], each.resources).sum())
        for mask, each in zip(able, shape.singles, strict=True)
    ]
    return all(room >= part.size for room, part in zip(rooms, shape.parts, strict=True))


def _times(state: Amounts, asked: Resources) -> Amounts:
    """Return how many units fit in each column of amounts."""
    amounts = np.array([getattr(asked, kind) for kind in RESOURCE_KINDS], dtype=np.int64)
    kinds = amounts > 0
    fit: Amounts = (np.maximum(state[kinds], 0).T // amounts[kinds]).min(axis=-1)
    return fit


def _refusals(shape: Shape, environment: ComputeEnvironment, fleet: Fleet, where: str) -> list[Refusal]:
    found: list[Refusal] = []
    left, cpu = vcpus_left(fleet.environment_cpu, environment), shape.resources.cpu_millis
    if left < cpu:
        bound = environment.compute_resources.max_vcpus
        text = (
            f"{cpu / 1000:.10g} vCPU asked by all nodes together, compute environment {environment.name} has "
            f"{max(0, left) / 1000:.10g} left of its bound of {bound}"
        )
        found.append(
            Refusal(kind="max_vcpus", message=text, asked=cpu, free=max(0, left), largest_capacity=bound * 1000)
        )
    free = [free_hosts(fleet, fleet.state, each, environment) for each in shape.singles]
    able = [able_hosts(fleet, each, environment) for each in shape.singles]
    sizes = [part.size for part in shape.parts]
    if not (shape.is_spread or can_spread(fleet, shape, environment)):
        return found + _shared(shape, fleet, free, able, where)
    for part, now, ever in zip(shape.parts, free, able, strict=True):
        if int(now.sum()) < part.size:
            found.append(_too_few(part, int(now.sum()), int(ever.sum()), where))
    if not found and match(free, sizes) is None:
        text = f"{sum(sizes)} hosts asked{where}; each kind of node finds hosts enough, but not all of them at once"
        found.append(Refusal(kind=GANG, message=text, asked=sum(sizes), free=int(np.logical_or.reduce(free).sum())))
    return found


def _shared(shape: Shape, fleet: Fleet, free: Sequence[Mask], able: Sequence[Mask], where: str) -> list[Refusal]:
    """Say what is lacking where several nodes have to share a host, as there are too few."""
    found = []
    for part, now, ever in zip(shape.parts, free, able, strict=True):
        room = int(_times(fleet.free[:, now], part.resources).sum())
        could = int(_times(fleet.capacity[:, ever], part.resources).sum())
        if room < part.size:
            text = (
                f"room for {part.size} nodes with {_amounts(part.resources)} asked{where}, hosts have it for {room} now "
                f"({could} could share them)"
            )
            refusal = Refusal(
                kind=GANG, message=text, asked=part.size, free=room, largest_free=room, largest_capacity=could
            )
            found.append(refusal)
    if not found and len(shape.parts) > 1:
        total = shape.resources
        kinds = [kind for kind in RESOURCE_KINDS if getattr(total, kind)]
        sums = {
            kind: int(np.maximum(fleet.free[RESOURCE_KINDS.index(kind), np.logical_or.reduce(free)], 0).sum())
            for kind in kinds
        }
        lacking = [kind for kind in kinds if sums[kind] < getattr(total, kind)]
        if lacking:
            text = f"{_amounts(total)} asked by all nodes together{where}; hosts do not have it free now"
            found.append(Refusal(kind=GANG, message=text, asked=shape.size))
    return found


def _too_few(part: Part, now: int, could: int, where: str) -> Refusal:
    text = (
        f"{part.size} host{'s' if part.size > 1 else ''} with {_amounts(part.resources)} free asked{where}, "
        f"{now} {'has' if now == 1 else 'have'} it now ({could} could)"
    )
    return Refusal(kind=GANG, message=text, asked=part.size, free=now, largest_free=now, largest_capacity=could)


def _amounts(resources: Resources) -> str:
    parts = []
    for kind, (per_unit, unit) in UNITS.items():
        if amount := getattr(resources, kind):
            parts.append(f"{amount / per_unit:.10g} {unit}")
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
