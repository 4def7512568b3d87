"""The clocks: that of the wall for what is dated by it, as certificates and tokens; boottime for how long something took."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def read_wall_s() -> float:
    """Return the seconds of the wall clock."""
    return time.time()


def read_date() -> datetime:
    """Return the same as a date."""
    return datetime.fromtimestamp(time.time(), UTC)


def read_boot_ms() -> int:
    """Return CLOCK_BOOTTIME, which only rises."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
