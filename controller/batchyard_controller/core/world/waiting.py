"""
Waiting: how units take and leave their place in line.

Laws: exactly the RUNNABLE units stand in line, each once, but for those of jobs that are held after a restore. While a host lacks an image,
all who wait with that image stand apart from others of their shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from batchyard.ids import HostId
from batchyard.resources import Resources
from batchyard.security import SecurityLevel
from batchyard.states import EndCause, JobState
from batchyard_controller.core import limits
from batchyard_controller.core.model.attempts import Attempt, EndedAttempt
from batchyard_controller.core.model.children import runs_of
from batchyard_controller.core.model.jobs import Job, JobKind, JobSpec
from batchyard_controller.core.model.nodes import Nodes, Spread
from batchyard_controller.core.model.units import Unit, units_of
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.feasibility import Access, access_of
from batchyard_controller.core.placement.line import NOBODY, Part, Shape
from batchyard_controller.core.placement.room import takers

from .world import World

_SHAPES_KEPT = 4096


def shape_of(world: World, unit: Unit) -> Shape:
    """Return what placement asks of a unit, of all nodes together, or of the children of an array of which nothing was tried."""
    spec, unit = unit.job.spec, unit.main
    if unit.next_number > 1 or unit.job.id in world.apart:
        return _shape_of(world, unit)
    queue, known = world.queues.get(spec.queue), world.shapes.get(id(spec))
    if known is None or known[0] is not spec or known[1] is not queue:
        if len(world.shapes) >= _SHAPES_KEPT:
            world.shapes.clear()
        known = world.shapes[id(spec)] = spec, queue, _shape_of(world, unit)
    return known[2]


def _shape_of(world: World, unit: Unit) -> Shape:
    task = unit.task
    image = task.images if unit.job.id in world.apart else ""
    doubts = NOBODY
    if unit.next_number > 1:
        doubts = frozenset(HostId(e.host_id) for e in _tries(unit) if e.cause is EndCause.HOST_ERROR)
    spec = unit.job.spec
    share, priority = rank_of(world, spec)
    level = world.level_of(spec)
    return Shape(
        spec.queue,
        spec.resources,
        task.runtime,
        access_of(task, spec.platform_capabilities, level),
        image,
        doubts,
        share,
        priority,
        spec.definition,
        spec.timeout_s,
        spec.consumables,
        _is_for_on_demand(unit),
        ()
        if spec.nodes is None
        else _parts(spec.nodes, spec.platform_capabilities, level, is_apart=unit.job.id in world.apart),
        spec.nodes is not None and spec.nodes.spread is Spread.HOSTS,
    )


def _parts(nodes: Nodes, platforms: tuple[str, ...], level: SecurityLevel, *, is_apart: bool) -> tuple[Part, ...]:
    """Return what the nodes of a job ask of a host each, those together that ask the same."""
    runs: dict[tuple[Resources, str, Access, str], list[tuple[int, int]]] = {}
    for group in nodes.groups:
        task = group.task
        asked = task.resources, task.runtime, access_of(task, platforms, level), task.images if is_apart else ""
        runs.setdefault(asked, []).append((group.start, group.stop))
    return tuple(Part(tuple(of_part), *asked) for asked, of_part in runs.items())


def _tries(unit: Unit) -> Iterator[EndedAttempt]:
    """Yield the tries of a unit that are over, of nodes those of all."""
    return (ended for each in (units_of(unit.job) if unit.is_node else (unit,)) for ended in each.attempts)


def _is_for_on_demand(unit: Unit) -> bool:
    """Say whether so many tries of a unit were reclaimed with their hosts that it goes to on-demand ones."""
    spot_attempts = unit.job.spec.retry.spot_attempts
    if not spot_attempts or unit.next_number <= spot_attempts:
        return False
    return sum(ended.cause is EndCause.RECLAIMED for ended in unit.attempts) >= spot_attempts


def rank_of(world: World, spec: JobSpec) -> tuple[str, int]:
    """Return share and scheduling priority, which count only where the queue has a policy (AWS)."""
    queue = world.queues.get(spec.queue)
    if queue is None or not queue.scheduling_policy:
        return "", 0
    return spec.share_identifier, spec.scheduling_priority or 0


def has_other_taker(world: World, unit: Unit, attempt: Attempt, now: Instant) -> bool:
    """
    Say whether a host could take a unit that has not failed to get its image, as *attempt*'s has.

    Hosts that were heard of a moment ago count, as does each when a leader begins.
    """
    queue = world.queues.get(unit.job.spec.queue)
    if queue is None:
        return False
    failed = {HostId(e.host_id) for e in unit.attempts if e.cause is EndCause.IMAGE_UNAVAILABLE}
    avoided = failed | world.fleet.lacking.get(unit.task.images, set()) | {attempt.host_id}
    returning = [
        host.record.id
        for host in world.hosts.values()
        if not host.is_reachable
        and not host.record.cordoned
        and not host.record.reclaimed_at_ms
        and not host.is_silent(now, limits.CONTACT_LIMIT_MS)
    ]
    shape, environments = shape_of(world, unit).of_one(unit.index), world.environments_of(queue)
    return bool(takers(world.fleet, shape, environments, avoided, returning).any())


def stand_apart(world: World, image: str) -> None:
    """Let all who wait with an image stand in lines of its own, as a host lacks it from now on."""
    lines = [line for queue in world.queues for line in world.lines.of_queue(queue) if not line.shape.image]
    for job in [job for line in lines for job in line.jobs() if _has_image(job, image)]:
        if job.id not in world.apart:
            _leave_all(world, job)
            world.apart.add(job.id)
            _await_all(world, job)


def _has_image(job: Job, image: str) -> bool:
    return any(task.images == image for task in job.spec.tasks)


def change_place(world: World, job: Job, change: Callable[[], None]) -> None:
    """Change what decides where a job, or its children, stand in line, and let those who wait take their new place."""
    waits = job.state is JobState.RUNNABLE or bool(job.size)
    if waits:
        _leave_all(world, job)
    change()
    if waits:
        _await_all(world, job)


def change_queue(world: World, name: str, change: Callable[[], None]) -> None:
    """Change what decides where the jobs of a queue stand in line, and let those who wait take their new place."""
    jobs = list({job.id: job for line in world.lines.of_queue(name) for job in line.jobs()}.values())
    for job in jobs:
        _leave_all(world, job)
    change()
    for job in jobs:
        _await_all(world, job)


def _leave_all(world: World, job: Job) -> None:
    if not job.size:
        leave_line(world, Unit(job))
        return
    for index in _tried(job):
        leave_line(world, Unit(job, index))
    leave_lines(world, job, list(job.children.runs(JobState.RUNNABLE)))


def _await_all(world: World, job: Job) -> None:
    if job.size:
        await_hosts(world, job)
    else:
        await_host(world, Unit(job))


def _tried(job: Job) -> list[int]:
    """Return the children in line of which a try has ended: what failed them may be avoided."""
    if job.kind is JobKind.NODES:
        return []  # they go as one
    return [index for index in job.children.tried() if job.children.state(index) is JobState.RUNNABLE]


def is_held(world: World, job: Job) -> bool:
    """Say whether a job takes no place in line yet, as after a restore it may run on a host that has not said so."""
    return job.seq <= world.adoption.last_seq


def await_all(world: World, job: Job) -> None:
    """Let all of a job that waits for hosts take its place in line."""
    if job.size or job.state is JobState.RUNNABLE:
        _await_all(world, job)


def await_host(world: World, unit: Unit) -> None:
    """Let a runnable unit take its place in line."""
    if is_held(world, unit.job):
        return
    _note_apart(world, unit.job)
    place = unit.index or 0
    world.lines.push(shape_of(world, unit), unit.job, place, place + 1)
    world.wants_plan = True


def await_hosts(world: World, job: Job) -> None:
    """Let all runnable children of an array, or all nodes, take their place in line; some may have been tried before."""
    if is_held(world, job):
        return
    _note_apart(world, job)
    tried = _tried(job)
    for index in tried:
        await_host(world, Unit(job, index))
    for start, stop in job.children.runs(JobState.RUNNABLE):
        edges = [start - 1, *(index for index in tried if start <= index < stop), stop]
        for before, after in pairwise(edges):
            if before + 1 < after:
                world.lines.push(shape_of(world, Unit(job)), job, before + 1, after)
        world.wants_plan = True


def _note_apart(world: World, job: Job) -> None:
    if world.fleet.lacking and any(task.images in world.fleet.lacking for task in job.spec.tasks):
        world.apart.add(job.id)


def leave_line(world: World, unit: Unit, others: Sequence[int] = ()) -> None:
    """Let a unit wait no longer, nor *others* of its array, if none of all these was ever tried."""
    job = unit.job
    if is_held(world, job):
        return
    shape = shape_of(world, unit)
    for start, stop in runs_of((unit.index or 0, *others)):
        _give_up_promise(world, job, start, stop)
        world.lines.remove(shape, job, start, stop)


def leave_lines(world: World, job: Job, runs: list[tuple[int, int]]) -> None:
    """Let those of runs of children, [first, stop) each, wait no longer of which none was ever tried."""
    if is_held(world, job):
        return
    for start, stop in runs:
        _give_up_promise(world, job, start, stop)
        world.lines.remove(shape_of(world, Unit(job)), job, start, stop)


def _give_up_promise(world: World, job: Job, start: int, stop: int) -> None:
    """Let those try again who were turned away from a host that was promised to one of [start, stop) of a job."""
    given_up = [r for r in world.reservations if r.job_id == job.id and start <= (r.index or 0) < stop]
    if not given_up:
        return
    if any(reservation.turns_away for reservation in given_up):
        world.fleet.grown += 1
        world.wants_plan = True
    if any(reservation.is_cleared for reservation in given_up):
        world.reservations = tuple(r for r in world.reservations if not r.is_cleared or r not in given_up)
