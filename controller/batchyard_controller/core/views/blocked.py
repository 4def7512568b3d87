"""
Blocked queues, in AWS's words: what the first in line says while it cannot be placed.

Source: AWS Batch User Guide, "Jobs stuck in a RUNNABLE status".
"""

from __future__ import annotations

from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.world.world import World, shape_of


def status_reason(world: World, job: Job, index: int | None) -> str:
    """Return AWS's status reason of a RUNNABLE unit: empty unless it is first in its queue and was refused."""
    line = world.lines.find(shape_of(job))
    first = world.lines.first_of(job.spec.queue)
    if line is None or first is None or first[0] is not line or first[1][0] is not job or first[1][1] != index:
        return ""
    return line.refusals[0].blocked if line.refusals else ""
