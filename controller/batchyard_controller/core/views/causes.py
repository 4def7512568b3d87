"""
Causes: what it was that ended a unit, the deciding fact first.

AWS's status reasons say "Task failed to start" and "Dependent Job failed" whatever the
cause; here an attempt's own reason comes first, and of a dependency which job it was,
and why that failed.
"""

from __future__ import annotations

from batchyard.ids import JobId
from batchyard.states import JobState
from batchyard_controller.core.model.dependencies import DependencyType
from batchyard_controller.core.model.endings import BY_ATTEMPT, Trigger
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.world.world import World

from . import words

_LINKS_MAX = 10_000
"""Of a longer chain one in its midst is named."""


def ending_cause(world: World, unit: Unit) -> str:
    """Return what ended a unit, or an array's parent; nothing if it has not ended."""
    ending = unit.ending
    if ending is None:
        return ""
    if ending.trigger is Trigger.CHILDREN_ENDED:
        children, first = unit.job.children, _first_failed(unit)
        why = _with_code(ending_cause(world, first), first)
        return f"{children.count(JobState.FAILED)} of {children.size} children failed, the first {first.child}: {why}"
    named = _waited_for(world, unit)
    if named is None:
        return _own_words(unit)
    origin = _origin(world, named)
    between = "" if origin.id == named.id else f", because of {origin.id}"
    return f"{words.DEPENDENCY_FAILED}: {named.id}{between}: {_with_code(_own_words(origin), origin)}"


def _own_words(unit: Unit) -> str:
    """Return what its last attempt says of itself, or whoever ended it."""
    assert unit.ending is not None, f"{unit.id} has not ended"
    own = unit.attempts[-1].reason if unit.ending.trigger in BY_ATTEMPT else ""
    return own or words.ending_reason(unit)


def _with_code(cause: str, unit: Unit) -> str:
    """Add the exit code, which of another unit stands nowhere else."""
    code = unit.attempts[-1].exit_code if unit.attempts else None
    return f"{cause}, exit code {code}" if code else cause


def _origin(world: World, unit: Unit) -> Unit:
    """Follow from dependency to dependency, and from arrays to their children, to where it began."""
    for _ in range(_LINKS_MAX):
        is_array = unit.ending is not None and unit.ending.trigger is Trigger.CHILDREN_ENDED
        before = _first_failed(unit) if is_array else _waited_for(world, unit)
        if before is None:
            break
        unit = before
    return unit


def _first_failed(parent: Unit) -> Unit:
    return Unit(parent.job, next(parent.job.children.indices(frozenset({JobState.FAILED}))))


def _waited_for(world: World, unit: Unit) -> Unit | None:
    """Return the job or child whose failure ended a unit; None if something else did, or it is forgotten."""
    ending = unit.ending
    if ending is None or ending.trigger is not Trigger.DEPENDENCY_FAILED or ending.waited_for is None:
        return None
    match ending.waited_for.type:
        case DependencyType.AFTER_FAILURE:
            return None
        case DependencyType.SEQUENTIAL:
            first = _first_failed(unit)
            return None if first.index == unit.index else first
        case DependencyType.N_TO_N:
            return world.find_unit(JobId(ending.waited_for.job_id), unit.index)
        case _:
            return world.find_unit(JobId(ending.waited_for.job_id), None)
