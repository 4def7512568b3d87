"""
Records: every change of what is stored, each with its note in the ledger.

Nobody else writes into the ledger or changes a stored fact, so whoever changes one
cannot forget to have it written. What is gone from the world is deleted from the
store. What follows from stored facts (states that are not final, lines, counts) is
not stored and does not come by here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from batchyard.ids import HostId, JobId, LaunchId
from batchyard.states import JobState
from batchyard_controller.core.jobs import lifecycle
from batchyard_controller.core.model.attempts import Attempt, EndedAttempt
from batchyard_controller.core.model.children import RestEnd
from batchyard_controller.core.model.chunks import CHUNK
from batchyard_controller.core.model.consumables import ConsumableResource, ConsumableType
from batchyard_controller.core.model.endings import Ending, Trigger
from batchyard_controller.core.model.hosts import HEARD_SAVE_MS, Host, HostFacts, HostRecord
from batchyard_controller.core.model.jobs import Job, JobDefinition, JobSpec
from batchyard_controller.core.model.launches import Launch
from batchyard_controller.core.model.past import Left
from batchyard_controller.core.model.policies import SchedulingPolicy
from batchyard_controller.core.model.quota_shares import QuotaShare
from batchyard_controller.core.model.settings import JobQueue
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.usage import UsageSum
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.tenants import Stay

from . import tenancy
from .occupancy import bound_shares, hold_quota, occupy
from .world import World

# Settings, secrets, hosts ---------------------------------------------------------


def keep_queue(world: World, queue: JobQueue, now: Instant) -> None:
    """Keep a new or changed job queue; of a new one, what is left of the jobs of a deleted one of its name counts."""
    is_new = queue.name not in world.queues
    world.queues[queue.name] = queue
    world.bound_queue(queue)
    bound_shares(world, queue)
    if is_new:
        tenancy.hold_rest(world, queue, now)
    _note_alone(world, "queue", queue.name)


def drop_queue(world: World, name: str) -> None:
    """Forget a job queue, its quota shares, and who was what in it: a later one of its name is another."""
    for binding in [each for each in world.bindings.values() if each.queue == name]:
        drop_plain(world, "binding", binding.name)
    for share in world.shares_of(name):
        del world.quota_shares[share.id]
        _note_alone(world, "quota_share", share.id)
    del world.queues[name]
    world.shares.drop_queue(name)
    world.lines.due_times.run_times.drop_queue(name)
    world.fleet.bounds.drop_queue(name)
    world.fleet.quotas.drop_queue(name)
    _note_alone(world, "queue", name)


def keep_policy(world: World, policy: SchedulingPolicy) -> None:
    """Keep a new or changed scheduling policy; the queues that name it follow."""
    world.policies[policy.name] = policy
    for queue in world.queues.values():
        if queue.scheduling_policy == policy.name:
            world.bound_queue(queue)
    _note_alone(world, "scheduling_policy", policy.name)


def keep_quota_share(world: World, share: QuotaShare) -> None:
    """Keep a new or changed quota share."""
    world.quota_shares[share.id] = share
    bound_shares(world, world.queues[share.job_queue])
    _note_alone(world, "quota_share", share.id)


def drop_quota_share(world: World, share: QuotaShare) -> None:
    """Forget a quota share; what is left of its jobs is counted on."""
    del world.quota_shares[share.id]
    bound_shares(world, world.queues[share.job_queue])
    _note_alone(world, "quota_share", share.id)


def drop_policy(world: World, name: str) -> None:
    """Forget a scheduling policy that no queue names."""
    del world.policies[name]
    _note_alone(world, "scheduling_policy", name)


def keep_consumable(world: World, resource: ConsumableResource) -> None:
    """Keep a new or changed consumable resource."""
    world.consumables[resource.name] = resource
    world.fleet.bounds.set_consumable(resource)
    _note_alone(world, "consumable", resource.name)


def drop_consumable(world: World, name: str) -> None:
    """Forget a consumable resource that no job names."""
    del world.consumables[name]
    world.fleet.bounds.drop_consumable(name)
    _note_alone(world, "consumable", name)


def keep_definition(world: World, definition: JobDefinition) -> None:
    """Keep the next revision of a job definition, or a changed one."""
    revisions = world.definitions.setdefault(definition.name, [])
    revisions[definition.revision - 1 :] = [definition, *revisions[definition.revision :]]
    _note_alone(world, "definition", definition.key)


PLAIN = {
    "environment": "environments",
    "secret": "secrets",
    "access_key": "access_keys",
    "binding": "bindings",
    "token": "tokens",
    "join_token": "join_tokens",
    "member": "members",
    "sink": "sinks",
    "restore": "restores",
}
"""Kinds of records on which nothing else in the world rests but who is who, and where it has them."""

_OF_USERS = frozenset({"access_key", "binding", "token"})
Attempts = Sequence[Attempt]
Starts = Sequence[tuple[Attempt, int]]


def keep_plain(world: World, kind: str, name: str, record: object) -> None:
    """Keep a new or changed record of a plain kind."""
    getattr(world, PLAIN[kind])[name] = record
    if kind in _OF_USERS:
        world.know_users()
    _note_alone(world, kind, name)


def drop_plain(world: World, kind: str, name: str) -> None:
    """Forget a record of a plain kind, if there is one."""
    if getattr(world, PLAIN[kind]).pop(name, None) is not None:
        if kind in _OF_USERS:
            world.know_users()
        _note_alone(world, kind, name)


def add_host(world: World, host_id: HostId, facts: HostFacts) -> Host:
    """Keep a host that was not known; one that was gone takes its record back."""
    record = world.gone_hosts.pop(host_id, HostRecord(id=host_id, facts=facts))
    host = world.hosts[host_id] = Host(record=replace(record, facts=facts, gone_at_ms=0))
    _note_alone(world, "host", host_id)
    return host


def change_host(world: World, host: Host, record: HostRecord) -> None:
    """Keep what changed of a host."""
    if record != host.record:
        host.record = record
        _note_alone(world, "host", record.id)
        world.refresh_host(host)


def hear(world: World, host: Host, now: Instant) -> None:
    """Restart a host's timers."""
    host.heard_boot_ms, host.heard_wall_ms = now.boot_ms, now.wall_ms
    assert world.calendar is not None, "apply begins it"
    note_heard(world, host, world.calendar.date_ms)


def note_heard(world: World, host: Host, at_ms: int) -> None:
    """Keep, seldom, when a host was heard of."""
    if not host.record.heard_at_ms or at_ms - host.record.heard_at_ms >= HEARD_SAVE_MS:
        host.record = replace(host.record, heard_at_ms=at_ms)
        _note_alone(world, "host", host.record.id)


def drop_host(world: World, host: Host, at_ms: int) -> None:
    """Forget a host on which nothing runs, but for its name; neither marks of operators outlive it nor its key."""
    assert not host.attempts, f"attempts run on {host.record.id}"
    del world.hosts[host.record.id]
    world.forget_host(host)
    drop_plain(world, "member", host.record.id)
    gone = replace(host.record, cordoned=False, draining=False, reclaim_at_ms=0, replaced_by="", gone_at_ms=at_ms)
    world.gone_hosts[gone.id] = gone
    _note_alone(world, "host", gone.id)


def forget_gone_host(world: World, host_id: HostId) -> None:
    """Forget the name of a host that is gone, too."""
    del world.gone_hosts[host_id]
    _note_alone(world, "host", host_id)


def keep_launch(world: World, launch: Launch) -> None:
    """Keep a new or changed launch; whether its host gets work follows."""
    world.launches[launch.id] = launch
    world.scaling.tallies.clear()
    _note_alone(world, "launch", launch.id)
    _refresh_host_of(world, launch)


def drop_launch(world: World, launch_id: LaunchId) -> None:
    """Forget a launch whose host is stopped."""
    launch = world.launches.pop(launch_id)
    world.scaling.forget_launch(launch_id)
    world.scaling.tallies.clear()
    _note_alone(world, "launch", launch_id)
    _refresh_host_of(world, launch)


def _refresh_host_of(world: World, launch: Launch) -> None:
    if (host := world.hosts.get(HostId(launch.host_id))) is not None:
        world.refresh_host(host)


def _note_alone(world: World, kind: str, name: str) -> None:
    world.ledger.note(f"{kind}/{name}", kind, name)


# Jobs -----------------------------------------------------------------------------


def add_job(world: World, job: Job) -> None:
    """Keep a new job, at the end of the order of submission."""
    job.seq = world.last_seq + 1
    world.index_job(job)
    world.named.count(job, 1)
    world.count(job.spec.queue, None, JobState.SUBMITTED, job.size or 1)
    world.ledger.note(job.id, "job", job.id)


def keep_spec(world: World, job: Job, spec: JobSpec) -> None:
    """Keep a job's changed tags or priority; who waits stands in line by that, and leaves before."""
    job.spec = world.intern(spec)
    world.ledger.note(job.id, "job", job.id)


def forget_jobs(world: World, jobs: Iterable[Job], left: Left, sums: Iterable[str]) -> None:
    """Drop all that is known of jobs that have ended, behind what is kept of them; their records go one group a chunk."""
    world.left = left
    for kind, name in (("left", "last"), *(("usage", name) for name in sums)):
        world.ledger.note("left", kind, name)
    for job in jobs:
        world.unindex_job(job)
        mend(world, "job", (job.id,))
        mend(world, "state", (job.id,))
        for number in job.children.chunks:
            _note_unit(world, Unit(job, number * CHUNK))


def mend(world: World, kind: str, names: Iterable[str]) -> None:
    """Have records written as the world has them, or deleted, of which a commit that was cut short stored a part."""
    for name in names:
        world.ledger.note(name, kind, name)


def set_cancelled(world: World, job: Job) -> None:
    """Keep that someone cancelled a job, or what waits of an array."""
    job.is_cancelled = True
    _note_unit(world, Unit(job))


def ask_to_stop(world: World, unit: Unit, reason: str) -> None:
    """Keep that someone asked to stop a unit, or an array; the first reason stays."""
    unit.set_terminate_reason(reason)
    _note_unit(world, unit)


def note_children(world: World, job: Job, numbers: Iterable[int]) -> None:
    """Keep a record of the children of these chunks, so that they are not of the rest."""
    for number in job.children.note(numbers):
        _note_unit(world, Unit(job, number * CHUNK))


def end_unit(world: World, unit: Unit, ending: Ending, at_ms: int, others: Sequence[int] = ()) -> JobState:
    """Move a unit, or a parent, to its final state, and *others* of its chunk; return the one they left."""
    before = lifecycle.end(unit, ending, at_ms, others)
    if not unit.is_child:
        world.note_ended(unit.job)
        world.named.count(unit.job, -1)
    _note_unit(world, unit)
    return before


def run_again(world: World, unit: Unit) -> JobState:
    """Let a node that has ended wait again, as its main node failed; return the state it left."""
    _note_unit(world, unit)
    return lifecycle.move(unit, Trigger.RUN_AGAIN)


def end_rest(world: World, job: Job, rest_end: RestEnd) -> JobState:
    """End every child that nothing was ever noted of; return the state they left."""
    before = lifecycle.end_rest(job, rest_end)
    _note_unit(world, Unit(job))
    for number, chunk in job.children.chunks.items():
        if chunk.is_blank:  # its children are not of the rest, which only a record of them tells
            _note_unit(world, Unit(job, number * CHUNK))
    return before


def _note_unit(world: World, unit: Unit) -> None:
    """Note that what is stored of a unit, its live attempt apart, has changed."""
    group = unit.group
    world.ledger.note(group, "children" if unit.is_child else "state", group)


# Attempts -------------------------------------------------------------------------


def claim(world: World, unit: Unit, attempts: Attempts, stay: Stay | None, now: Instant) -> None:
    """Hold a host's resources for a new attempt, *unit*'s, or those of more children of its chunk in one environment."""
    # Of a child in a group behind that of its chunk: all of it may end and be claimed again
    # in one turn, and that is more than a store writes at once.
    restore_attempts(world, unit, attempts, now, stay)
    group = f"{unit.group}/claims" if unit.is_child else unit.group
    world.ledger.note_all(group, "attempt", (attempt.id for attempt in attempts))


def restore_attempts(world: World, unit: Unit, attempts: Attempts, now: Instant, stay: Stay | None = None) -> None:
    """Hold a host's resources again for attempts that are stored."""
    first, asked, on_host = attempts[0], unit.task.resources, world.hosts[attempts[0].host_id].attempts
    for attempt in attempts:
        world.attempts[attempt.id] = on_host[attempt.id] = world.live[attempt.unit_id] = attempt
        hold_quota(world, unit, attempt)
    gpus, number = [gpu for attempt in attempts for gpu in attempt.gpus], len(attempts)
    world.fleet.claim(first.host_id, asked, gpus, first.compute_environment, number)
    world.fleet.bounds.claim(unit.job.spec, asked.cpu_millis, unit.consumables, number)
    tenancy.enter(world, unit, attempts, stay, now)
    tenancy.hold(world, unit, now, len(attempts))
    occupy(world, unit, first, len(attempts))


def start_attempts(world: World, unit: Unit, starts: Starts, image_digest: str, now: Instant) -> None:
    """Keep when each of some attempts came to run, and of which image; and with the first one, when its array did."""
    for attempt, at_ms in starts:
        attempt.started_at_ms, attempt.image_digest = at_ms, image_digest
        tenancy.begin(world, attempt, now)
    world.ledger.note_all(unit.group, "attempt", (attempt.id for attempt, _ in starts))
    if unit.is_child and not unit.is_node and not unit.job.started_at_ms:
        unit.job.started_at_ms = starts[0][1]
        _note_unit(world, Unit(unit.job))


def stop_attempt(world: World, unit: Unit, attempt: Attempt, reason: str) -> None:
    """Keep that an attempt is to stop; the first reason stays."""
    if not attempt.terminate_reason:
        attempt.terminate_reason = reason
        world.fleet.quotas.stop(unit.job.spec.queue, attempt.id)
        world.ledger.note(unit.group, "attempt", attempt.id)


def preempt_attempt(world: World, unit: Unit, attempt: Attempt, taker: JobId, *, gives_back: bool = False) -> None:
    """Keep that an attempt is to stop to make room, for whom, and whether it gives back what was borrowed."""
    attempt.preempted_for, attempt.gives_back = taker, gives_back
    world.fleet.quotas.stop(unit.job.spec.queue, attempt.id)
    world.ledger.note(unit.group, "attempt", attempt.id)


def end_attempts(world: World, unit: Unit, ends: Sequence[tuple[Attempt, EndedAttempt]], now: Instant) -> None:
    """Give back what attempts held, and keep how each ended."""
    job, asked, first = unit.job, unit.task.resources, ends[0][0]
    queue, on_host = job.spec.queue, world.hosts[first.host_id].attempts
    for attempt, ended in ends:
        del world.attempts[attempt.id], on_host[attempt.id], world.live[attempt.unit_id]
        world.fleet.quotas.release(queue, attempt.id)
        world.tenants.leave(attempt.id, first.host_id)
        world.used.setdefault(queue, UsageSum()).add(ended, asked)
        Unit(job, attempt.index).record_end(ended)
        if attempt.started_at_ms:
            _consume(world, unit)
    gpus, number = [gpu for attempt, _ in ends for gpu in attempt.gpus], len(ends)
    world.fleet.release(first.host_id, asked, gpus, first.compute_environment, number)
    world.fleet.bounds.release(job.spec, asked.cpu_millis, unit.consumables, number)
    tenancy.hold(world, unit, now, -number)
    occupy(world, unit, first, -number)
    tenancy.note_runs(world, unit, [ended for _, ended in ends])
    world.wants_plan = True
    world.ledger.note_all(unit.group, "attempt", (attempt.id for attempt, _ in ends))
    _note_unit(world, unit)


def _consume(world: World, unit: Unit) -> None:
    """
    Keep what an attempt that ran took for good.

    In the group of the unit, so that the end is never stored without it: a commit that is
    cut short may have counted ends that it did not store, and so count them twice, but
    never loses one.
    """
    for name, quantity in unit.consumables:
        resource = world.consumables[name]
        if resource.type is ConsumableType.NON_REPLENISHABLE:
            world.consumables[name] = resource = replace(resource, consumed=resource.consumed + quantity)
            world.fleet.bounds.set_consumable(resource)
            world.ledger.note(unit.group, "consumable", name)
