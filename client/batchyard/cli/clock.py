"""The command line's clocks; everything else gets the time as an argument."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def now_s() -> float:
    """Return seconds of a clock that nobody sets; only differences mean something."""
    return time.monotonic()
