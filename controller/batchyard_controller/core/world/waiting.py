"""
Waiting: how units take and leave their place in line.

Law: exactly the RUNNABLE units stand in line, each once.
"""

from __future__ import annotations

from batchyard.states import JobState
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.placement.feasibility import access_of
from batchyard_controller.core.placement.lines import Shape

from .world import World


def shape_of(job: Job) -> Shape:
    """Return what placement asks of each unit of a job."""
    task = job.spec.task
    return Shape(job.spec.queue, task.resources, task.runtime, access_of(task))


def await_host(world: World, unit: Unit) -> None:
    """Let a runnable unit take its place in line."""
    place = unit.index or 0
    world.lines.push(shape_of(unit.job), unit.job, place, place + 1)
    world.wants_plan = True


def await_hosts(world: World, job: Job) -> None:
    """Let all runnable children of an array take their place in line."""
    for start, stop in job.children.runs(JobState.RUNNABLE):
        world.lines.push(shape_of(job), job, start, stop)
        world.wants_plan = True


def leave_line(world: World, unit: Unit) -> None:
    """Let a unit wait no longer."""
    place = unit.index or 0
    world.lines.remove(shape_of(unit.job), unit.job, place, place + 1)


def leave_lines(world: World, job: Job, runs: list[tuple[int, int]]) -> None:
    """Let runs of children, [first, stop) each, wait no longer."""
    for start, stop in runs:
        world.lines.remove(shape_of(job), job, start, stop)
