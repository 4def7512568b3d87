"""What follows from what hosts report of attempts."""

from __future__ import annotations

from batchyard.ids import AttemptId, HostId
from batchyard.states import EndCause
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.commands import SendAck, SendRevoke
from batchyard_controller.core.jobs.dependencies import is_sequential
from batchyard_controller.core.jobs.ends import has_succeeded
from batchyard_controller.core.model.attempts import Attempt, AttemptEnd
from batchyard_controller.core.model.units import chunk_of
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world import records
from batchyard_controller.core.world.world import World

from . import adoption
from .attempts import end_attempt, end_well, start_attempts
from .progress import Out
from .reported import bounded


def on_attempts_reported(
    world: World, host_id: HostId, reports: tuple[Report, ...], now: Instant, out: Out, *, is_all: bool = False
) -> None:
    """Believe a host about its own attempts; ends are acknowledged after the commit."""
    host = world.hosts.get(host_id)
    if host is not None:
        records.hear(world, host, now)
    acks: list[AttemptId] = []
    alike = _Alike()
    for report in (bounded(said, now) for said in reports):
        attempt = world.attempts.get(report.attempt_id)
        # It may be adopted in the place of one of these, or is told of twice.
        if attempt is None or attempt.id in alike.ids:
            alike.take_in(world, now, out)
            attempt = world.attempts.get(report.attempt_id)
        if report.phase is Phase.ENDED:
            acks.append(report.attempt_id)
        if attempt is not None and attempt.host_id == host_id:
            if not alike.put(world, attempt, report):
                _take(world, attempt, report, now, out)
            continue
        adopted = adoption.adopt(world, host, report, now, out) if host is not None and attempt is None else None
        for each, said in adopted or ():
            _take(world, each, said, now, out)
        if adopted is None and report.phase is not Phase.ENDED:
            out.append(SendRevoke(host_id, report.attempt_id))
    alike.take_in(world, now, out)
    if is_all:
        world.adoption.waits_for.discard(host_id)
    if acks:
        out.append(SendAck(host_id, tuple(acks)))


def _take(world: World, attempt: Attempt, report: Report, now: Instant, out: Out) -> None:
    """Take in what the host of an attempt says of it."""
    if report.end is not None:
        end_attempt(world, attempt, _believed(world, attempt, report.end), now, out)
        return
    host = world.hosts[attempt.host_id]
    if report.containers:
        host.containers[attempt.id] = report.containers
    host.hinder(attempt.id, report.hindrance)
    if report.phase is Phase.RUNNING and attempt.started_at_ms == 0:
        start_attempts(world, ((attempt, report.started_at_ms),), report.image_digest, now, out)


def _believed(world: World, attempt: Attempt, end: AttemptEnd) -> AttemptEnd:
    """Return how an attempt ended: a host that was asked about one that ran there, and never began it, has lost it."""
    is_ours = attempt.generation == world.generation and not attempt.is_stopping
    if is_ours and end.cause is EndCause.STOPPED and attempt.started_at_ms and not end.started_at_ms:
        return AttemptEnd(cause=EndCause.LOST)
    return adoption.believed(world, attempt, end)


class _Alike:
    """Reports on children of arrays that started, or ended well, those together of which nothing is told that differs."""

    def __init__(self) -> None:
        self.ids: set[AttemptId] = set()
        self._by_kin: dict[tuple[object, ...], list[tuple[Attempt, Report]]] = {}

    def put(self, world: World, attempt: Attempt, report: Report) -> bool:
        """Put a report on a live attempt with those like it; say whether it is one to be put anywhere."""
        kin = _kin_to_report(world, attempt, report)
        if kin is None:
            return False
        self._by_kin.setdefault(kin, []).append((attempt, report))
        self.ids.add(attempt.id)
        return True

    def take_in(self, world: World, now: Instant, out: Out) -> None:
        """Take in what was put here."""
        for told in self._by_kin.values():
            first = told[0][1]
            if first.end is None:
                for attempt, _ in told:
                    world.hosts[attempt.host_id].hinder(attempt.id, "")
                starts = [(attempt, report.started_at_ms) for attempt, report in told]
                start_attempts(world, starts, first.image_digest, now, out)
            else:
                ends = [(attempt, report.end) for attempt, report in told if report.end is not None]
                end_well(world, [(each, adoption.believed(world, each, end)) for each, end in ends], now, out)
        self.ids.clear()
        self._by_kin.clear()


def _kin_to_report(world: World, attempt: Attempt, report: Report) -> tuple[object, ...] | None:
    """Return what attempts have in common whose reports are taken in together; None of one that is looked at alone."""
    job, end = world.jobs[attempt.job_id], report.end
    chunk = chunk_of(job, attempt.index)
    if chunk is None or job.concurrency or is_sequential(job):  # one by one they let others of their array go
        return None
    if end is not None and has_succeeded(end):
        told: tuple[object, ...] = attempt.started_at_ms > 0, end.started_at_ms > 0, end.image_digest, end.reason
    elif report.phase is Phase.RUNNING and not attempt.started_at_ms and not report.containers:
        told = (report.image_digest,)
    else:
        return None
    return job.id, chunk, attempt.number, attempt.compute_environment, *told
