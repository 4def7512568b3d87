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

from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.placement.heads import Ahead
from batchyard_controller.core.placement.line import Line
from batchyard_controller.core.placement.shares import Standing

from .world import World

_TURNS_MAX = 1_000
"""Units whose turns are gone through to find the place of one in a queue with shares."""


def first_of(world: World, queue: str) -> tuple[Line, Unit] | None:
    """Return who comes first in a queue, and the line in which it stands."""
    firsts = {share: first[1] for share, heads in world.lines.heads_of(queue).items() if (first := heads.first())}
    if not firsts:
        return None
    standing = _standing(world, queue)
    if standing is None:
        line = firsts[""]
    else:
        _, share = min((standing.score(share), share) for share in firsts)
        line = firsts[share]
    head = line.head()
    assert head is not None, "somebody comes first"
    return line, head


def is_first(world: World, unit: Unit, line: Line) -> bool:
    """Say whether a unit of a line comes first in its queue."""
    head = line.head()
    if head is None or head.id != unit.id:
        return False
    of_share = world.lines.first_in(line.shape.queue, line.shape.share)
    if of_share is not line:
        return False  # most are not, and it costs no look at other shares
    first = first_of(world, line.shape.queue)
    return first is not None and first[0] is line


def next_of(world: World, queue: str) -> Iterator[tuple[Line, Unit]]:
    """Yield those who wait in a queue, who is served first first; nothing may change meanwhile."""
    heads = world.lines.heads_of(queue)
    standing = _standing(world, queue)
    if standing is None:
        yield from (pair for each in heads.values() for pair in each.in_order())
        return
    turns = [_turn(standing, share, each.in_order()) for share, each in heads.items()]
    heap = [turn for turn in turns if turn is not None]
    heapq.heapify(heap)
    while heap:
        _, share, line, unit, rest = heapq.heappop(heap)
        yield line, unit
        standing.take(share, line.shape.resources.cpu_millis)
        turn = _turn(standing, share, rest)
        if turn is not None:
            heapq.heappush(heap, turn)


_Turn = tuple[float, str, Line, Unit, Iterator[tuple[Line, Unit]]]


def _turn(standing: Standing, share: str, rest: Iterator[tuple[Line, Unit]]) -> _Turn | None:
    following = next(rest, None)
    return None if following is None else (standing.score(share), share, *following, rest)


def ahead_of(world: World, unit: Unit, line: Line) -> Ahead:
    """Count who is served before a unit of a line, in a queue with shares as if each were placed in its turn."""
    queue = line.shape.queue
    if _standing(world, queue) is None:
        return world.lines.heads_of(queue)[""].ahead_of(line.rank(unit, by_size=False))
    count = 0
    for _, other in islice(next_of(world, queue), _TURNS_MAX):
        if other.place == unit.place:
            return Ahead(count, is_all=True)
        count += 1
    return Ahead(count, is_all=False)


def _standing(world: World, name: str) -> Standing | None:
    """Return how the shares of a queue stood at the last plan; None of a queue without a policy."""
    queue = world.queues.get(name)
    policy = world.policies.get(queue.scheduling_policy) if queue is not None else None
    if policy is None:
        return None
    return world.shares.standing(name, policy.fairshare, world.lines.shares_of(name), world.planned_at.boot_ms)
