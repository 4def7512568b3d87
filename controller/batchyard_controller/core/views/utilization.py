"""Utilization: how many vCPUs the jobs of a queue, and of its shares, hold."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from batchyard_controller.core.model.quota_shares import QuotaShare
from batchyard_controller.core.placement.bounds import CPU, QUEUE_LIMIT, Bound
from batchyard_controller.core.placement.quotas import Account
from batchyard_controller.core.world.world import World

SHARES_MAX = 20
"""AWS's (GetJobQueueSnapshot)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilization:
    """
    What live attempts hold.

    Attributes:
        cpu_millis: Of the whole queue.
        shares: How many shares hold something.
        top_shares: Those that hold most, with what they hold, the most first.
    """

    cpu_millis: int
    shares: int
    top_shares: tuple[tuple[str, int], ...]


def utilization(world: World, queue: str) -> Utilization:
    """Return what the jobs of a queue hold that have a host."""
    bounds = world.fleet.bounds
    held = bounds.held_by_shares(queue)
    top = heapq.nsmallest(SHARES_MAX, held.items(), key=lambda pair: (-pair[1], pair[0]))
    return Utilization(cpu_millis=bounds.held(Bound(QUEUE_LIMIT, queue, CPU)), shares=len(held), top_shares=tuple(top))


def accounts(world: World, share: QuotaShare) -> list[Account]:
    """Return how a quota share stands, with each unit of capacity that any share of its queue lists."""
    quota = world.fleet.quotas.of(share.job_queue)
    if quota is None:
        return []
    return [quota.ledger.account(share.name, unit) for unit in quota.ledger.limits]
