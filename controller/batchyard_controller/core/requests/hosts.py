"""
Hosts: may this host join, be marked so and be removed, in the world as it is now?

Laws as in `submissions`.
"""

from __future__ import annotations

from batchyard.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError, Reason, ResourceExhaustedError
from batchyard.ids import HostId
from batchyard_controller.core import limits
from batchyard_controller.core.events import HostMarked, HostRemoved
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World

from .checks import quote


def check_newcomer(world: World, host_id: HostId, name: str, machine_id: str, now: Instant) -> None:
    """
    Check that a host may join: not as one too many, called like another that is connected, or as a copy of one.

    Raises:
        ResourceExhaustedError, AlreadyExistsError: it may not.
    """
    former = world.hosts.get(host_id)
    if former is not None:
        _check_moved(former, machine_id, now)
    if host_id not in world.hosts and len(world.hosts) >= limits.HOSTS_MAX:
        text = f"{limits.HOSTS_MAX} hosts are known already; no more are remembered"
        raise ResourceExhaustedError(text, reason=Reason.TOO_MANY_HOSTS, metadata={"limit": str(limits.HOSTS_MAX)})
    others = (host for host in world.hosts.values() if host.record.id != host_id)
    if any(host.session and host.record.facts.name == name for host in others):
        text = f"another host named {name} is connected; give this one another --name"
        raise AlreadyExistsError(text, reason=Reason.HOST_NAME_TAKEN, metadata={"name": name})


def _check_moved(host: Host, machine_id: str, now: Instant) -> None:
    """
    Let no agent of another machine answer for attempts that may still run on the host's own.

    A state folder that was copied bears the same host id; whoever is cut off comes back
    before its fence, after which nothing of it runs.
    """
    known, fence_ms = host.record.machine_id, limits.FENCE_MS + limits.FENCE_MARGIN_MS
    is_moved = bool(known and machine_id) and known != machine_id
    if is_moved and host.attempts and not host.is_reachable and not host.is_silent(now, fence_ms):
        left_s = (host.heard_boot_ms + fence_ms - now.boot_ms) // 1000 + 1
        text = (
            f"{len(host.attempts)} attempts count as running on another machine with this one's host id "
            f"{host.record.id}: one's state folder is a copy of the other's; start this one with an empty folder, "
            f"or, if that machine is gone, in {left_s} s"
        )
        raise AlreadyExistsError(text, reason=Reason.HOST_TWIN, metadata={"host_id": host.record.id})


def find_host(world: World, name_or_id: str) -> Host:
    """Return a host by id, or by name, a connected one first; or raise NotFoundError."""
    host = world.hosts.get(HostId(name_or_id))
    if host is None:
        named = [h for h in world.hosts.values() if h.record.facts.name == name_or_id]
        host = max(named, key=lambda h: (h.session, h.heard_boot_ms), default=None)
    if host is None:
        text = f"host {quote(name_or_id)} not found"
        raise NotFoundError(text, reason=Reason.HOST_NOT_FOUND, metadata={"host": name_or_id})
    return host


def mark_host(world: World, name_or_id: str, *, cordoned: bool, draining: bool) -> HostMarked:
    """Admit that a host is cordoned, drained or freed."""
    host = find_host(world, name_or_id)
    return HostMarked(host_id=host.record.id, cordoned=cordoned, draining=draining)


def remove_host(world: World, name_or_id: str, *, force: bool) -> HostRemoved:
    """
    Admit that a host is forgotten: one that is not connected, and runs nothing unless *force* says that it cannot.

    Raises:
        NotFoundError: no such host.
        FailedPreconditionError: it is connected, or attempts count as running on it.
    """
    host = find_host(world, name_or_id)
    name, metadata = host.record.facts.name, {"host": name_or_id}
    if host.is_reachable:
        text = f"host {name} is connected and would be back at once; stop its agent first"
        raise FailedPreconditionError(text, reason=Reason.HOST_CONNECTED, metadata=metadata)
    if host.attempts and not force:
        text = (
            f"{len(host.attempts)} attempts count as running on host {name} until it has surely stopped them; "
            "if it is switched off, remove it by force, and they are lost at once"
        )
        raise FailedPreconditionError(text, reason=Reason.HOST_BUSY, metadata=metadata)
    return HostRemoved(host_id=host.record.id)
