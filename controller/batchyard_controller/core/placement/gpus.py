"""GPUs: which of a host's GPUs a claim takes, and how many claims they can take."""

from __future__ import annotations

from collections.abc import Mapping

from batchyard.resources import GPU_WHOLE
from batchyard_controller.core.model.attempts import GpuClaim


def choose_gpus(free: Mapping[str, int], asked: int) -> tuple[GpuClaim, ...]:
    """Take whole GPUs that are quite free, or the tightest one that has the part left."""
    if asked == 0:
        return ()
    if asked >= GPU_WHOLE:
        whole = [uuid for uuid, left in free.items() if left == GPU_WHOLE][: asked // GPU_WHOLE]
        return tuple(GpuClaim(uuid=uuid, millis=GPU_WHOLE) for uuid in whole)
    _, uuid = min((left, uuid) for uuid, left in free.items() if left >= asked)
    return (GpuClaim(uuid=uuid, millis=asked),)


def gpu_room(free: Mapping[str, int], asked: int) -> int:
    """Return how many jobs that ask for so much GPU the GPUs of one host can take."""
    if asked >= GPU_WHOLE:
        return sum(left == GPU_WHOLE for left in free.values()) // (asked // GPU_WHOLE)
    return sum(left // asked for left in free.values())
