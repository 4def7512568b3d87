"""
Hosts: may this host join, be marked so, be reclaimed and be removed, in the world as it is now?

Laws as in `submissions`.
"""

from __future__ import annotations

from collections.abc import Iterable

from batchyard.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    Reason,
    ResourceExhaustedError,
    Violation,
)
from batchyard.ids import AttemptId, HostId
from batchyard_controller.core import limits
from batchyard_controller.core.events import (
    BrakeReleased,
    HostApproved,
    HostMarked,
    HostReclaimed,
    HostRemoved,
    StrayStopped,
)
from batchyard_controller.core.model.claims import awaited
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.fences import fence_of, has_passed_fence
from batchyard_controller.core.world.world import World

from .checks import Violations, check_range, quote, refuse

ID_BEGINNING_MIN = 4
"""So that a short name that is misspelt is no beginning of an id."""


def check_newcomer(world: World, host_id: HostId, name: str, machine_id: str, now: Instant) -> None:
    """
    Check that a host may join: not as one too many, called like another that is connected, or as a copy of one.

    Raises:
        ResourceExhaustedError, AlreadyExistsError: it may not.
    """
    former = world.hosts.get(host_id)
    if former is not None:
        _check_moved(world, former, machine_id, now)
    if host_id not in world.hosts and len(world.hosts) >= limits.HOSTS_MAX:
        text = f"{limits.HOSTS_MAX} hosts are known already; no more are remembered"
        raise ResourceExhaustedError(text, reason=Reason.TOO_MANY_HOSTS, metadata={"limit": str(limits.HOSTS_MAX)})
    others = (host for host in world.hosts.values() if host.record.id != host_id)
    if any(host.session and host.record.facts.name == name for host in others):
        text = f"another host named {name} is connected; give this one another --name"
        raise AlreadyExistsError(text, reason=Reason.HOST_NAME_TAKEN, metadata={"name": name})


def _check_moved(world: World, host: Host, machine_id: str, now: Instant) -> None:
    """
    Let no agent of another machine answer for attempts that may still run on the host's own.

    A state folder that was copied bears the same host id; whoever is cut off comes back
    before its fence, after which nothing of it runs.
    """
    known = host.record.machine_id
    is_moved = bool(known and machine_id) and known != machine_id
    living = [each for each in host.attempts.values() if not has_passed_fence(world, each, now)]
    if is_moved and living and not host.is_reachable:
        fences_ms = [fence_of(world, host, each.fence_ms) for each in living]
        left_s = (host.heard_boot_ms + max(fences_ms) - now.boot_ms) // 1000 + 1
        until = f"in {left_s} s" if all(fences_ms) else "once that host is removed"
        text = (
            f"{len(living)} attempts count as running on another machine with this one's host id "
            f"{host.record.id}: one's state folder is a copy of the other's; start this one with an empty folder, "
            f"or, if that machine is gone, {until}"
        )
        raise AlreadyExistsError(text, reason=Reason.HOST_TWIN, metadata={"host_id": host.record.id})


def stop_stray(world: World, given: str) -> StrayStopped:
    """
    Have an attempt stopped that a host keeps and that is nobody's.

    Raises:
        NotFoundError: no such attempt.
    """
    stray = world.adoption.strays.get(AttemptId(given))
    if stray is None:
        text = f"no host keeps attempt {quote(given)} that this store does not know; `batchyard restored` lists them"
        raise NotFoundError(text, reason=Reason.STRAY_NOT_FOUND, metadata={"attempt_id": given})
    return StrayStopped(host_id=stray.host_id, attempt_id=stray.attempt_id)


def find_host(world: World, given: str) -> Host:
    """
    Return a host by id, by name, a connected one first, or by the beginning of its id.

    Raises:
        NotFoundError: no such host.
        InvalidArgumentError: several hosts' ids begin so.
    """
    return max(_meant(world, given), key=lambda h: (h.session, h.heard_boot_ms))


def find_host_id(world: World, given: str) -> HostId:
    """
    Return the id of a host as `find_host` finds it; of one that is gone its id, or its name, will do.

    Raises:
        NotFoundError: no such host.
        InvalidArgumentError: several hosts' ids begin so.
    """
    if HostId(given) in world.gone_hosts:
        return HostId(given)
    try:
        return find_host(world, given).record.id
    except NotFoundError:
        gone = [record for record in world.gone_hosts.values() if record.facts.name == given]
        if not gone:
            raise
        return max(gone, key=lambda record: record.gone_at_ms).id


def _meant(world: World, given: str) -> list[Host]:
    """Return the host of an id or its beginning, or all hosts of a name."""
    if (host := world.hosts.get(HostId(given))) is not None:
        return [host]
    named = [host for host in world.hosts.values() if host.record.facts.name == given]
    if named:
        return named
    is_beginning = len(given) >= ID_BEGINNING_MIN
    begun = [host for host in world.hosts.values() if is_beginning and host.record.id.startswith(given)]
    if not begun:
        text = f"host {quote(given)} not found"
        raise NotFoundError(text, reason=Reason.HOST_NOT_FOUND, metadata={"host": given})
    if len(begun) > 1:
        raise _ambiguous(f"the ids of several hosts begin with {given}", begun)
    return begun


def _joined(world: World, given: str) -> HostId | None:
    """Return the host of an id or a name that has joined and was never seen, unless one that was is called so."""
    if any(given in (host.record.id, host.record.facts.name) for host in world.hosts.values()):
        return None
    unseen = [member for member in world.members.values() if member.host_id not in world.hosts]
    return next((member.host_id for member in unseen if given in (member.host_id, member.name)), None)


def _ambiguous(text: str, hosts: Iterable[Host]) -> InvalidArgumentError:
    ids = ", ".join(sorted(host.record.id for host in hosts))
    return InvalidArgumentError.from_violations([Violation("host", f"{text}: {ids}", Reason.INVALID_VALUE)])


def mark_host(world: World, given: str, *, cordoned: bool, draining: bool) -> HostMarked:
    """Admit that a host is cordoned, drained or freed."""
    host = find_host(world, given)
    return HostMarked(host_id=host.record.id, cordoned=cordoned, draining=draining)


def reclaim_host(world: World, given: str, delay_s: int, now: Instant, *, undo: bool) -> HostReclaimed:
    """
    Admit that a host is taken away in so many seconds, or that it is not.

    Raises:
        NotFoundError: no such host.
        InvalidArgumentError: several are meant, or the delay is out of range.
    """
    out: Violations = []
    check_range(out, "delay_s", delay_s, 0, limits.RECLAIM_DELAY_S_MAX, "seconds")
    if undo and delay_s:
        out.append(Violation("delay_s", "cannot be said with undo", Reason.CONFLICT))
    refuse(out)
    host = find_host(world, given)
    return HostReclaimed(host_id=host.record.id, at_ms=0 if undo else now.wall_ms + delay_s * 1000)


def approve_host(world: World, given: str) -> tuple[HostApproved | None, tuple[str, ...]]:
    """
    Admit that what a host says of itself counts; no event where nothing waits for that.

    Returns:
        With the event, what waited.

    Raises:
        NotFoundError: no such host.
        InvalidArgumentError: several hosts' ids begin so.
    """
    host = find_host(world, given)
    is_waiting = host.record.awaiting is not None
    return HostApproved(host_id=host.record.id) if is_waiting else None, awaited(host.record)


def release_brake(world: World) -> tuple[BrakeReleased, int]:
    """
    Wait no longer for hosts that fell silent together.

    Returns:
        The event, and how many hosts were waited for.

    Raises:
        FailedPreconditionError: the brake does not hold.
    """
    if world.brake.since_boot_ms is None:
        raise FailedPreconditionError("the brake does not hold: no host is waited for", reason=Reason.NO_BRAKE)
    return BrakeReleased(), world.brake.silent


def remove_host(world: World, given: str, *, force: bool) -> HostRemoved:
    """
    Admit that a host is forgotten: one that cannot come back, and runs nothing unless *force* says that it cannot.

    Who joined with a token cannot come back without another one, connected or not; who had to show none must be
    stopped first.

    Of several that have the name, as after a machine was set up anew, that is the one which is away.

    Raises:
        NotFoundError: no such host.
        InvalidArgumentError: several are meant that are not connected.
        FailedPreconditionError: it is connected, or attempts count as running on it.
    """
    joined = _joined(world, given)
    if joined is not None:
        return HostRemoved(host_id=joined)
    meant = _meant(world, given)
    away = [host for host in meant if not host.is_reachable]
    if len(away) > 1:
        raise _ambiguous(f"several hosts named {given} are not connected; remove each by its id", away)
    host = (away or meant)[0]
    name, metadata = host.record.facts.name, {"host": given}
    if host.is_reachable and host.record.id not in world.members:
        text = f"host {name} is connected and would be back at once; stop its agent first"
        raise FailedPreconditionError(text, reason=Reason.HOST_CONNECTED, metadata=metadata)
    if host.attempts and not force:
        text = (
            f"{len(host.attempts)} attempts count as running on host {name} until it has surely stopped them; "
            "if it is switched off, remove it by force, and they are lost at once"
        )
        raise FailedPreconditionError(text, reason=Reason.HOST_BUSY, metadata=metadata)
    return HostRemoved(host_id=host.record.id)
