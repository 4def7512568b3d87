"""
Waiting: how units take and leave their place in line.

Law: exactly the RUNNABLE units stand in line, each once.
"""

from __future__ import annotations

from itertools import pairwise

from batchyard.ids import HostId
from batchyard.states import EndCause, JobState
from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.placement.feasibility import access_of
from batchyard_controller.core.placement.lines import NOTHING_AVOIDED, Shape
from batchyard_controller.core.placement.sketch import takers

from .world import World


def shape_of(unit: Unit) -> Shape:
    """Return what placement asks of a unit, or of the children of an array of which nothing was tried."""
    task = unit.task
    avoids = doubts = NOTHING_AVOIDED
    if unit.next_number > 1:
        avoids = frozenset(HostId(e.host_id) for e in unit.attempts if e.cause is EndCause.IMAGE_UNAVAILABLE)
        doubts = frozenset(HostId(e.host_id) for e in unit.attempts if e.cause is EndCause.HOST_ERROR)
    return Shape(unit.job.spec.queue, task.resources, task.runtime, access_of(task), avoids, doubts)


def has_other_taker(world: World, unit: Unit, attempt: Attempt) -> bool:
    """Say whether a host gets work now or soon and could take a unit, but those that could not get its image, as *attempt*'s."""
    queue = world.queues.get(unit.job.spec.queue)
    if queue is None:
        return False
    shape, environments = shape_of(unit), world.environments_of(queue)
    return bool(takers(world.fleet, shape, environments, shape.avoids | {attempt.host_id}).any())


def await_host(world: World, unit: Unit) -> None:
    """Let a runnable unit take its place in line."""
    place = unit.index or 0
    world.lines.push(shape_of(unit), unit.job, place, place + 1)
    world.wants_plan = True


def await_hosts(world: World, job: Job) -> None:
    """Let all runnable children of an array take their place in line; after a restart some may have failed before."""
    tried = [index for index in job.children.tried() if job.children.state(index) is JobState.RUNNABLE]
    for index in tried:
        await_host(world, Unit(job, index))
    for start, stop in job.children.runs(JobState.RUNNABLE):
        edges = [start - 1, *(index for index in tried if start <= index < stop), stop]
        for before, after in pairwise(edges):
            if before + 1 < after:
                world.lines.push(shape_of(Unit(job)), job, before + 1, after)
        world.wants_plan = True


def leave_line(world: World, unit: Unit) -> None:
    """Let a unit wait no longer."""
    place = unit.index or 0
    world.lines.remove(shape_of(unit), unit.job, place, place + 1)


def leave_lines(world: World, job: Job, runs: list[tuple[int, int]]) -> None:
    """Let runs of children, [first, stop) each, of which none was ever tried, wait no longer."""
    for start, stop in runs:
        world.lines.remove(shape_of(Unit(job)), job, start, stop)
