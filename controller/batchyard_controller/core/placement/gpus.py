"""GPUs: which of a host's GPUs a claim takes, and how much of them a job can still be given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchyard.resources import GPU_WHOLE
from batchyard_controller.core.model.attempts import GpuClaim

NOTHING_LOST: Sequence[int] = (0,) * (GPU_WHOLE + 1)
"""What remainders are worth where no prices say it."""


def choose_gpus(free: Mapping[str, int], asked: int, remainders: Sequence[int] = NOTHING_LOST) -> tuple[GpuClaim, ...]:
    """
    Take whole GPUs that are quite free, or for a part the one whose remainder loses least, of equal ones the tightest.

    Args:
        free: Thousandths left of each GPU of a host that has room.
        asked: Thousandths.
        remainders: What is worth what is left of a GPU, by thousandths.
    """
    if asked == 0:
        return ()
    if asked >= GPU_WHOLE:
        whole = [uuid for uuid, left in free.items() if left == GPU_WHOLE][: asked // GPU_WHOLE]
        return tuple(GpuClaim(uuid=uuid, millis=GPU_WHOLE) for uuid in whole)
    _, _, uuid = min(
        (remainders[left] - remainders[left - asked], left, uuid) for uuid, left in free.items() if left >= asked
    )
    return (GpuClaim(uuid=uuid, millis=asked),)


def gpu_levels(free: Mapping[str, int]) -> tuple[int, int]:
    """Return how many of a host's GPUs are quite free, and the most that is left of one."""
    return sum(left == GPU_WHOLE for left in free.values()), max(free.values(), default=0)


def gpu_needs(asked: int) -> tuple[int, int]:
    """Return how many quite free GPUs, and how much of one, a job needs that asks for so much."""
    return (asked // GPU_WHOLE, 0) if asked >= GPU_WHOLE else (0, asked)
