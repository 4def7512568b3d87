"""Refusals: what stands against placing a unit, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from batchyard.ids import JobId


class Block(StrEnum):
    """AWS's codes for why the first in line cannot be placed (Batch User Guide, "Jobs stuck in a RUNNABLE status")."""

    NO_CAPACITY = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
    BEYOND_ENVIRONMENTS = "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"
    BEYOND_HOSTS = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"
    NO_HOST_SELECTED = "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED"
    ENVIRONMENTS_DISABLED = "ACTION_REQUIRED"
    UNDETERMINED = "UNDETERMINED"


LIMITED_BLOCKS = (Block.NO_CAPACITY, Block.BEYOND_ENVIRONMENTS, Block.BEYOND_HOSTS, Block.NO_HOST_SELECTED)
"""Those that a queue may bound in time (AWS: jobStateTimeLimitActions)."""

HOPELESS_BLOCKS = (Block.BEYOND_ENVIRONMENTS, Block.BEYOND_HOSTS, Block.NO_HOST_SELECTED, Block.ENVIRONMENTS_DISABLED)
"""Those that no end of what runs now takes away."""

UNITS = {
    "cpu_millis": (1000, "vCPU"),
    "memory_mib": (1, "MiB memory"),
    "gpu_millis": (1000, "GPU"),
    "disk_mib": (1, "MiB disk"),
}
"""How amounts are told: how many of a kind are one of its unit, and its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """
    What one resource or rule says about a job that waits.

    Attributes:
        kind: A resource's name, or ``hosts``, ``environments``, ``max_vcpus``, ``queue_limit``, ``share_limit``, ``quota_share``,
            ``consumable``, ``gang``, ``scaling``, ``reservation``, ``kept``, ``share_reservation``, ``order``, ``room``, ``approval``.
        free: Sum over the hosts that the job may use.
        largest_free: Most that one of them has free.
        largest_capacity: Most that one of them could have, those that are away included.
        block: What all refusals of one job amount to; None of a job that has no queue, or that a cap of its
            queue or share holds back.
    """

    kind: str
    message: str
    asked: int = 0
    free: int = 0
    largest_free: int = 0
    largest_capacity: int = 0
    block: Block | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """
    What kept a unit from room that there was, as a plan found it.

    Attributes:
        job_id: Whose unit, with *index*, was promised it; None: it is kept for shares without jobs.
        is_bound: It is vCPUs of an environment's bound that are kept, and not a host.
    """

    job_id: JobId | None = None
    index: int | None = None
    is_bound: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedHead:
    """
    Who could not be placed at the head of a queue; never stored.

    Attributes:
        since_boot_ms: When that was first seen, on our clock.
        is_told: Whether who follows the yard's events was told.
    """

    unit_id: JobId
    block: Block
    since_boot_ms: int
    is_told: bool = False
