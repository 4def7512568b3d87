"""Values that records are made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """
    One moment, as an argument of every decision.

    Attributes:
        wall_ms: Milliseconds since the epoch; recorded and shown, never compared
            with another machine's.
        boot_ms: Milliseconds of a clock that only rises; timers use it.
    """

    wall_ms: int
    boot_ms: int


def utc(wall_ms: int) -> str:
    """Write a moment for people, to the second."""
    return datetime.fromtimestamp(wall_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class ResourceKind(StrEnum):
    """What can be tagged."""

    JOB = "JOB"
    JOB_QUEUE = "JOB_QUEUE"
    JOB_DEFINITION = "JOB_DEFINITION"
    COMPUTE_ENVIRONMENT = "COMPUTE_ENVIRONMENT"
    SCHEDULING_POLICY = "SCHEDULING_POLICY"
    CONSUMABLE_RESOURCE = "CONSUMABLE_RESOURCE"
    QUOTA_SHARE = "QUOTA_SHARE"
