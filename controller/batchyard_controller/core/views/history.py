"""
History: what a unit's tries and the requests to stop it add up to, for those who look.

Nothing here changes anything. Of an array parent it is told what its children came to, of
a multi-node job what its main node did.

Source: AWS Batch API reference, JobDetail.
"""

from __future__ import annotations

from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.model.endings import CANCELLATIONS, Trigger
from batchyard_controller.core.model.jobs import JobKind
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.world.world import World


def live_attempt(world: World, unit: Unit) -> Attempt | None:
    """Return a unit's try that goes on, if there is one."""
    return world.live_attempt(unit) if unit.state.is_active else None


def span(world: World, unit: Unit) -> tuple[int, int]:
    """Return when a unit last came to RUNNING and when it ended; one that never ran has neither."""
    if unit.is_parent and unit.job.kind is JobKind.ARRAY:
        started = unit.job.started_at_ms
        return started, unit.job.ended_at_ms if started else 0
    live = live_attempt(world, unit)
    if live is not None:
        return live.started_at_ms, 0
    ended = unit.attempts
    started = next((e.started_at_ms for e in reversed(ended) if e.started_at_ms), 0)
    return started, ended[-1].stopped_at_ms if started and unit.state.is_final else 0


def is_cancelled(unit: Unit) -> bool:
    """Say whether a unit was cancelled; a child that had started when its array was, was not."""
    if unit.is_child:
        return unit.ending is not None and unit.ending.trigger in CANCELLATIONS
    return unit.job.is_cancelled


def is_terminated(unit: Unit) -> bool:
    """Say whether someone asked to stop a unit; a child that had ended when its array was, was not."""
    by_array = unit.ending is not None and unit.ending.trigger is Trigger.TERMINATED
    return bool(unit.terminate_reason) or by_array
