"""
Readings: what a monitor is told of a yard: who waits and why, what is taken, what is launched.

Law: they cost much the same for any queue, and have a bounded number of labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from batchyard.resources import RESOURCE_KINDS
from batchyard.states import JobState
from batchyard_controller.core.model.settings import DispatchOrder, JobQueue
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.bounds import bound_refusals
from batchyard_controller.core.placement.line import Line
from batchyard_controller.core.placement.quotas import QUOTA_SHARE, quota_refusals
from batchyard_controller.core.world.order import first_of
from batchyard_controller.core.world.reasons import KEPT, ORDER, SHARE_RESERVATION
from batchyard_controller.core.world.world import World

NAMES_MAX = 200
"""Queues, and environments, that are told of: the first by name."""
LINES_MAX = 500
"""Lines of a queue that are asked for their reasons."""

NEW, ROOM_LACKS, OTHERS = "new", "capacity", "others"

_UNITS = {"cpu_millis": ("cpu", 1000), "memory_mib": ("memory_mib", 1), "gpu_millis": ("gpu", 1000)}


@dataclass(frozen=True, slots=True)
class Reading:
    """One number under a metric's name; labels are as that metric has them."""

    metric: str
    labels: tuple[str, ...]
    value: float


def readings(world: World, now: Instant) -> list[Reading]:
    """Read all of a yard."""
    return [
        *_waiting(world, now),
        *_allocation(world),
        *_launches(world),
        *_reclaims(world),
        _brake(world),
        *_usage(world),
    ]


def _waiting(world: World, now: Instant) -> Iterator[Reading]:
    for name in sorted(world.queues)[:NAMES_MAX]:
        queue, lines = world.queues[name], world.lines.some_of(name, LINES_MAX)
        counts: Counter[str] = Counter()
        for line in lines:
            counts[_reason(world, queue, line)] += len(line)
        left = world.counts.get(name, Counter())[JobState.RUNNABLE] - counts.total()
        if left > 0:
            counts[OTHERS] += left
        yield from (Reading("waiting", (name, reason), number) for reason, number in sorted(counts.items()))
        since = [head.job.created_at_ms for line in lines if (head := line.head()) is not None]
        oldest_ms = max(0, now.wall_ms - min(since, default=now.wall_ms))
        yield Reading("oldest_wait_seconds", (name,), oldest_ms / 1000)


def _reason(world: World, queue: JobQueue, line: Line) -> str:
    """Say in a word why those in a line wait, as the plan did that asked last."""
    if queue.dispatch_order is DispatchOrder.STRICT:
        first = first_of(world, queue.name)
        if first is not None and first[0] is not line:
            return ORDER
    if line.refused_at < 0:
        return NEW
    if line.held_back is not None:
        return KEPT if line.held_back.job_id is not None else SHARE_RESERVATION
    bounds = bound_refusals(world.fleet.bounds, line.shape)
    if bounds:
        return bounds[0].kind
    return QUOTA_SHARE if quota_refusals(world.fleet.quotas, line.shape, ()) else ROOM_LACKS


def _allocation(world: World) -> Iterator[Reading]:
    """Read what hosts of each environment have, and what of it is taken; a host may be of several."""
    fleet = world.fleet
    for name in sorted(world.environments)[:NAMES_MAX]:
        member = fleet.members(world.environments[name], "")
        for i, kind in enumerate(RESOURCE_KINDS):
            if kind in _UNITS:
                label, unit = _UNITS[kind]
                there, free = int(fleet.capacity[i, member].sum()), int(fleet.state[i, member].sum())
                free += int(fleet.reserved[i, member].sum())  # which no attempt holds
                yield Reading("environment_capacity", (name, label), there / unit)
                yield Reading("environment_allocated", (name, label), max(0, there - free) / unit)


def _launches(world: World) -> Iterator[Reading]:
    counts = Counter((each.environment, str(each.state)) for each in world.launches.values())
    yield from (Reading("launches", labels, number) for labels, number in sorted(counts.items())[:NAMES_MAX])


def _reclaims(world: World) -> Iterator[Reading]:
    number = sum(host.record.reclaimed_at_ms > 0 for host in world.hosts.values())
    yield Reading("hosts_being_reclaimed", (), number)
    reclaimed = sorted(world.reclaimed.items())[:NAMES_MAX]
    yield from (Reading("reclaimed_attempts", (name,), number) for name, number in reclaimed)


def _brake(world: World) -> Reading:
    return Reading("hosts_held_by_brake", (), world.brake.silent if world.brake.since_boot_ms is not None else 0)


def _usage(world: World) -> Iterator[Reading]:
    """Read what attempts took and used that have ended in this term."""
    for name, used in sorted(world.used.items())[:NAMES_MAX]:
        yield Reading("attempts", (name, "succeeded"), used.attempts - used.failed)
        yield Reading("attempts", (name, "failed"), used.failed)
        yield Reading("attempt_seconds", (name,), used.wall_ms / 1000)
        yield Reading("asked_seconds", (name, "cpu"), used.cpu_asked_ms / 1000)
        yield Reading("asked_seconds", (name, "gpu"), used.gpu_asked_ms / 1000)
        yield Reading("asked_seconds", (name, "memory_mib"), used.memory_asked_mib_s)
        yield Reading("used_seconds", (name, "cpu"), used.cpu_used_ms / 1000)
        yield Reading("used_seconds", (name, "memory_mib"), used.memory_used_mib_s)
