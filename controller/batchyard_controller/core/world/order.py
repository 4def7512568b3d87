"""
Order: who is served next in a queue, as far as is known now.

As plans serve it: in a queue with a policy shares take turns, within a share, or a
queue without one, units come by priority and due time. Laws: it is the order in which a
plan would place them if there were room for all; what it costs does not grow with the queue.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice

from batchyard.ids import JobId
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.placement.heads import Ahead
from batchyard_controller.core.placement.line import Line, Rank
from batchyard_controller.core.placement.quota_sketch import QuotaSketch
from batchyard_controller.core.placement.quotas import use_of
from batchyard_controller.core.placement.shares import Standing

from .world import World

_TURNS_MAX = 1_000
"""Units whose turns are gone through to find the place of one in a queue with shares."""


def first_of(world: World, queue: str) -> tuple[Line, Unit] | None:
    """Return who comes first in a queue, and the line in which it stands."""
    firsts = {share: first for share, heads in world.lines.heads_of(queue).items() if (first := heads.first())}
    if not firsts:
        return None
    standing = _standing(world, queue)
    if standing is None:
        line = firsts[""][1]
    else:
        _, share = min((_score(standing, share, *first), share) for share, first in firsts.items())
        line = firsts[share][1]
    head = line.head()
    assert head is not None, "somebody comes first"
    return line, head


def firsts_of_shares(world: World, queue: str) -> dict[str, JobId]:
    """Return who comes first in each quota share of a queue, in name order; nobody where there are none."""
    if world.fleet.quotas.of(queue) is None:
        return {}
    firsts = {share: world.lines.first_in(queue, share) for share in sorted(world.lines.shares_of(queue))}
    heads = {share: line.head() for share, line in firsts.items() if line is not None}
    return {share: head.waits_as for share, head in heads.items() if head is not None}


def is_first(world: World, unit: Unit, line: Line) -> bool:
    """Say whether a unit of a line comes first in its queue, or quota share."""
    head = line.head()
    if head is None or head.id != unit.id:
        return False
    of_share = world.lines.first_in(line.shape.queue, line.shape.share)
    if of_share is not line:
        return False  # most are not, and it costs no look at other shares
    if world.fleet.quotas.of(line.shape.queue) is not None:
        return True  # a share with capacity of its own is a queue of its own
    first = first_of(world, line.shape.queue)
    return first is not None and first[0] is line


def next_of(world: World, queue: str) -> Iterator[tuple[Line, Unit]]:
    """Yield those who wait in a queue, who is served first first, of nodes the first; nothing may change meanwhile."""
    heads = {share: _without_others(each.in_order()) for share, each in world.lines.heads_of(queue).items()}
    standing = _standing(world, queue)
    if standing is None:
        yield from (pair for each in heads.values() for pair in each)
        return
    turns = [_turn(standing, share, each) for share, each in heads.items()]
    heap = [turn for turn in turns if turn is not None]
    heapq.heapify(heap)
    while heap:
        _, share, line, unit, rest = heapq.heappop(heap)
        yield line, unit
        if isinstance(standing, QuotaSketch):
            standing.take(share, use_of(line.shape.resources))
        else:
            standing.take(share, line.shape.resources.cpu_millis)
        turn = _turn(standing, share, rest)
        if turn is not None:
            heapq.heappush(heap, turn)


def _without_others(waiting: Iterator[tuple[Line, Unit]]) -> Iterator[tuple[Line, Unit]]:
    """Leave out the nodes that are placed with the first of their job."""
    return ((line, unit) for line, unit in waiting if not unit.is_node or unit.child == 0)


_Turn = tuple[float, str, Line, Unit, Iterator[tuple[Line, Unit]]]


def _score(standing: Standing | QuotaSketch, share: str, rank: Rank, line: Line) -> float:
    return standing.score(rank, line.shape) if isinstance(standing, QuotaSketch) else standing.score(share)


def _turn(standing: Standing | QuotaSketch, share: str, rest: Iterator[tuple[Line, Unit]]) -> _Turn | None:
    following = next(rest, None)
    if following is None:
        return None
    line, unit = following
    return _score(standing, share, line.rank(unit, by_size=False), line), share, line, unit, rest


def ahead_of(world: World, unit: Unit, line: Line) -> Ahead:
    """Count who is served before a unit of a line, in a queue with shares as if each were placed in its turn."""
    queue = line.shape.queue
    if _standing(world, queue) is None:
        return world.lines.heads_of(queue)[""].ahead_of(line.rank(unit, by_size=False))
    count = 0
    for in_line, other in islice(next_of(world, queue), _TURNS_MAX):
        if other.place == unit.place:
            return Ahead(count, is_all=True)
        count += in_line.shape.size
    return Ahead(count, is_all=False)


def _standing(world: World, name: str) -> Standing | QuotaSketch | None:
    """Return how the shares of a queue stood at the last plan; None of a queue without a policy."""
    quota = world.fleet.quotas.of(name)
    if quota is not None:
        return QuotaSketch(quota)
    queue = world.queues.get(name)
    policy = world.policies.get(queue.scheduling_policy) if queue is not None else None
    if policy is None:
        return None
    return world.shares.standing(name, policy.fairshare, world.lines.shares_of(name), world.planned_at.boot_ms)
