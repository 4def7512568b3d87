"""Suspicion: what is held against a host, for those who look."""

from __future__ import annotations

from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.placement.trust import is_suspected
from batchyard_controller.core.world.world import World


def held_against(world: World, host: Host) -> tuple[str, int]:
    """
    Return what is held against a host, and until when by the clock that only rises; nothing, and 0, of others.

    That it cannot get an image counts as long as another host has not failed to.
    """
    if is_suspected(host.trust):
        return host.trust.suspicion, host.trust.rests_until_boot_ms
    told = [(image, lack) for image, lack in host.trust.lacks.items() if _others_may_have(world, image)]
    if not told:
        return "", 0
    image, lack = told[-1]
    more = f", and {len(told) - 1} more" if len(told) > 1 else ""
    return f"cannot get image {image}{more}: {lack.reason}", lack.until_boot_ms


def _others_may_have(world: World, image: str) -> bool:
    lacking = world.fleet.lacking[image]
    return any(other.is_reachable and other.record.id not in lacking for other in world.hosts.values())
