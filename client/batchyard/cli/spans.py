"""Spans: how times, sizes and counts are written for a person. Pure; ``now`` is an argument."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_STEPS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_SIZES = {unit: size for size, unit in _STEPS}
_SECONDS = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)([dhms])\s*", re.ASCII)


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
    """Write a point in time in UTC, what clocks here showed if that differs, and how long ago or ahead it is; empty for never."""
    if not at_ms:
        return ""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    here = at.astimezone()
    local = f"{here:%H:%M} {here:%Z}, " if here.utcoffset() else ""
    distance = f"in {span(at_ms - now_ms)}" if at_ms > now_ms else f"{age(at_ms, now_ms)} ago"
    return f"{at:%Y-%m-%d %H:%M:%S}Z ({local}{distance})"


def parse_span(text: str) -> float:
    """
    Read a length of time such as ``90s``, ``15m``, ``2h``, ``1d`` or ``1h 30m`` as seconds.

    A bare number is seconds.

    Raises:
        ValueError: it is none.
    """
    if _SECONDS.fullmatch(text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text).strip():
        raise ValueError(f"{text!r} is not a length of time such as 90s, 15m, 2h or 1d")
    return sum(float(amount) * _SIZES[unit] for amount, unit in parts)


def whole(seconds: float) -> str:
    """Write a length of time as :func:`parse_span` reads it, without loss: ``90s`` is ``1m 30s``."""
    rest, parts = round(seconds), []
    for size, unit in _STEPS:
        amount, rest = divmod(rest, size)
        parts += [f"{amount}{unit}"] if amount else []
    return " ".join(parts) or "0s"


def fence(seconds: int) -> str:
    """Write the fence of a job or a queue; nothing where it has none of its own."""
    return "never" if seconds < 0 else whole(seconds) if seconds else ""


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
