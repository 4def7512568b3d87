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
    if not record.reclaimed_at_ms:
        host.is_stopped = False
    records.change_host(world, host, record)


def on_host_reclaimed(world: World, host: Host, record: HostRecord) -> None:
    """Give a host that is to be taken away no new work; once a reclaim, over restarts of the controller too."""
    world.note_reclaim(host)
    records.change_host(world, host, record)


def end_reclaimed(world: World, now: Instant, out: Out) -> None:
    """
    Stop what still runs on hosts whose time is over.

    An agent that announced it has killed all by then. So what ran on a host that cannot
    be reached any more is given up without waiting for the fence, which is for those that
    know of nothing.
    """
    for host in world.hosts.values():
        record = host.record
        if not record.reclaimed_at_ms or not host.attempts or now.wall_ms < record.reclaimed_at_ms:
            continue
        if host.is_reachable and not host.is_stopped:
            host.is_stopped = True
            out.extend(SendStop(record.id, attempt_id) for attempt_id in host.attempts)
        elif not host.is_reachable and _has_surely_killed(host, now):
            for attempt in list(host.attempts.values()):
                end_attempt(world, attempt, AttemptEnd(cause=EndCause.RECLAIMED), now, out)


def _has_surely_killed(host: Host, now: Instant) -> bool:
    announced_ms = host.record.facts.reclaimed_at_ms
    return 0 < announced_ms <= now.wall_ms - limits.RECLAIM_MARGIN_MS and not host.clock_off_ms
