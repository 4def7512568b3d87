"""
Parts: how each of several containers of an attempt is, and what it waits for.

What its host told of it last is all that is known; whoever waits, and for what, follows from
that and from what the task says.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from batchyard.tasks import Condition, ContainerDependency, ContainerEnd, Task
from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.world.world import World

_WAITED = {
    Condition.START: "to be started",
    Condition.COMPLETE: "to end",
    Condition.SUCCESS: "to end with exit code 0",
}


class PartState(StrEnum):
    """Where a container is."""

    UNKNOWN = "UNSPECIFIED"
    """Its agent has not told, or is too old to tell before the end."""
    WAITING = "WAITING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    ENDED = "ENDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """
    One of several containers of an attempt.

    Attributes:
        end: How it is, or ended; of one of which nothing is known its name alone.
        waits_for: What is not so yet, while it waits.
    """

    end: ContainerEnd
    state: PartState
    waits_for: tuple[ContainerDependency, ...] = ()


def live_parts(world: World, task: Task, attempt: Attempt) -> list[Part]:
    """Return all containers of an attempt that has not ended, in their order; none of a plain task."""
    told = world.hosts[attempt.host_id].containers.get(attempt.id, ())
    found = _ordered(task, told)
    if not told:
        return [Part(end=end, state=PartState.UNKNOWN) for end in found.values()]
    waits = {
        container.shown_name: tuple(d for d in container.depends_on if not d.is_met_by(found[d.container]))
        for container in task.all_containers
    }
    return [_living(end, waits[name]) for name, end in found.items()]


def ended_parts(task: Task, ends: tuple[ContainerEnd, ...]) -> list[Part]:
    """Return all containers of an attempt that is over; of all or of none it is known how they ended."""
    state = PartState.ENDED if ends else PartState.UNKNOWN
    return [Part(end=end, state=state) for end in _ordered(task, ends).values()]


def parts_waiting(world: World, task: Task, attempt: Attempt) -> str:
    """Say which containers of an attempt wait for what; nothing if none does."""
    return "; ".join(
        f"container {part.end.name} waits for {' and for '.join(map(_waited, part.waits_for))}"
        for part in live_parts(world, task, attempt)
        if part.waits_for
    )


def _living(end: ContainerEnd, waits_for: tuple[ContainerDependency, ...]) -> Part:
    if end.stopped_at_ms or end.exit_code is not None or end.reason:
        return Part(end=end, state=PartState.ENDED)
    if end.started_at_ms:
        return Part(end=end, state=PartState.RUNNING)
    if waits_for:
        return Part(end=end, state=PartState.WAITING, waits_for=waits_for)
    return Part(end=end, state=PartState.STARTING)


def _waited(dependency: ContainerDependency) -> str:
    return f"{dependency.container} {_WAITED[dependency.condition]}"


def _ordered(task: Task, told: tuple[ContainerEnd, ...]) -> dict[str, ContainerEnd]:
    if task.is_plain:
        return {}
    known = {end.name: end for end in told}
    names = [container.shown_name for container in task.all_containers]
    return {name: known.get(name, ContainerEnd(name=name)) for name in names}
