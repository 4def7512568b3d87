"""What follows from what hosts report of attempts."""

from __future__ import annotations

from batchyard.ids import AttemptId, HostId
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.commands import SendAck, SendRevoke
from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world import records
from batchyard_controller.core.world.world import World

from . import adoption
from .attempts import end_attempt, start_attempt
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
    for report in (bounded(said, now) for said in reports):
        attempt = world.attempts.get(report.attempt_id)
        if report.phase is Phase.ENDED:
            acks.append(report.attempt_id)
        if attempt is not None and attempt.host_id == host_id:
            _take(world, attempt, report, now, out)
            continue
        adopted = adoption.adopt(world, host, report, now, out) if host is not None and attempt is None else None
        for each, said in adopted or ():
            _take(world, each, said, now, out)
        if adopted is None and report.phase is not Phase.ENDED:
            out.append(SendRevoke(host_id, report.attempt_id))
    if is_all:
        world.adoption.waits_for.discard(host_id)
    if acks:
        out.append(SendAck(host_id, tuple(acks)))


def _take(world: World, attempt: Attempt, report: Report, now: Instant, out: Out) -> None:
    """Take in what the host of an attempt says of it."""
    if report.end is not None:
        end_attempt(world, attempt, adoption.believed(world, attempt, report.end), now, out)
        return
    host = world.hosts[attempt.host_id]
    if report.containers:
        host.containers[attempt.id] = report.containers
    host.hinder(attempt.id, report.hindrance)
    if report.phase is Phase.RUNNING and attempt.started_at_ms == 0:
        start_attempt(world, world.unit_of(attempt), attempt, report.started_at_ms, report.image_digest, now, out)
