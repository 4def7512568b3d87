"""
Blocked queues: who is first in line and was not placed, why, and for how long.

Follows from the lines and from what the last plan said of them; nothing of it is
stored, so a new leader counts the time afresh. Who has been first for longer than
its queue allows is named here, and cancelled like any other job by the reactor.

Source: AWS Batch User Guide, "Jobs stuck in a RUNNABLE status", "Job state time
limit actions".
"""

from __future__ import annotations

from . import reasons
from .events import JobCancelled
from .model import BlockedHead, Instant, Job, JobQueue
from .ordering import Line, Unit
from .world import World, shape_of


def status_reason(world: World, job: Job, index: int | None) -> str:
    """Return AWS's status reason of a RUNNABLE unit: empty unless it is first in its queue and was refused."""
    line = world.lines.find(shape_of(job))
    head = line.head() if line is not None else None
    if line is None or head is None or head[0] is not job or head[1] != index:
        return ""
    others = (other.head() for other in world.lines.of_queue(job.spec.queue))
    if any(other is not None and _place(other) < _place(head) for other in others):
        return ""
    return _reason(line)


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
            reason = reasons.time_limit_passed(found.code)
            due.append(JobCancelled(job_id=found.job_id, index=found.index, reason=reason))
    return due


def _blocked_head(world: World, queue: JobQueue, before: BlockedHead | None, now: Instant) -> BlockedHead | None:
    """Return who blocks a queue now, since *before* if that was the same one for the same reason."""
    heads = [(head, line) for line in world.lines.of_queue(queue.name) if (head := line.head()) is not None]
    if not heads:
        return None
    (job, index), line = min(heads, key=lambda pair: _place(pair[0]))
    code = _reason(line).partition(" - ")[0]
    if not code:
        return None
    if before is not None and (before.job_id, before.index, before.code) == (job.id, index, code):
        return before
    return BlockedHead(job_id=job.id, index=index, code=code, since_boot_ms=now.boot_ms)


def _place(unit: Unit) -> tuple[int, int]:
    """Return where a unit stands in the order of its queue."""
    job, index = unit
    return job.seq, index or 0


def _reason(line: Line) -> str:
    """Return what the last plan said of the first in line; empty if there was none yet."""
    return line.refusals[0].blocked if line.refusals else ""
