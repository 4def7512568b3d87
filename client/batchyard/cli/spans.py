"""Spans: how times, sizes and counts are written for a person. Pure; ``now`` is an argument."""

from __future__ import annotations

from datetime import UTC, datetime

_STEPS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def span(ms: int) -> str:
    """Write a length of time with its two largest units: ``1d 4h``, ``12m 5s``, ``42s``, ``0.3s``."""
    if ms < 0:
        return "0s"
    if ms < 1000:
        return "0s" if ms < 50 else f"{ms / 1000:.1f}s"
    rest, parts = ms // 1000, []
    for size, unit in _STEPS:
        amount, rest = divmod(rest, size)
        if amount:
            parts.append(f"{amount}{unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def age(at_ms: int, now_ms: int) -> str:
    """Write how long ago something was; ``-`` for never."""
    return span(now_ms - at_ms) if at_ms else "-"


def duration(started_at_ms: int, stopped_at_ms: int, now_ms: int) -> str:
    """Write how long something ran, or has been running; ``-`` when it never did."""
    return span((stopped_at_ms or now_ms) - started_at_ms) if started_at_ms else "-"


def moment(at_ms: int, now_ms: int) -> str:
    """Write a point in time in UTC and how long ago that was; empty for never."""
    if not at_ms:
        return ""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}Z ({age(at_ms, now_ms)} ago)"


def millis(amount: int) -> str:
    """Write thousandths as a count: ``2``, ``0.5``."""
    return f"{amount / 1000:.3f}".rstrip("0").rstrip(".")


def mib(amount: int, *, asked: bool = False) -> str:
    """
    Write mebibytes: ``512M``, ``4G``, ``1.5T``.

    What there is (free, used, held) is rounded down and what is *asked* for is rounded
    up, so that nothing seems to fit that does not.
    """
    for size, unit in ((1 << 20, "T"), (1 << 10, "G")):
        if amount >= size:
            tenths = -(-amount * 10 // size) if asked else amount * 10 // size
            return f"{tenths / 10:.1f}".removesuffix(".0") + unit
    return f"{amount}M"
