"""The client's wall clock; everything else gets the time as an argument."""

from __future__ import annotations

import time


def read_wall_s() -> float:
    """Return seconds since the epoch."""
    return time.time()
