"""Waiting: why a unit is where it is, in sentences, and what stands against placing it."""

from __future__ import annotations

from batchyard.states import JobState
from batchyard_controller.core.jobs.dependencies import child_standing
from batchyard_controller.core.model.settings import ResourceState
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.placement.bounds import CONSUMABLE
from batchyard_controller.core.placement.preemption import PREEMPTION
from batchyard_controller.core.placement.refusals import Refusal
from batchyard_controller.core.world.waiting import explain_waiting, shape_of
from batchyard_controller.core.world.world import World

from . import words
from .causes import ending_cause
from .history import live_attempt


def refusals(world: World, unit: Unit) -> tuple[Refusal, ...]:
    """Return what stands against placing a unit, or the children of an array, now."""
    queue = world.queues.get(unit.job.spec.queue)
    if queue is None:
        return (Refusal(kind="queue", message=f"job queue {unit.job.spec.queue} is gone"),)
    cleared = _cleared_for(world, unit)
    return (*(() if cleared is None else (cleared,)), *explain_waiting(world, shape_of(world, unit), queue))


def _cleared_for(world: World, unit: Unit) -> Refusal | None:
    """Say which host is being cleared for a unit, if one is."""
    found = next((r for r in world.reservations if r.is_cleared and r.is_for(unit.job.id, unit.index)), None)
    if found is None:
        return None
    stopped = sum(attempt.preempted_for == unit.id for attempt in world.attempts.values())
    text = f"host {words.host_name(world, found.host_id)} is kept for it; attempts that are being stopped for it: {stopped}"
    return Refusal(kind=PREEMPTION, message=text)


def status_reason(world: World, unit: Unit) -> str:
    """Return AWS's status reason of a unit, or an array's parent: why it ended, or why its queue stands still."""
    return _blocked_reason(world, unit) if unit.state is JobState.RUNNABLE else words.ending_reason(unit)


def _blocked_reason(world: World, unit: Unit) -> str:
    """Return what a RUNNABLE unit says: nothing unless it is first in its queue and was refused."""
    queue = world.queues.get(unit.job.spec.queue)
    line = world.lines.find(shape_of(world, unit))
    if queue is None or line is None or line.refused_at < 0 or not _is_first(world, unit):
        return ""
    refusal = explain_waiting(world, line.shape, queue)[0]
    block = refusal.block
    if block is not None and refusal.kind == CONSUMABLE:
        return f"{block} - {refusal.message}"  # AWS has no words for it
    enabled = [e for e in world.environments_of(queue) if e.state is ResourceState.ENABLED]
    types = dict.fromkeys(name for e in enabled for name in e.compute_resources.instance_types)
    return words.blocked(block, tuple(types)) if block is not None else ""


def _is_first(world: World, unit: Unit) -> bool:
    first = world.lines.first_of(unit.job.spec.queue)
    return first is not None and first[1].id == unit.id


def waiting_reason(world: World, unit: Unit) -> str:
    """Say in one sentence why a unit, or an array's parent, waits; nothing if it does not."""
    job = unit.job
    match unit.state:
        case JobState.RUNNABLE:
            return "waits for a host: " + "; ".join(r.message for r in refusals(world, unit))
        case JobState.PENDING if job.unmet:
            return f"waits for {job.unmet} of its {len(job.depends_on)} dependencies"
        case JobState.PENDING if unit.is_parent:
            return _array_reason(world, unit)
        case JobState.PENDING if unit.is_child:
            return _child_reason(world, unit)
        case _:
            return ""


def _child_reason(world: World, unit: Unit) -> str:
    others = child_standing(unit.job, unit.child, world.jobs).unmet
    if others:
        return f"waits for {', '.join(f'{other.id} ({other.state})' for other in others)}"
    return f"waits for its turn: at most {unit.job.concurrency} children of the array at once"


def _array_reason(world: World, unit: Unit) -> str:
    counts = unit.job.children.counts
    parts = ", ".join(f"{counts[state]} {state}" for state in JobState if counts.get(state))
    text = f"children: {parts}"
    if counts.get(JobState.RUNNABLE):
        text += "; the next waits for a host: " + "; ".join(r.message for r in refusals(world, unit))
    return text


def waits_for_host(unit: Unit) -> bool:
    """Say whether a unit, or any child of an array, waits for nothing but a host."""
    if unit.is_parent:
        return unit.job.children.count(JobState.RUNNABLE) > 0
    return unit.state is JobState.RUNNABLE


def summary(world: World, unit: Unit) -> str:
    """Say in one sentence where a unit is, and why."""
    state = unit.state
    live = live_attempt(world, unit)
    if live is not None:
        return f"{state.lower()} on host {words.host_name(world, live.host_id)}, attempt {live.number}"
    if state.is_final:
        reason = ending_cause(world, unit)
        return f"ended {state}" + (f": {reason}" if reason else "")
    return waiting_reason(world, unit) or f"is {state}"


def eligible_hosts(world: World, unit: Unit) -> int:
    """Return how many hosts could ever take a unit as far as their kind, runtimes and operators say, and work now."""
    queue = world.queues.get(unit.job.spec.queue)
    if queue is None:
        return 0
    shape = shape_of(world, unit)
    rows: set[int] = set()
    for environment in world.environments_of(queue):
        mask = world.fleet.members(environment, shape.runtime, shape.access) & world.fleet.usable
        rows.update(mask.nonzero()[0].tolist())
    return len(rows)
