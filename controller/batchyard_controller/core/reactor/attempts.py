"""What follows when attempts are claimed, reported on, and ended."""

from __future__ import annotations

from dataclasses import replace

from batchyard.ids import AttemptId, HostId, unit_id
from batchyard.states import EndCause, JobState
from batchyard_controller.core.commands import SendAck, SendRevoke, SendStart, SendStop
from batchyard_controller.core.events import Phase, Planned, Report
from batchyard_controller.core.jobs import retry
from batchyard_controller.core.jobs.ends import has_succeeded
from batchyard_controller.core.model.attempts import Attempt, AttemptEnd, EndedAttempt, RetryDecision, Verdict
from batchyard_controller.core.model.endings import Ending, Trigger
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement import trust
from batchyard_controller.core.placement.mix import Demand
from batchyard_controller.core.placement.preemption import Eviction
from batchyard_controller.core.world import records
from batchyard_controller.core.world.waiting import has_other_taker
from batchyard_controller.core.world.world import World

from .progress import Out, Progress
from .reported import bounded
from .starts import on_start_failed, on_start_succeeded

_SUCCEEDED = Ending(trigger=Trigger.SUCCEEDED)
_CUT_SHORT = (EndCause.STOPPED, EndCause.LOST, EndCause.FENCED, EndCause.RECLAIMED)


def on_planned(world: World, event: Planned, now: Instant, out: Out) -> None:
    """Claim hosts as a plan says, and keep what it promised and who was refused; after a slice ask for the next."""
    world.reservations = event.plan.reservations
    starts: dict[HostId, list[Attempt]] = {}
    progress = Progress(world, now, out)
    for placement in event.plan.placements:
        unit = Unit(world.jobs[placement.job_id], placement.index)
        attempt = Attempt(
            job_id=placement.job_id,
            index=placement.index,
            number=unit.next_number,
            host_id=placement.host_id,
            compute_environment=placement.compute_environment,
            epoch=event.epoch,
            claimed_at_ms=now.wall_ms,
            gpus=placement.gpus,
        )
        if unit.task.resources.gpu_millis:
            world.rankings.packing.mix.note_placed(Demand.of_unit(unit))
        records.claim(world, unit, attempt, placement.stay, now)
        progress.move(unit, Trigger.CLAIMED)
        starts.setdefault(placement.host_id, []).append(attempt)
    for host_id in starts:
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
    out.extend(SendStart(host_id, tuple(attempts)) for host_id, attempts in starts.items())


def _evict(world: World, eviction: Eviction, out: Out) -> None:
    """Stop attempts so that another unit has room."""
    for name in eviction.attempt_ids:
        attempt = world.attempts[name]
        mine, other = world.jobs[eviction.job_id].spec, world.unit_of(attempt).job.spec
        gives_back = mine.queue == other.queue and mine.share_identifier != other.share_identifier
        beneficiary = unit_id(eviction.job_id, eviction.index)
        records.preempt_attempt(world, world.unit_of(attempt), attempt, beneficiary, gives_back=gives_back)
        out.append(SendStop(attempt.host_id, name))


def restore_claim(world: World, attempt: Attempt, now: Instant, out: Out) -> None:
    """Put a stored claim back in force."""
    unit, progress = world.unit_of(attempt), Progress(world, now, out)
    records.restore_attempt(world, unit, attempt, now)
    if unit.is_child and unit.state is JobState.PENDING:
        # Its turn in a bounded array came before the restart.
        progress.release(unit)
    progress.move(unit, Trigger.CLAIMED)
    if attempt.started_at_ms:
        progress.move(unit, Trigger.STARTED)


def on_attempts_reported(world: World, host_id: HostId, reports: tuple[Report, ...], now: Instant, out: Out) -> None:
    """Believe a host about its own attempts; ends are acknowledged after the commit."""
    host = world.hosts.get(host_id)
    if host is not None:
        records.hear(world, host, now)
    acks: list[AttemptId] = []
    for report in (bounded(said, now) for said in reports):
        attempt = world.attempts.get(report.attempt_id)
        is_ours = attempt is not None and attempt.host_id == host_id
        if report.phase is Phase.ENDED:
            acks.append(report.attempt_id)
        if attempt is None or not is_ours:
            if report.phase is not Phase.ENDED:
                out.append(SendRevoke(host_id, report.attempt_id))
            continue
        if report.end is not None:
            end_attempt(world, attempt, report.end, now, out)
        elif report.phase is Phase.RUNNING and attempt.started_at_ms == 0:
            _start_attempt(world, world.unit_of(attempt), attempt, report.started_at_ms, now, out)
    if acks:
        out.append(SendAck(host_id, tuple(acks)))


def _start_attempt(world: World, unit: Unit, attempt: Attempt, started_at_ms: int, now: Instant, out: Out) -> None:
    records.start_attempt(world, unit, attempt, started_at_ms, now)
    on_start_succeeded(world, unit, attempt, now)
    Progress(world, now, out).move(unit, Trigger.STARTED)


def end_attempt(world: World, attempt: Attempt, end: AttemptEnd, now: Instant, out: Out) -> None:
    """Keep how an attempt ended and decide what becomes of its unit."""
    unit, progress = world.unit_of(attempt), Progress(world, now, out)
    cause = _cause(world, attempt, end.cause)
    if cause is not end.cause:
        end = replace(end, cause=cause)
    if attempt.started_at_ms == 0 and end.started_at_ms:
        _start_attempt(world, unit, attempt, end.started_at_ms, now, out)
    ended = _ended(attempt, end, now)
    if end.cause is EndCause.RECLAIMED:
        world.reclaimed[attempt.compute_environment] += 1
    if has_succeeded(ended):
        records.end_attempt(world, unit, attempt, ended, now)
        world.refresh_starts(world.hosts[attempt.host_id])
        progress.end_unit(unit, _SUCCEEDED)
        return
    verdict = Verdict(decision=RetryDecision.NEVER)
    if not attempt.terminate_reason:
        elsewhere = end.cause is EndCause.IMAGE_UNAVAILABLE and has_other_taker(world, unit, attempt, now)
        verdict = retry.evaluate(unit.job.spec.retry, (*unit.attempts, ended), has_other_taker=elsewhere)
    if end.cause in (EndCause.HOST_ERROR, EndCause.IMAGE_UNAVAILABLE) and _is_early(attempt, now):
        on_start_failed(world, unit, attempt, end, now)
    records.end_attempt(world, unit, attempt, replace(ended, verdict=verdict), now)
    world.refresh_starts(world.hosts[attempt.host_id])
    if verdict.decision is RetryDecision.PREEMPTED:
        progress.move(unit, Trigger.PREEMPTED)
    elif verdict.decision in (RetryDecision.RETRY, RetryDecision.ELSEWHERE):
        progress.move(unit, Trigger.RETRIED)
    elif attempt.terminate_reason:
        progress.end_unit(unit, Ending(trigger=Trigger.TERMINATED, words=attempt.terminate_reason))
    else:
        progress.end_unit(unit, Ending(trigger=Trigger.FAILED))


def _cause(world: World, attempt: Attempt, told: EndCause) -> EndCause:
    """Return why an attempt ended: nobody stops one that is not asked to end, but to make room, or for its host's reclaim."""
    told = EndCause.STOPPED if told is EndCause.PREEMPTED else told  # of which an agent knows nothing
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
    )
