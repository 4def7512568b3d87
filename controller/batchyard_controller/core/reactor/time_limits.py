"""
Time limits: who has been first in line and unplaced for longer than the queue allows.

Follows from the lines and from what the last plan said of them; nothing of it is
stored, so a new leader counts the time afresh. Who is overdue is cancelled like any
other job.

Source: AWS Batch User Guide, "Job state time limit actions".
"""

from __future__ import annotations

from batchyard_controller.core.events import JobCancelled
from batchyard_controller.core.jobs import ends
from batchyard_controller.core.model.jobs import BlockedHead
from batchyard_controller.core.model.settings import JobQueue
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World


def overdue(world: World, now: Instant) -> list[JobCancelled]:
    """Look who blocks the head of each queue that bounds it; return the cancellations that are due."""
    before, world.blocked = world.blocked, {}
    due: list[JobCancelled] = []
    for queue in world.queues.values():
        found = _blocked_head(world, queue, before.get(queue.name), now) if queue.state_time_limits else None
        if found is None:
            continue
        world.blocked[queue.name] = found
        waited_ms = now.boot_ms - found.since_boot_ms
        if any(t.reason == found.code and waited_ms >= t.max_time_s * 1000 for t in queue.state_time_limits):
            reason = ends.time_limit_passed(found.code)
            due.append(JobCancelled(job_id=found.job_id, index=found.index, reason=reason))
    return due


def _blocked_head(world: World, queue: JobQueue, before: BlockedHead | None, now: Instant) -> BlockedHead | None:
    """Return who blocks a queue now, since *before* if that was the same one for the same reason."""
    first = world.lines.first_of(queue.name)
    if first is None or not first[0].refusals:
        return None
    line, (job, index) = first
    code = line.refusals[0].blocked.partition(" - ")[0]
    if before is not None and (before.job_id, before.index, before.code) == (job.id, index, code):
        return before
    return BlockedHead(job_id=job.id, index=index, code=code, since_boot_ms=now.boot_ms)
