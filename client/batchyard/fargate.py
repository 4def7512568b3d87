"""
Fargate: the sizes of its jobs, in the words of controller and gateway alike.

Source: AWS Batch API reference, ResourceRequirement and EphemeralStorage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MEMORY_MIB: Mapping[int, Sequence[int]] = {
    250: (512, 1024, 2048),
    500: range(1024, 4096 + 1, 1024),
    1000: range(2048, 8192 + 1, 1024),
    2000: range(4096, 16384 + 1, 1024),
    4000: range(8192, 30720 + 1, 1024),
    8000: range(16384, 61440 + 1, 4096),
    16000: range(32768, 122880 + 1, 8192),
    32000: (61440, 122880, 249856),
}
"""Memory that goes with thousandths of a vCPU."""

DISK_MIB = 20 * 1024
"""Ephemeral storage of a job that asks for none."""
DISK_GIB_MIN, DISK_GIB_MAX = 21, 200
"""Ephemeral storage that may be asked for."""


def is_size(cpu_millis: int, memory_mib: int) -> bool:
    """Say whether Fargate has jobs of so many vCPUs with so much memory."""
    return memory_mib in MEMORY_MIB.get(cpu_millis, ())


def not_a_size(cpu_millis: int, memory_mib: int) -> str:
    """Say that Fargate has no such size, as AWS does."""
    return f"Fargate resource requirements ({cpu_millis / 1000:.2f} vCPU, {memory_mib} MiB) not valid."
