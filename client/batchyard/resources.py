"""
Resources: integer amounts of what a job asks for and a host offers.

Amounts are whole thousandths (CPU, GPU) or mebibytes (memory, disk), never
floats, so that sums are exact.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from decimal import Decimal

GPU_WHOLE = 1000
"""Thousandths in one GPU."""

RESOURCE_KINDS = ("cpu_millis", "memory_mib", "gpu_millis", "disk_mib")

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE | re.ASCII)
_MIB_PER_UNIT = {"": Decimal(1), "k": Decimal(1) / 1024, "m": Decimal(1), "g": Decimal(1024), "t": Decimal(1024**2)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """
    Amounts of each schedulable resource.

    Attributes:
        cpu_millis: Thousandths of a vCPU.
        memory_mib: Mebibytes of memory.
        gpu_millis: Thousandths of a GPU; below 1000 shares one GPU, else a
            multiple of 1000.
        disk_mib: Mebibytes of disk.
    """

    cpu_millis: int = 0
    memory_mib: int = 0
    gpu_millis: int = 0
    disk_mib: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def __sub__(self, other: Resources) -> Resources:
        return Resources(**{f.name: getattr(self, f.name) - getattr(other, f.name) for f in fields(self)})

    def __mul__(self, times: int) -> Resources:
        return Resources(**{f.name: times * getattr(self, f.name) for f in fields(self)})

    def fits_in(self, free: Resources) -> bool:
        """Say whether every amount is at most the one in *free*."""
        return all(getattr(self, f.name) <= getattr(free, f.name) for f in fields(self))


NOTHING = Resources()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """
    What an attempt has used, as far as its host can say; 0: that is unknown, or nothing.

    Attributes:
        peak_memory_kib: The most memory that it held at once, in KiB.
        user_cpu_ms, system_cpu_ms: Processor time of its processes, in their own code and in the kernel.
    """

    peak_memory_kib: int = 0
    user_cpu_ms: int = 0
    system_cpu_ms: int = 0

    def __add__(self, other: Usage) -> Usage:
        """What both have used; of memory that is as much as they may have held at once."""
        return Usage(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


NO_USAGE = Usage()
"""Nothing is known."""


def parse_millis(text: str) -> int:
    """
    Read a count such as ``2``, ``0.5`` or ``1.25`` as thousandths.

    Raises:
        ValueError: if it is no number, or finer than a thousandth.
    """
    try:
        millis = Decimal(text) * 1000
    except ArithmeticError:
        raise ValueError(f"{text!r} is not a number") from None
    if not millis.is_finite() or millis != millis.to_integral_value():
        raise ValueError(f"{text!r} is not a multiple of 0.001")
    return int(millis)


def parse_mib(text: str) -> int:
    """
    Read a size such as ``512``, ``512M``, ``4G`` or ``1.5GiB`` as mebibytes.

    A bare number is mebibytes. The result is rounded up.

    Raises:
        ValueError: if it is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 512M or 4G")
    mib = Decimal(match[1]) * _MIB_PER_UNIT[match[2].lower()]
    return int(mib.to_integral_value(rounding="ROUND_CEILING"))
