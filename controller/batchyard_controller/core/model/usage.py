"""
Usage sums: what some attempts took and used.

An attempt takes what it holds, from its start to its end: its resources times that
time. What it used is its host's word (`Usage`), 0 where that is not known; memory that was
asked is summed over those attempts alone of which it is known, so that the two compare.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from batchyard.resources import Resources

from .attempts import EndedAttempt


@dataclass(slots=True, kw_only=True)
class UsageSum:
    """
    What some attempts took and used; times in milliseconds.

    Attributes:
        attempts: How many there were.
        failed: Of those that ended with another code than 0, or with none.
        wall_ms: From start to end.
        cpu_asked_ms: vCPUs times wall time.
        cpu_used_ms: Processor time, in user mode and in the kernel.
        gpu_asked_ms: GPUs times wall time.
        memory_asked_mib_s: Memory times wall time, in MiB times seconds, where use is known.
        memory_used_mib_s: The most memory at once times wall time.
        peak_memory_kib: The most that one of them held at once.
        peak_asked_mib: What that one had asked for.
    """

    attempts: int = 0
    failed: int = 0
    wall_ms: int = 0
    cpu_asked_ms: int = 0
    cpu_used_ms: int = 0
    gpu_asked_ms: int = 0
    memory_asked_mib_s: int = 0
    memory_used_mib_s: int = 0
    peak_memory_kib: int = 0
    peak_asked_mib: int = 0

    def add(self, ended: EndedAttempt, held: Resources) -> None:
        """Count an attempt."""
        wall_ms = wall_ms_of(ended)
        used = ended.usage
        self.attempts += 1
        self.failed += ended.exit_code != 0
        self.wall_ms += wall_ms
        self.cpu_asked_ms += held.cpu_millis * wall_ms // 1000
        self.cpu_used_ms += used.user_cpu_ms + used.system_cpu_ms
        self.gpu_asked_ms += held.gpu_millis * wall_ms // 1000
        if used.peak_memory_kib:
            self.memory_asked_mib_s += held.memory_mib * wall_ms // 1000
            self.memory_used_mib_s += used.peak_memory_kib * wall_ms // (1024 * 1000)
        if used.peak_memory_kib > self.peak_memory_kib:
            self.peak_memory_kib, self.peak_asked_mib = used.peak_memory_kib, held.memory_mib

    def merge(self, other: UsageSum) -> None:
        """Count what another counted."""
        for name in _ADDED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.peak_memory_kib > self.peak_memory_kib:
            self.peak_memory_kib, self.peak_asked_mib = other.peak_memory_kib, other.peak_asked_mib


_ADDED = tuple(field.name for field in fields(UsageSum) if not field.name.startswith("peak_"))


def wall_ms_of(ended: EndedAttempt) -> int:
    """Return how long an attempt ran; one that never did took nothing."""
    return max(0, ended.stopped_at_ms - ended.started_at_ms) if ended.started_at_ms else 0
