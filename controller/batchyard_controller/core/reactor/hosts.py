"""What follows when hosts join, leave, are heard of and marked."""

from __future__ import annotations

from dataclasses import replace

from batchyard.states import EndCause
from batchyard_controller.core.commands import SendStart, SendStop
from batchyard_controller.core.events import (
    HostHeard,
    HostJoined,
    HostLeft,
    HostMarked,
)
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world import records
from batchyard_controller.core.world.world import World

from .attempts import end_attempt, on_attempts_reported
from .progress import Out


def on_host_joined(world: World, event: HostJoined, now: Instant, out: Out) -> None:
    """Compare what a host says it keeps with what it should; mend the difference."""
    host = world.hosts.get(event.host_id)
    if host is None:
        host = records.add_host(world, event.host_id, event.facts)
    _set_facts(world, host, event)
    host.session = event.session
    host.hear(now)
    world.refresh_host(host)
    on_attempts_reported(world, event.host_id, event.reports, now, out)
    said = {report.attempt_id for report in event.reports}
    unsaid = [attempt for attempt in host.attempts.values() if attempt.id not in said]
    resend = tuple(attempt for attempt in unsaid if attempt.started_at_ms == 0)
    if resend:
        # Claimed and stored, but the message was lost with a leader or a connection.
        out.append(SendStart(event.host_id, resend))
    for attempt in unsaid:
        if attempt.started_at_ms:
            # It ran here, and the same agent's journal knows nothing of it.
            end_attempt(world, attempt, AttemptEnd(cause=EndCause.LOST), now, out)
    out.extend(SendStop(event.host_id, a.id) for a in host.attempts.values() if a.terminate_reason)


def _set_facts(world: World, host: Host, event: HostJoined | HostHeard) -> None:
    if event.facts is not None:
        records.change_host(world, host, replace(host.record, facts=event.facts))


def on_host_left(world: World, event: HostLeft) -> None:
    """Give a host without a session no new work; what runs there goes on."""
    host = world.hosts.get(event.host_id)
    if host is not None and host.session == event.session:
        host.session = 0
        world.refresh_host(host)


def on_host_heard(world: World, event: HostHeard, now: Instant) -> None:
    """Restart a host's timers."""
    host = world.hosts.get(event.host_id)
    if host is not None:
        host.hear(now)
        _set_facts(world, host, event)


def on_host_marked(world: World, event: HostMarked) -> None:
    """Cordon, drain or free a host."""
    host = world.hosts[event.host_id]
    marked = replace(host.record, cordoned=event.cordoned, draining=event.draining)
    records.change_host(world, host, marked)
