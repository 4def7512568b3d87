"""
Tenancy: who holds what, and for how long, as plans reckon with it.

All of it follows from attempts, those that are live and those that are over. Law: a
restored world predicts and shares by the runs that are retained, as the one before it did.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from batchyard.states import EndCause, JobState
from batchyard_controller.core.model.attempts import Attempt, EndedAttempt
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.settings import JobQueue
from batchyard_controller.core.model.units import Unit, unit_at
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.run_times import RUNS_KEPT, remembered
from batchyard_controller.core.placement.situation import Situation
from batchyard_controller.core.placement.tenants import OUTRUN_MS, Stay

from .occupancy import Occupancy
from .waiting import is_held, shape_of
from .world import World

_OF_ITSELF = (EndCause.EXITED, EndCause.TIMED_OUT, EndCause.OUT_OF_MEMORY)


def situation(world: World) -> Situation:
    """Return all that a plan is made from."""
    return Situation(
        lines=world.lines,
        queues=world.queues,
        environments=world.environments,
        policies=world.policies,
        shares=world.shares,
        rankings=world.rankings,
        tenants=world.tenants,
        occupants=Occupancy(world).on,
        hosts_of=lambda queue: world.occupied.get(queue, ()),
        reservations=world.reservations,
    )


def enter(world: World, unit: Unit, attempts: Sequence[Attempt], stay: Stay | None, now: Instant) -> None:
    """Let attempts of a unit, or of it and others that ask the same, hold their host; *stay* is reckoned if a plan has not."""
    stay = stay or world.lines.due_times.stay(shape_of(world, unit))
    for attempt in attempts:
        came_ms = _boot_ms(attempt.claimed_at_ms, now)
        began_ms = _boot_ms(attempt.started_at_ms, now) if attempt.started_at_ms else None
        world.tenants.enter(attempt, unit.task.resources, stay, came_ms, began_ms)


def begin(world: World, attempt: Attempt, now: Instant) -> None:
    """Note that an attempt has started."""
    world.tenants.begin(attempt.id, attempt.host_id, _boot_ms(attempt.started_at_ms, now))


def _boot_ms(wall_ms: int, now: Instant) -> int:
    """Return when something was in boot time, as far as the wall clock tells; no later than now."""
    return now.boot_ms - max(0, now.wall_ms - wall_ms)


def recall_cleared(world: World, now: Instant) -> None:
    """Promise hosts again on which attempts are stopped so that others can start there."""
    for attempt in world.attempts.values():
        unit = world.find(attempt.preempted_for) if attempt.preempted_for else None
        if unit is None or unit.state is not JobState.RUNNABLE or is_held(world, unit.job):
            continue
        shape, unit = shape_of(world, unit), unit_at(unit.job, 0) if unit.is_parent else unit  # nodes wait as one
        queue, row = world.queues[shape.queue], world.fleet.rows[attempt.host_id]
        known = [each for each in world.reservations if each.is_for(unit.job.id, unit.index)]
        if known and not (shape.parts and all(each.host_id != attempt.host_id for each in known)):
            continue
        for environment in world.environments_of(queue):
            if world.fleet.members(environment, shape.runtime, shape.access)[row]:
                starts_ms = now.boot_ms + OUTRUN_MS
                promise = situation(world).promise(shape, unit, environment.name, attempt.host_id, starts_ms, now)
                world.reservations = (*world.reservations, replace(promise, is_cleared=True))
                break


def _has_shares(world: World, queue_name: str) -> bool:
    queue = world.queues.get(queue_name)
    return queue is not None and bool(queue.scheduling_policy) and not world.has_quota_shares(queue)


def hold(world: World, unit: Unit, now: Instant, number: int = 1) -> None:
    """Let a unit's share hold what so many as it ask from now on, or hold it no more (less than 0)."""
    spec = unit.job.spec
    if _has_shares(world, spec.queue):
        cpu_millis = number * unit.task.resources.cpu_millis
        is_new = world.shares.hold(spec.queue, spec.share_identifier, cpu_millis, number, now.boot_ms)
        if is_new:  # the more are active, the less is kept from them
            world.lines.lets_go = True


def hold_rest(world: World, queue: JobQueue, now: Instant) -> None:
    """Let the shares of a new queue hold what is left of the jobs of a deleted one of its name."""
    for attempt in world.attempts.values():
        unit = world.unit_of(attempt)
        if unit.job.spec.queue == queue.name:
            hold(world, unit, now)


def note_runs(world: World, unit: Unit, ends: Iterable[EndedAttempt]) -> None:
    """Remember how long a unit ran, or it and others of its array, unless somebody or their host cut them short."""
    if unit.is_node and not unit.leads:
        return
    spec, run_times = unit.job.spec, world.lines.due_times.run_times
    run = remembered(spec.queue, spec.share_identifier, spec.definition, spec.resources, spec.timeout_s)
    for ended in ends:
        if ended.started_at_ms and ended.cause in _OF_ITSELF:
            run_times.note(run, max(0, ended.stopped_at_ms - ended.started_at_ms))


def recall(world: World, now: Instant) -> None:
    """Remember what the retained jobs tell of run times and shares, oldest first."""
    past = [pair for job in world.jobs.values() for pair in _past(world, job)]
    past.sort(key=lambda pair: pair[1].stopped_at_ms)
    for unit, ended in past:
        note_runs(world, unit, (ended,))
    for queue in world.queues.values():
        policy = world.policies.get(queue.scheduling_policy)
        if policy is not None and policy.quota_share is None:
            run_ms = world.lines.due_times.mean_ms(queue.name)
            shares = world.named.shares.get(queue.name, ())
            world.shares.set_window(queue.name, policy.fairshare, shares, run_ms, now.boot_ms)
    for unit, ended in past:
        _note_use(world, unit, ended.claimed_at_ms, ended.stopped_at_ms, now)
    for attempt in world.attempts.values():
        _note_use(world, world.unit_of(attempt), attempt.claimed_at_ms, now.wall_ms, now)


def _past(world: World, job: Job) -> Iterator[tuple[Unit, EndedAttempt]]:
    """Yield the tries of a job that are over; of an array those of its last children, unless its queue has shares."""
    if not job.size:
        yield from ((Unit(job), ended) for ended in job.attempts)
        return
    most = None if _has_shares(world, job.spec.queue) else RUNS_KEPT
    for index in islice(job.children.tried_last(), most):
        yield from ((Unit(job, index), ended) for ended in job.children.attempts(index))


def _note_use(world: World, unit: Unit, began_ms: int, ended_ms: int, now: Instant) -> None:
    """Take in what a unit's share held between two moments (wall clock)."""
    spec = unit.job.spec
    if _has_shares(world, spec.queue):
        over_ms = _boot_ms(ended_ms, now)
        cpu_millis, ran_ms = unit.task.resources.cpu_millis, max(0, ended_ms - began_ms)
        world.shares.note_past(spec.queue, spec.share_identifier, cpu_millis, ran_ms, over_ms, now.boot_ms)
