"""
Moments: how times are written, in the zone and the style that a reader has chosen.

It must never read a clock: now is an argument.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

STYLES = ("local", "utc", "relative")

_SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """
    How one reader wants times.

    Attributes:
        style: One of ``STYLES``.
        zone: For ``local``.
        now_ms: Since the epoch.
    """

    style: str
    zone: tzinfo
    now_ms: int

    def text(self, at_ms: int) -> str:
        """Return a moment as text; a dash where there is none (0)."""
        if not at_ms:
            return "-"
        if self.style == "relative":
            return ago(self.now_ms - at_ms)
        return self.exact(at_ms)

    def exact(self, at_ms: int) -> str:
        """Return a moment with its zone, to the second."""
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
        if self.style == "local":
            # A host may name the last second of the year 9999, behind which there is none in the east.
            with suppress(OverflowError, ValueError):
                at = at.astimezone(self.zone)
        return at.strftime("%Y-%m-%d %H:%M:%S %Z")


def ago(ms: int) -> str:
    """Return how long ago, or in how long, roughly; as ``3 min ago``."""
    if abs(ms) < 1000:
        return "now"
    return f"{span(ms)} ago" if ms > 0 else f"in {span(-ms)}"


def span(ms: int) -> str:
    """Return a length of time in its two largest units; as ``2 h 5 min``."""
    seconds, parts = max(0, ms) // 1000, []
    for size, unit in _SPANS:
        if seconds >= size:
            parts.append(f"{seconds // size} {unit}")
            seconds %= size
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def iso(at_ms: int) -> str:
    """Return a moment as ``<time datetime>`` wants it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def zone_of(name: str) -> tzinfo:
    """Return a zone by its IANA name; UTC where this machine knows none of that name."""
    try:
        return ZoneInfo(name) if name else UTC
    except (KeyError, ValueError, OSError):  # OSError: a folder of the database, as "Europe"
        return UTC
