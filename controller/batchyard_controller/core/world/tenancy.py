"""
Tenancy: who holds what, and for how long, as plans reckon with it.

All of it follows from attempts, those that are live and those that are over. Law: a
restored world predicts and shares by the runs that are retained, as the one before it did.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from batchyard.ids import HostId
from batchyard.states import EndCause
from batchyard_controller.core.model.attempts import Attempt, EndedAttempt
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.policies import FairsharePolicy
from batchyard_controller.core.model.settings import JobQueue
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.due_times import run_of
from batchyard_controller.core.placement.reservations import Tenant, end_of
from batchyard_controller.core.placement.run_times import RUNS_KEPT
from batchyard_controller.core.placement.situation import Situation

from .waiting import shape_of
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
        host_tenants=lambda name, now: _tenants(world, world.hosts[HostId(name)].attempts.values(), now),
        environment_tenants=lambda name, now: _tenants(
            world, [attempt for attempt in world.attempts.values() if attempt.compute_environment == name], now
        ),
        reservations=world.reservations,
    )


def _tenants(world: World, attempts: Iterable[Attempt], now: Instant) -> list[Tenant]:
    expected: dict[int, int] = {}
    """For how long a unit is expected to run, by the identity of its job's spec, which many have in common."""
    tenants = []
    for attempt in attempts:
        job = world.jobs[attempt.job_id]
        expected_ms = expected.get(id(job.spec))
        if expected_ms is None:
            expected_ms = expected[id(job.spec)] = world.lines.due_times.expected_ms(
                shape_of(world, world.unit_of(attempt))
            )
        elapsed_ms = max(0, now.wall_ms - attempt.started_at_ms) if attempt.started_at_ms else 0
        ends_ms = end_of(now.boot_ms - elapsed_ms, expected_ms, bool(job.spec.timeout_s), now.boot_ms)
        tenants.append(Tenant(ends_ms, job.spec.task.resources, attempt.gpus, attempt.compute_environment))
    return tenants


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
        is_new = world.shares.hold(spec.queue, spec.share_identifier, policy, cpu_millis, now.boot_ms)
        if is_new and policy.compute_reservation:  # the more are active, the less is kept from them
            world.fleet.grown += 1
            world.wants_plan = True


def hold_rest(world: World, queue: JobQueue, now: Instant) -> None:
    """Let the shares of a new queue hold what is left of the jobs of a deleted one of its name."""
    for attempt in world.attempts.values():
        unit = world.unit_of(attempt)
        if unit.job.spec.queue == queue.name:
            hold(world, unit, now)


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
