"""What follows for a host when starts on it succeed or fail: whether it is trusted with more."""

from __future__ import annotations

from batchyard.ids import HostId
from batchyard.states import EndCause
from batchyard_controller.core.model.attempts import Attempt, AttemptEnd
from batchyard_controller.core.model.hosts import FailedStart, Host, Trust
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement import trust
from batchyard_controller.core.world.waiting import has_other_taker
from batchyard_controller.core.world.world import World


def on_start_succeeded(world: World, unit: Unit, attempt: Attempt, now: Instant) -> None:
    """Trust a host with more starts; doubt others that failed this image, which is now known to be had."""
    image = unit.task.main.image
    host = world.hosts[attempt.host_id]
    was_proven = host.trust.proven_until_boot_ms > 0
    trust.note_success(host.trust, image, now.boot_ms)
    doubted = [each for each in world.fleet.doubted if image and _has_failed(world, each, image)]
    news = [each for each in doubted if not world.images.elsewhere(image, each) and each != attempt.host_id]
    world.images.add(image, attempt.host_id)
    for host_id in news:
        trust.judge(world.hosts[host_id].trust, world.images, host_id, now.boot_ms)
        _refresh(world, host_id)
    if not was_proven or attempt.host_id in world.fleet.doubted:
        _refresh(world, attempt.host_id)


def on_start_failed(world: World, unit: Unit, attempt: Attempt, end: AttemptEnd, now: Instant) -> None:
    """Doubt a host on which a start failed for reasons of its own; two that lack an image that nobody has are acquitted."""
    host_id = attempt.host_id
    image = unit.task.main.image if end.cause is EndCause.IMAGE_UNAVAILABLE else ""
    if image and not world.images.elsewhere(image, host_id):
        others = [each for each in world.fleet.doubted if each != host_id and _has_failed(world, each, image)]
        for each in others:
            trust.acquit(world.hosts[each].trust, image)
            _refresh(world, each)
        if others or not has_other_taker(world, unit, attempt):
            return
    failed = FailedStart(unit_id=attempt.unit_id, image=image, reason=end.reason, at_boot_ms=now.boot_ms)
    mine = world.hosts[host_id].trust
    trust.note_failure(mine, failed, now.boot_ms)
    trust.judge(mine, world.images, host_id, now.boot_ms)
    _refresh(world, host_id)


def end_rests(world: World, now: Instant) -> None:
    """Give hosts work again whose rest is over, and ask those for a proof whose last one is old."""
    for host in world.hosts.values():
        if trust.end_rest(host.trust, now.boot_ms):
            _refresh(world, host.record.id)


def trust_again(world: World, host: Host) -> None:
    """Forget what is held against a host, as it or its operator says that it is another now."""
    host.trust = Trust()
    _refresh(world, host.record.id)


def _has_failed(world: World, host_id: HostId, image: str) -> bool:
    return any(failed.image == image for failed in world.hosts[host_id].trust.failures)


def _refresh(world: World, host_id: HostId) -> None:
    host = world.hosts[host_id]
    if host.trust.failures:
        world.fleet.doubted.add(host_id)
    else:
        world.fleet.doubted.discard(host_id)
    world.refresh_host(host)
