"""
Occupancy: who is on a host, as plans judge whom to stop there.

It follows from live attempts. Law: the hosts that are counted for a queue are those on which
it has any.
"""

from __future__ import annotations

from batchyard.ids import HostId
from batchyard.states import EndCause
from batchyard_controller.core import limits
from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.settings import JobQueue
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.placement.preemption import Occupant
from batchyard_controller.core.placement.quotas import Holding, use_of

from .waiting import rank_of
from .world import World


def occupants(world: World, host_id: str) -> list[Occupant]:
    """Return who is on a host, but for nodes, which are not stopped for others: that would end all of their job."""
    return [
        _occupant(world, attempt) for attempt in world.hosts[HostId(host_id)].attempts.values() if not attempt.is_node
    ]


def _occupant(world: World, attempt: Attempt) -> Occupant:
    unit = world.unit_of(attempt)
    share, priority = rank_of(world, unit.job.spec)
    preemptions = 0
    if attempt.number > limits.PREEMPTIONS_MAX:
        preemptions = sum(ended.cause is EndCause.PREEMPTED for ended in unit.attempts)
    return Occupant(
        attempt.id,
        unit.job.spec.queue,
        share,
        priority,
        attempt.claimed_at_ms,
        unit.task.resources,
        attempt.gpus,
        attempt.compute_environment,
        attempt.is_stopping,
        preemptions,
    )


def bound_shares(world: World, queue: JobQueue) -> None:
    """Tell the fleet what the quota shares of a queue are, and of one that is new to it what its attempts use."""
    if not world.has_quota_shares(queue):
        return
    if world.fleet.quotas.set_queue(queue.name, world.shares_of(queue.name)):
        for attempt in world.attempts.values():
            hold_quota(world, world.unit_of(attempt), attempt)


def hold_quota(world: World, unit: Unit, attempt: Attempt) -> None:
    """Count what an attempt uses of the capacity of its quota share, if its queue has any."""
    spec = unit.job.spec
    if world.fleet.quotas.of(spec.queue) is not None:
        use = use_of(unit.task.resources, world.hosts[attempt.host_id].record.facts.host_type)
        holding = Holding(spec.share_identifier, attempt.host_id, use)
        world.fleet.quotas.claim(spec.queue, attempt.id, holding, is_stopping=attempt.is_stopping)


def hold_quotas_again(world: World, host: Host) -> None:
    """Count anew what the attempts on a host use that is of another type now."""
    for name, attempt in host.attempts.items():
        unit = world.unit_of(attempt)
        world.fleet.quotas.release(unit.job.spec.queue, name)
        hold_quota(world, unit, attempt)


def occupy(world: World, unit: Unit, attempt: Attempt, sign: int = 1) -> None:
    """Count an attempt among those of its queue on its host, or no longer (-1)."""
    queue = unit.job.spec.queue
    hosts = world.occupied.get(queue)
    if hosts is None:
        hosts = world.occupied[queue] = {}
    hosts[attempt.host_id] = number = hosts.get(attempt.host_id, 0) + sign
    if not number:
        del hosts[attempt.host_id]
        if not hosts:
            del world.occupied[queue]
