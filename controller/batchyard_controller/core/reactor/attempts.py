"""What follows when attempts are claimed, and ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby

from batchyard.ids import HostId
from batchyard.states import EndCause, JobState
from batchyard_controller.core.commands import SendStop
from batchyard_controller.core.events import Planned
from batchyard_controller.core.jobs import retry
from batchyard_controller.core.jobs.ends import has_succeeded
from batchyard_controller.core.model.attempts import Attempt, AttemptEnd, EndedAttempt, RetryDecision, Verdict
from batchyard_controller.core.model.endings import Ending, Trigger
from batchyard_controller.core.model.hosts import own_fence
from batchyard_controller.core.model.restores import LAST_RESTORE
from batchyard_controller.core.model.units import Unit, children_among, chunk_of
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement import trust
from batchyard_controller.core.placement.mix import Demand
from batchyard_controller.core.placement.preemption import Eviction
from batchyard_controller.core.placement.turn import Placement
from batchyard_controller.core.world import records
from batchyard_controller.core.world.waiting import has_other_taker
from batchyard_controller.core.world.world import World

from .nodes import is_left_over, on_node_ended, on_node_started, starts
from .progress import Out, Progress
from .starts import on_start_failed, on_start_succeeded

_SUCCEEDED = Ending(trigger=Trigger.SUCCEEDED)
SUPERSEDED = "It ended after the backup was made from which the store was put back, and was tried again"
_CUT_SHORT = (EndCause.STOPPED, EndCause.LOST, EndCause.FENCED, EndCause.RECLAIMED)


def on_planned(world: World, event: Planned, now: Instant, out: Out) -> None:
    """Claim hosts as a plan says, and keep what it promised and who was refused; after a slice ask for the next."""
    world.reservations = event.plan.reservations
    claimed: list[Attempt] = []
    for _, placements in groupby(event.plan.placements, partial(_kin_to_claim, world)):
        claimed += _claim(world, list(placements), event.epoch, now, out)
    for host_id in {attempt.host_id: None for attempt in claimed}:
        world.refresh_starts(world.hosts[host_id])
    held_back = dict(event.plan.held_back)
    for shape in event.plan.refused:
        world.lines.refuse(shape, event.plan.grown, held_back.get(shape))
    for shape in event.plan.resumed:
        world.lines.resume(shape)
    for eviction in event.plan.evictions:
        _evict(world, eviction, out)
    world.planned_at = now
    world.wants_plan = world.wants_plan or not event.plan.is_whole
    world.lines.lets_go |= event.plan.gives_up
    world.lines.is_in_round = not event.plan.ends_round
    if world.lines.lets_go and event.plan.ends_round:
        world.lines.lets_go = False
        world.fleet.grown += 1
        world.wants_plan = True
    out.extend(starts(world, claimed))


def _kin_to_claim(world: World, placement: Placement) -> tuple[object, ...]:
    """Return what placements have in common that are claimed together: of children of a chunk that none was ever tried."""
    job_id, index, host_id, environment, _, stay = placement
    job = world.jobs[job_id]
    chunk = chunk_of(job, index)
    if chunk is None or Unit(job, index).next_number > 1:
        return placement
    return job_id, chunk, host_id, environment, stay


def _claim(world: World, placements: Sequence[Placement], epoch: int, now: Instant, out: Out) -> list[Attempt]:
    """Claim a host for one unit, or for some of one kin."""
    first = placements[0]
    unit = Unit(world.jobs[first.job_id], first.index)
    number, fence_ms = unit.next_number, _own_fence(world, unit, first.host_id)
    attempts = [
        Attempt(
            job_id=placement.job_id,
            index=placement.index,
            number=number,
            host_id=placement.host_id,
            compute_environment=placement.compute_environment,
            epoch=epoch,
            claimed_at_ms=now.wall_ms,
            gpus=placement.gpus,
            is_node=unit.is_node,
            fence_ms=fence_ms,
        )
        for placement in placements
    ]
    if unit.task.resources.gpu_millis:
        demand = Demand.of_unit(unit, world.level_of(unit.job.spec))
        for _ in attempts:
            world.rankings.packing.mix.note_placed(demand)
    records.claim(world, unit, attempts, first.stay, now)
    others = children_among(attempt.index for attempt in attempts[1:])
    Progress(world, now, out).move(unit, Trigger.CLAIMED, attempts[0], others)
    return attempts


def _own_fence(world: World, unit: Unit, host_id: HostId) -> int | None:
    queue = world.queues[unit.job.spec.queue]
    return own_fence(world.hosts[host_id].record.facts, unit.job.spec.fence_s, queue.fence_s)


def _evict(world: World, eviction: Eviction, out: Out) -> None:
    """Stop attempts so that another unit has room."""
    for name in eviction.attempt_ids:
        attempt = world.attempts[name]
        mine, other = world.jobs[eviction.job_id].spec, world.unit_of(attempt).job.spec
        gives_back = mine.queue == other.queue and mine.share_identifier != other.share_identifier
        beneficiary = Unit(world.jobs[eviction.job_id], eviction.index).waits_as
        records.preempt_attempt(world, world.unit_of(attempt), attempt, beneficiary, gives_back=gives_back)
        out.append(SendStop(attempt.host_id, name))


def restore_claim(world: World, attempt: Attempt, now: Instant, out: Out) -> None:
    """Put a stored claim back in force."""
    unit = world.unit_of(attempt)
    records.restore_attempts(world, unit, (attempt,), now)
    enter_claim(world, unit, now, out)
    if attempt.started_at_ms:
        Progress(world, now, out).move(unit, Trigger.STARTED)


def enter_claim(world: World, unit: Unit, now: Instant, out: Out) -> None:
    """Let a unit move as one that is claimed, whether or not its turn is known to have come."""
    progress = Progress(world, now, out)
    if unit.state is JobState.PENDING:
        # Before a restart, of one of a bounded array; or after the backup from which the store was put back.
        if not unit.is_child or unit.is_node:
            unit.job.unmet = 0
        progress.release(unit)
    progress.move(unit, Trigger.CLAIMED)


def supersede(world: World, unit: Unit, attempt: Attempt, now: Instant, out: Out) -> None:
    """End an attempt after which there was another that runs, as the backup did not know from which the store was put back."""
    world.adoption.asked.discard(attempt.id)
    ended = _ended(attempt, AttemptEnd(cause=EndCause.LOST, reason=SUPERSEDED), now)
    verdict = Verdict(decision=RetryDecision.RETRY)
    records.end_attempts(world, unit, ((attempt, replace(ended, verdict=verdict)),), now)
    world.refresh_starts(world.hosts[attempt.host_id])
    Progress(world, now, out).move(unit, Trigger.RETRIED)


def start_attempts(
    world: World, starts: Sequence[tuple[Attempt, int]], image_digest: str, now: Instant, out: Out
) -> None:
    """
    Keep that an attempt runs, and let its unit, and other nodes of its job, follow.

    Args:
        world: The world.
        starts: It, and since when; or several that are of children of one chunk, on one host.
        image_digest: What they run.
        now: The present moment.
        out: What follows.
    """
    first = starts[0][0]
    unit = world.unit_of(first)
    records.start_attempts(world, unit, starts, image_digest, now)
    on_start_succeeded(world, unit, first, now)
    others = children_among(attempt.index for attempt, _ in starts[1:])
    Progress(world, now, out).move(unit, Trigger.STARTED, first, others)
    on_node_started(world, unit, out)


def end_attempt(world: World, attempt: Attempt, end: AttemptEnd, now: Instant, out: Out) -> None:
    """Keep how an attempt ended and decide what becomes of its unit, and of the other nodes of its job."""
    if world.attempts.get(attempt.id) is not attempt:
        return  # it has ended with its main node meanwhile
    unit = world.unit_of(attempt)
    _end_attempt(world, unit, attempt, end, now, out)
    if unit.is_node:
        on_node_ended(world, unit, end_attempt, now, out)


def _end_attempt(world: World, unit: Unit, attempt: Attempt, end: AttemptEnd, now: Instant, out: Out) -> None:
    progress = Progress(world, now, out)
    cause = _cause(world, unit, attempt, end)
    if cause is not end.cause:
        end = replace(end, cause=cause)
    if has_succeeded(end):
        end_well(world, ((attempt, end),), now, out)
        return
    if attempt.started_at_ms == 0 and end.started_at_ms:
        start_attempts(world, ((attempt, end.started_at_ms),), end.image_digest, now, out)
    ended = _ended(attempt, _as_known(world, attempt, end), now)
    if end.cause is EndCause.LOST and world.is_restoring and attempt.generation < world.generation:
        assert world.restore is not None, "it is restoring"
        host = world.hosts[attempt.host_id].record.facts.name
        records.keep_plain(world, "restore", LAST_RESTORE, world.restore.with_unlearnt(attempt.id, host))
    if end.cause is EndCause.RECLAIMED:
        world.reclaimed[attempt.compute_environment] += 1
    verdict = _verdict(world, unit, attempt, ended, now)
    if end.cause in (EndCause.HOST_ERROR, EndCause.IMAGE_UNAVAILABLE) and _is_early(attempt, now):
        on_start_failed(world, unit, attempt, end, now, out)
    records.end_attempts(world, unit, ((attempt, replace(ended, verdict=verdict)),), now)
    world.refresh_starts(world.hosts[attempt.host_id])
    decision = verdict.decision if verdict is not None else None
    if decision is RetryDecision.PREEMPTED:
        progress.move(unit, Trigger.PREEMPTED, ended)
    elif decision in (RetryDecision.RETRY, RetryDecision.ELSEWHERE) or _is_tried_again(unit):
        progress.move(unit, Trigger.RETRIED, ended)
    elif attempt.terminate_reason:
        trigger = Trigger.NODES_ENDED if unit.is_node and not unit.terminate_reason else Trigger.TERMINATED
        progress.end_unit(unit, Ending(trigger=trigger, words=attempt.terminate_reason), ended)
    else:
        progress.end_unit(unit, Ending(trigger=Trigger.FAILED), ended)


def end_well(world: World, ends: Sequence[tuple[Attempt, AttemptEnd]], now: Instant, out: Out) -> None:
    """
    Keep how an attempt ended that did what it was for, and let its unit follow.

    Args:
        world: The world.
        ends: It, and its end; or several that are of children of one chunk, on one host, and of which nothing
            is told that differs: all have started by now, or none.
        now: The present moment.
        out: What follows.
    """
    first, end = ends[0]
    unit = world.unit_of(first)
    if not first.started_at_ms and end.started_at_ms:
        starts = [(attempt, end.started_at_ms) for attempt, end in ends]
        start_attempts(world, starts, end.image_digest, now, out)
    ended = [(attempt, _ended(attempt, _as_known(world, attempt, end), now)) for attempt, end in ends]
    records.end_attempts(world, unit, ended, now)
    world.refresh_starts(world.hosts[first.host_id])
    others = children_among(attempt.index for attempt, _ in ends[1:])
    Progress(world, now, out).end_unit(unit, _SUCCEEDED, ended[0][1], others)


def _as_known(world: World, attempt: Attempt, end: AttemptEnd) -> AttemptEnd:
    """Return how an attempt ended, with what its host told of its containers before, which tells no more of it."""
    host = world.hosts[attempt.host_id]
    host.hinder(attempt.id, "")
    told = host.containers.pop(attempt.id, ())
    # Of what was lost it is known how far it had come.
    return replace(end, containers=told) if told and not end.containers else end


def _verdict(world: World, unit: Unit, attempt: Attempt, ended: EndedAttempt, now: Instant) -> Verdict | None:
    """Say whether a failed try is followed by another; of nodes the main one is asked alone, who is tried again with all."""
    if unit.is_node and not unit.leads:
        return None
    if unit.terminate_reason or (attempt.terminate_reason and not unit.is_node):
        return Verdict(decision=RetryDecision.NEVER)
    elsewhere = ended.cause is EndCause.IMAGE_UNAVAILABLE and has_other_taker(world, unit, attempt, now)
    if attempt.terminate_reason:  # another node failed, with which it fails
        ended = replace(ended, cause=EndCause.EXITED)
    return retry.evaluate(unit.job.spec.retry, (*unit.attempts, ended), has_other_taker=elsewhere)


def _is_tried_again(unit: Unit) -> bool:
    """Say whether a node ended after its main node did that is tried again."""
    return unit.is_node and not unit.leads and unit.main.state is JobState.PENDING


def _cause(world: World, unit: Unit, attempt: Attempt, end: AttemptEnd) -> EndCause:
    """
    Return why an attempt ended.

    Nobody stops one that is not asked to end, but to make room, or for its host's reclaim. A
    node that was stopped as its main node is over, and then says that all is well, has done its part.
    """
    told = EndCause.STOPPED if end.cause is EndCause.PREEMPTED else end.cause  # of which an agent knows nothing
    is_over = is_left_over(world, attempt) and unit.main.attempts[-1].cause is not EndCause.PREEMPTED
    if told is EndCause.STOPPED and end.exit_code == 0 and is_over and not unit.terminate_reason:
        return EndCause.EXITED
    if attempt.preempted_for and not attempt.terminate_reason and told in _CUT_SHORT:
        return EndCause.PREEMPTED
    is_lost = told in (EndCause.LOST, EndCause.FENCED) and world.hosts[attempt.host_id].record.reclaimed_at_ms
    is_stopped = told is EndCause.STOPPED and not attempt.terminate_reason
    return EndCause.RECLAIMED if is_lost or is_stopped else told


def _is_early(attempt: Attempt, now: Instant) -> bool:
    """Say whether an attempt that its host failed got no further than its start."""
    return not attempt.started_at_ms or now.wall_ms - attempt.claimed_at_ms < trust.EARLY_MS


def _ended(attempt: Attempt, end: AttemptEnd, now: Instant) -> EndedAttempt:
    return EndedAttempt(
        number=attempt.number,
        cause=end.cause,
        host_id=attempt.host_id,
        compute_environment=attempt.compute_environment,
        claimed_at_ms=attempt.claimed_at_ms,
        started_at_ms=attempt.started_at_ms,
        stopped_at_ms=end.stopped_at_ms or now.wall_ms,
        exit_code=end.exit_code,
        reason=end.reason,
        containers=end.containers,
        gpu_uuids=tuple(gpu.uuid for gpu in attempt.gpus),
        epoch=attempt.epoch,
        preempted_for=attempt.preempted_for if end.cause is EndCause.PREEMPTED else "",
        gave_back=attempt.gives_back and end.cause is EndCause.PREEMPTED,
        usage=end.usage,
        image_digest=attempt.image_digest,
    )
