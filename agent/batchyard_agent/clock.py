"""The one place where the agent reads clocks."""

from __future__ import annotations

import time

from batchyard_agent.core.events import Now


def read_now() -> Now:
    """Return the present time on both clocks."""
    return Now(boot_ms=time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000, wall_ms=read_wall_ms())


def read_wall_ms() -> int:
    """Return milliseconds since 1970."""
    return time.time_ns() // 1_000_000
