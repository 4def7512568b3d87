"""
Time limits: who has been first in line and unplaced for longer than the queue allows.

Follows from the lines and from what the last plan said of them; nothing of it is
stored, so a new leader counts the time afresh. Who is overdue is cancelled.

Source: AWS Batch User Guide, "Job state time limit actions".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from batchyard_controller.core.commands import Happening
from batchyard_controller.core.model.endings import Ending, Trigger
from batchyard_controller.core.model.settings import JobQueue
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.refusals import BlockedHead
from batchyard_controller.core.world import records
from batchyard_controller.core.world.order import first_of
from batchyard_controller.core.world.reasons import explain_waiting
from batchyard_controller.core.world.world import World

from .notices import tell_of_queue
from .progress import Out, Progress

TOLD_AFTER_MS = 60_000
"""How long somebody stands there before it is told to those who follow events (containers-and-gangs 5.2)."""


def cancel_overdue(world: World, now: Instant, out: Out) -> None:
    """
    Look who blocks the head of each queue, tell of those who do for a while, and cancel those who do for too long.

    Of queues that bound it; of the others too while there are sinks, to whom it is told.
    """
    for unit, head in list(_overdue(world, now, out)):
        if unit.is_node or not unit.is_child:
            records.set_cancelled(world, unit.job)
        ending, progress = Ending(trigger=Trigger.TIME_LIMIT_PASSED, words=head.block), Progress(world, now, out)
        if unit.is_node:
            progress.fail_waiting(unit.job, ending)
        else:
            progress.end_unit(unit, ending)


def _overdue(world: World, now: Instant, out: Out) -> Iterator[tuple[Unit, BlockedHead]]:
    before, world.blocked = world.blocked, {}
    for queue in world.queues.values():
        first = first_of(world, queue.name) if queue.state_time_limits or world.sinks else None
        if first is None or first[0].refused_at < 0:
            continue
        line, unit = first
        block = explain_waiting(world, line.shape, queue)[0].block
        if block is None:
            continue  # a cap of its queue or share holds it back: nothing is blocked
        head = before.get(queue.name)
        if head is None or (head.unit_id, head.block) != (unit.id, block):
            head = BlockedHead(unit_id=unit.id, block=block, since_boot_ms=now.boot_ms)
        if not head.is_told and now.boot_ms - head.since_boot_ms >= TOLD_AFTER_MS:
            tell_of_queue(out, queue.name, Happening.BLOCKED, now, block, unit.id)
            head = replace(head, is_told=True)
        world.blocked[queue.name] = head
        if _is_over(queue, head, now):
            yield unit, head


def _is_over(queue: JobQueue, head: BlockedHead, now: Instant) -> bool:
    waited_ms = now.boot_ms - head.since_boot_ms
    return any(t.reason == head.block and waited_ms >= t.max_time_s * 1000 for t in queue.state_time_limits)
