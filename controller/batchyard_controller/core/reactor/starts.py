"""What follows for a host when starts on it succeed or fail: whether it is trusted with more."""

from __future__ import annotations

from batchyard.ids import HostId
from batchyard.states import EndCause
from batchyard_controller.core.commands import Happening
from batchyard_controller.core.model.attempts import Attempt, AttemptEnd
from batchyard_controller.core.model.hosts import FailedStart, Host, Lack, Trust
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement import trust
from batchyard_controller.core.world.waiting import stand_apart
from batchyard_controller.core.world.world import World

from .notices import tell_of_host
from .progress import Out


def on_start_succeeded(world: World, unit: Unit, attempt: Attempt, now: Instant) -> None:
    """Trust a host with more starts, and with this image."""
    host = world.hosts[attempt.host_id]
    is_news = not host.trust.proven_until_boot_ms or attempt.host_id in world.fleet.doubted
    trust.note_success(host.trust, now.boot_ms)
    _end_lack(world, host, unit.task.images)
    if is_news:
        _refresh(world, host)


def on_start_failed(world: World, unit: Unit, attempt: Attempt, end: AttemptEnd, now: Instant, out: Out) -> None:
    """Doubt a host on which a start failed for reasons of its own, or ask it no more for an image that it lacks."""
    host = world.hosts[attempt.host_id]
    image = unit.task.images
    if end.cause is EndCause.IMAGE_UNAVAILABLE:
        if image:
            _note_lack(world, host, image, end.reason, now)
        return
    failed = FailedStart(unit_id=attempt.unit_id, reason=end.reason, at_boot_ms=now.boot_ms)
    strikes = host.trust.strikes
    trust.note_failure(host.trust, failed, now.boot_ms)
    if host.trust.strikes > strikes:
        tell_of_host(out, host.record.id, Happening.DOUBTED, now, host.trust.suspicion)
    _refresh(world, host)


def _note_lack(world: World, host: Host, image: str, reason: str, now: Instant) -> None:
    is_first = image not in world.fleet.lacking
    host.trust.lacks[image] = Lack(reason=reason, until_boot_ms=now.boot_ms + trust.LACK_MS)
    world.fleet.note_lack(image, host.record.id)
    world.wants_plan = True
    if is_first:
        stand_apart(world, image)


def _end_lack(world: World, host: Host, image: str) -> None:
    if host.trust.lacks.pop(image, None) is not None:
        world.fleet.end_lack(image, host.record.id)
        world.wants_plan = True


def end_rests(world: World, now: Instant) -> None:
    """Give hosts work again whose rest is over, and ask those for a proof whose last one is old."""
    for host in world.hosts.values():
        for image in [image for image, lack in host.trust.lacks.items() if lack.until_boot_ms <= now.boot_ms]:
            _end_lack(world, host, image)
        if trust.end_rest(host.trust, now.boot_ms):
            _refresh(world, host)


def trust_again(world: World, host: Host) -> None:
    """Forget what is held against a host, as it or its operator says that it is another now."""
    for image in list(host.trust.lacks):
        _end_lack(world, host, image)
    host.trust = Trust()
    _refresh(world, host)


def _refresh(world: World, host: Host) -> None:
    host_id: HostId = host.record.id
    if host.trust.failures:
        world.fleet.doubted.add(host_id)
    else:
        world.fleet.doubted.discard(host_id)
    world.refresh_host(host)
