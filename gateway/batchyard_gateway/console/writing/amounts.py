"""Amounts: how vCPUs, memory, GPUs and counts are written for a person."""

from __future__ import annotations

from batchyard.v1.resources_pb2 import Resources

_UNITS = ("MiB", "GiB", "TiB", "PiB")


def count(number: float) -> str:
    """Return a number with its thousands apart, without a fraction where it has none; as ``12,500`` or ``0.25``."""
    return f"{number:,.3f}".rstrip("0").rstrip(".") if number % 1 else f"{int(number):,}"


def millis(amount: float) -> str:
    """Return thousandths as a count; as ``2`` or ``0.5``."""
    return count(round(amount) / 1000)


def fence(seconds: int) -> str:
    """Write the fence of a job or a queue; nothing where it has none of its own."""
    return "never" if seconds < 0 else f"{seconds:,} s" if seconds else ""


def memory(mib: float) -> str:
    """Return mebibytes in the largest unit that leaves 1 or more; as ``1.5 GiB``."""
    amount, unit = float(mib), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{f'{amount:.1f}'.removesuffix('.0')} {_UNITS[unit]}"


def share(part: float, whole: float) -> int:
    """Return how much of the whole a part is, in whole per cent; 0 of nothing."""
    return round(100 * part / whole) if whole else 0


def held(allocated: Resources, capacity: Resources) -> list[tuple[str, str, int]]:
    """Return name, words and per cent of each kind of resource that there is: what is held, of what there is."""
    rows = [
        ("vCPUs", millis(allocated.cpu_millis), millis(capacity.cpu_millis), allocated.cpu_millis, capacity.cpu_millis),
        (
            "memory",
            memory(allocated.memory_mib),
            memory(capacity.memory_mib),
            allocated.memory_mib,
            capacity.memory_mib,
        ),
        ("GPUs", millis(allocated.gpu_millis), millis(capacity.gpu_millis), allocated.gpu_millis, capacity.gpu_millis),
    ]
    return [
        (name, f"{used} of {all_}", share(part, whole))
        for name, used, all_, part, whole in rows
        if whole or name != "GPUs"
    ]
