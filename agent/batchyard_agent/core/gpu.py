"""
GPU claims against the GPUs of this host.

Which GPU an attempt gets is the controller's decision. The agent only refuses
claims that it cannot honour, and makes sure that a job sees its GPUs alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from batchyard.resources import GPU_WHOLE
from batchyard_agent.core.attempts import GpuClaim


def refusal(claims: Iterable[GpuClaim], present: frozenset[str]) -> str:
    """Say why the claims cannot be honoured; empty if they can."""
    seen: set[str] = set()
    for claim in claims:
        if claim.uuid not in present:
            return f"GPU {claim.uuid} is not on this host; it has {', '.join(sorted(present)) or 'no GPUs'}"
        if claim.uuid in seen:
            return f"GPU {claim.uuid} is claimed twice"
        if not 0 < claim.millis <= GPU_WHOLE:
            return f"a claim of {claim.millis} thousandths of GPU {claim.uuid} is not within 1 to {GPU_WHOLE}"
        seen.add(claim.uuid)
    return ""


def fault(claims: Iterable[GpuClaim], faults: Mapping[str, str]) -> str:
    """Say what is wrong with a GPU of the claims; empty if all are well."""
    return next((f"GPU {claim.uuid}: {faults[claim.uuid]}" for claim in claims if claim.uuid in faults), "")


def visibility(claims: Iterable[GpuClaim]) -> dict[str, str]:
    """
    Return the environment that shows an attempt its GPUs and no others.

    An empty CUDA_VISIBLE_DEVICES hides all GPUs from CUDA; ``none`` does so for
    NVIDIA's container runtime.
    """
    uuids = ",".join(claim.uuid for claim in claims)
    return {"NVIDIA_VISIBLE_DEVICES": uuids or "none", "CUDA_VISIBLE_DEVICES": uuids}
