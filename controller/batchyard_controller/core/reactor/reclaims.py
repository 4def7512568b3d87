"""
What follows when a host is taken away: announced ahead, as a spot host is.

It gets no new work from then on. What runs there may end by itself until its time is
over; then it is stopped, and goes elsewhere. Law: what a reclaimed host loses, or is told
to stop for that reason, ends as reclaimed, whichever of both was noticed first.
"""

from __future__ import annotations

from batchyard.states import EndCause
from batchyard_controller.core import limits
from batchyard_controller.core.commands import SendStop
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.hosts import Host, HostRecord
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world import records
from batchyard_controller.core.world.world import World

from .attempts import end_attempt
from .progress import Out


def change_record(world: World, host: Host, record: HostRecord) -> None:
    """Keep what changed of a host."""
    if record.reclaimed_at_ms and not host.record.reclaimed_at_ms:
        on_host_reclaimed(world, host, record)
        return
    if not record.reclaim_at_ms:
        host.is_stopped = False
    records.change_host(world, host, record)


def on_host_reclaimed(world: World, host: Host, record: HostRecord) -> None:
    """Give a host that is to be taken away no new work; once a reclaim, over restarts of the controller too."""
    world.note_reclaim(host)
    records.change_host(world, host, record)


def note_announced_end(host: Host, wall_ms: int, now: Instant) -> None:
    """Reckon by our clock when a host has killed what it runs, from what it announced and *wall_ms* that its own shows."""
    announced_ms = host.record.facts.reclaimed_at_ms
    host.killed_by_boot_ms = now.boot_ms + announced_ms - wall_ms + limits.RECLAIM_MARGIN_MS if announced_ms else None


def end_reclaimed(world: World, now: Instant, out: Out) -> None:
    """
    Stop what still runs on hosts whose time is over, by an operator's word; who announces it does that itself.

    So what ran on a host that announced it, and cannot be reached any more, is given up
    without waiting for the fence, which is for those that know of nothing.
    """
    for host in world.hosts.values():
        if host.is_reachable:
            if host.attempts and not host.is_stopped and 0 < host.record.reclaim_at_ms <= now.wall_ms:
                host.is_stopped = True
                out.extend(SendStop(host.record.id, attempt_id) for attempt_id in host.attempts)
        elif host.killed_by_boot_ms is not None and host.killed_by_boot_ms < now.boot_ms:
            for attempt in list(host.attempts.values()):
                end_attempt(world, attempt, AttemptEnd(cause=EndCause.RECLAIMED), now, out)
