"""The wall clock, for what is dated by it: certificates and tokens."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def read_wall_s() -> float:
    """Return the seconds of the wall clock."""
    return time.time()


def read_date() -> datetime:
    """Return the same as a date."""
    return datetime.fromtimestamp(time.time(), UTC)
