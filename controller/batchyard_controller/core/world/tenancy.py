"""
Tenancy: who holds what, and for how long, as plans reckon with it.

All of it follows from attempts, those that are live and those that are over. Law: a
restored world predicts and shares by the runs that are retained, as the one before it did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from batchyard.ids import HostId, split_job_id
from batchyard.states import EndCause, JobState
from batchyard_controller.core import limits
from batchyard_controller.core.model.attempts import Attempt, EndedAttempt
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.policies import FairsharePolicy
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.due_times import run_of
from batchyard_controller.core.placement.preemption import Occupant
from batchyard_controller.core.placement.reservations import OUTRUN_MS, Tenant, end_of
from batchyard_controller.core.placement.run_times import RUNS_KEPT
from batchyard_controller.core.placement.situation import Situation

from .waiting import rank_of, shape_of
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
        host_tenants=lambda name, now: [
            _tenant(world, attempt, now) for attempt in world.hosts[HostId(name)].attempts.values()
        ],
        environment_tenants=lambda name, now: [
            _tenant(world, attempt, now) for attempt in world.attempts.values() if attempt.compute_environment == name
        ],
        occupants=lambda name: [_occupant(world, attempt) for attempt in world.hosts[HostId(name)].attempts.values()],
        hosts_of=lambda queue: world.occupied.get(queue, ()),
        reservations=world.reservations,
    )


def _tenant(world: World, attempt: Attempt, now: Instant) -> Tenant:
    unit = world.unit_of(attempt)
    expected_ms = world.lines.due_times.expected_ms(shape_of(world, unit))
    elapsed_ms = max(0, now.wall_ms - attempt.started_at_ms) if attempt.started_at_ms else 0
    is_bound = bool(unit.job.spec.timeout_s)
    ends_ms = end_of(now.boot_ms - elapsed_ms, expected_ms, is_bound, now.boot_ms)
    if attempt.is_stopping:
        ends_ms = min(ends_ms, now.boot_ms + OUTRUN_MS)
    return Tenant(ends_ms, unit.task.resources, attempt.gpus, attempt.compute_environment)


def _occupant(world: World, attempt: Attempt) -> Occupant:
    unit = world.unit_of(attempt)
    share, priority = rank_of(world, unit.job.spec)
    preemptions = 0
    if attempt.number > limits.PREEMPTIONS_MAX:
        preemptions = sum(ended.cause is EndCause.PREEMPTED for ended in unit.attempts)
    return Occupant(
        attempt.id,
        unit.job.spec.queue,
        share,
        priority,
        attempt.claimed_at_ms,
        unit.task.resources,
        attempt.gpus,
        attempt.compute_environment,
        attempt.is_stopping,
        preemptions,
    )


def occupy(world: World, unit: Unit, attempt: Attempt, sign: int = 1) -> None:
    """Count an attempt among those of its queue on its host, or no longer (-1)."""
    hosts = world.occupied.setdefault(unit.job.spec.queue, Counter())
    hosts[attempt.host_id] += sign
    if not hosts[attempt.host_id]:
        del hosts[attempt.host_id]
    if not hosts:
        del world.occupied[unit.job.spec.queue]


def recall_cleared(world: World, now: Instant) -> None:
    """Promise hosts again on which attempts are stopped so that others can start there."""
    for attempt in world.attempts.values():
        unit = world.find_unit(*split_job_id(attempt.preempted_for)) if attempt.preempted_for else None
        if unit is None or unit.state is not JobState.RUNNABLE:
            continue
        shape = shape_of(world, unit)
        queue, row = world.queues[shape.queue], world.fleet.rows[attempt.host_id]
        if any(each.is_for(unit.job.id, unit.index) for each in world.reservations):
            continue
        for environment in world.environments_of(queue):
            if world.fleet.members(environment, shape.runtime, shape.access)[row]:
                starts_ms = now.boot_ms + OUTRUN_MS
                promise = situation(world).promise(shape, unit, environment.name, attempt.host_id, starts_ms, now)
                world.reservations = (*world.reservations, replace(promise, is_cleared=True))
                break


def policy_of(world: World, queue_name: str) -> FairsharePolicy | None:
    """Return by which policy the shares of a queue take turns; None if they do not."""
    queue = world.queues.get(queue_name)
    policy = world.policies.get(queue.scheduling_policy) if queue is not None else None
    return policy.fairshare if policy is not None else None


def hold(world: World, unit: Unit, now: Instant, sign: int = 1) -> None:
    """Let a unit's share hold what it asks from now on, or hold it no more (-1)."""
    spec = unit.job.spec
    policy = policy_of(world, spec.queue)
    if policy is not None:
        cpu_millis = sign * spec.task.resources.cpu_millis
        world.shares.hold(spec.queue, spec.share_identifier, policy, cpu_millis, now.boot_ms)


def note_run(world: World, unit: Unit, ended: EndedAttempt) -> None:
    """Remember how long a unit ran, unless somebody or its host cut it short."""
    if ended.started_at_ms and ended.cause in _OF_ITSELF:
        took_ms = max(0, ended.stopped_at_ms - ended.started_at_ms)
        world.lines.due_times.run_times.note(run_of(shape_of(world, unit)), took_ms)


def recall(world: World, now: Instant) -> None:
    """Remember what the retained jobs tell of run times and shares, oldest first."""
    past = [pair for job in world.jobs.values() for pair in _past(world, job)]
    for unit, ended in sorted(past, key=lambda pair: pair[1].stopped_at_ms):
        note_run(world, unit, ended)
        _note_use(world, unit, ended.claimed_at_ms, ended.stopped_at_ms, now)
    for attempt in world.attempts.values():
        _note_use(world, world.unit_of(attempt), attempt.claimed_at_ms, now.wall_ms, now)


def _past(world: World, job: Job) -> Iterator[tuple[Unit, EndedAttempt]]:
    """Yield the tries of a job that are over; of an array those of its last children, unless its queue has shares."""
    if not job.size:
        yield from ((Unit(job), ended) for ended in job.attempts)
        return
    most = None if policy_of(world, job.spec.queue) is not None else RUNS_KEPT
    for index in islice(job.children.tried_last(), most):
        yield from ((Unit(job, index), ended) for ended in job.children.attempts(index))


def _note_use(world: World, unit: Unit, began_ms: int, ended_ms: int, now: Instant) -> None:
    """Take in what a unit's share held between two moments (wall clock)."""
    spec = unit.job.spec
    policy = policy_of(world, spec.queue)
    if policy is not None:
        over_ms = now.boot_ms - max(0, now.wall_ms - ended_ms)
        cpu_millis, ran_ms = spec.task.resources.cpu_millis, max(0, ended_ms - began_ms)
        share = spec.share_identifier
        world.shares.note_past(spec.queue, share, policy, cpu_millis, ran_ms, over_ms, now.boot_ms)
