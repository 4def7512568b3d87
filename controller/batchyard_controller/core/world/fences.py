"""After how long a silence of its host an attempt has surely ended."""

from __future__ import annotations

from batchyard.features import ATTEMPT_FENCES
from batchyard_controller.core import limits
from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.model.hosts import Host, longer_fence, told_fence
from batchyard_controller.core.model.values import Instant

from .world import World


def fence_of(world: World, host: Host, own_ms: int | None = None) -> int:
    """
    Return after how long a silence of a host an attempt runs there no more, whichever leader it heard last.

    Args:
        world: What is told to hosts for all.
        host: Where it runs.
        own_ms: The attempt's own fence; 0: never; None: it has none.

    Returns:
        Milliseconds, what is waited for beyond the fence included; 0: never.
    """
    fence_ms = longer_fence(host.record.fence_ms, told_fence(host.record.facts, world.fence_ms))
    if own_ms is not None:
        # An older agent does not know of it, and goes by the other.
        is_kept = ATTEMPT_FENCES in host.record.facts.features
        fence_ms = own_ms if is_kept else longer_fence(fence_ms, own_ms)
    return fence_ms + limits.fence_margin_ms(fence_ms) if fence_ms else 0


def has_passed_fence(world: World, attempt: Attempt, now: Instant) -> bool:
    """Say whether an attempt has surely ended, as its host was silent for so long."""
    host = world.hosts[attempt.host_id]
    fence_ms = fence_of(world, host, attempt.fence_ms)
    return fence_ms > 0 and host.is_silent(now, fence_ms)
