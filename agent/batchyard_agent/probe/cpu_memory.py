"""
What this host is and does: CPUs, memory, disk, boot.

Reading (``read_facts``, ``read_usage``) and understanding what was read (the rest) are
apart. It knows nothing of attempts. Law: it never offers more than the agent itself may
use, so CPU affinity and the limits of every cgroup above the agent count.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from batchyard_agent.runtimes.cgroup import own_folders

_MIB = 1 << 20
_ARCHITECTURES = {"x86_64": "X86_64", "aarch64": "ARM64"}
"""AWS's words (RuntimePlatform) by the kernel's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """
    What a host is; changes rarely.

    Attributes:
        cpu_millis: Thousandths of CPUs that the agent may use.
        memory_mib: All memory that the agent may use, used or not.
        disk_mib: Free now, at the path asked for.
        boot_id: A new one at every boot.
        cpu_architecture: As AWS calls it, where it does: X86_64, ARM64.
        cpu_model: As the CPU calls itself, else the machine's architecture.
        operating_system: Name and version of the distribution, and of the kernel.
    """

    cpu_millis: int
    memory_mib: int
    disk_mib: int
    boot_id: str
    cpu_architecture: str
    cpu_model: str
    operating_system: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostUsage:
    """
    What a host does now.

    Attributes:
        cpu_percent: Of all CPUs, since the last reading; 0 at the first.
        memory_used_mib: What could not be given to a new process.
        disk_free_mib: At the path asked for.
    """

    cpu_percent: int
    memory_used_mib: int
    disk_free_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupLimits:
    """The smallest limits above a process; None: there is none."""

    cpu_millis: int | None
    memory_mib: int | None


def read_facts(disk_path: Path) -> HostFacts:
    """
    Read what this host is.

    Raises:
        OSError: *disk_path* does not exist.
    """
    limits = read_cgroup_limits(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    cpu_millis = len(os.sched_getaffinity(0)) * 1000
    memory_mib = psutil.virtual_memory().total // _MIB
    return HostFacts(
        cpu_millis=_smallest([cpu_millis, limits.cpu_millis]) or cpu_millis,
        memory_mib=_smallest([memory_mib, limits.memory_mib]) or memory_mib,
        disk_mib=psutil.disk_usage(str(disk_path)).free // _MIB,
        boot_id=read_boot_id(),
        cpu_architecture=_ARCHITECTURES.get(platform.machine(), platform.machine().upper()),
        cpu_model=parse_cpu_model(Path("/proc/cpuinfo").read_text()) or platform.machine(),
        operating_system=_operating_system(),
    )


def read_usage(disk_path: Path) -> HostUsage:
    """Read what this host does now."""
    memory = psutil.virtual_memory()
    return HostUsage(
        cpu_percent=round(psutil.cpu_percent(interval=None)),
        memory_used_mib=(memory.total - memory.available) // _MIB,
        disk_free_mib=psutil.disk_usage(str(disk_path)).free // _MIB,
    )


def read_disk_free_mib(path: Path) -> int:
    """Return what is free on a disk."""
    return psutil.disk_usage(str(path)).free // _MIB


def read_boot_id() -> str:
    """Return the id of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def read_machine_id() -> str:
    """Return the id of this installation of an operating system (machine-id(5)); empty where there is none."""
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""


def read_cgroup_limits(mountinfo: str, own: str) -> CgroupLimits:
    """
    Read the smallest limits of this process's cgroup and all above it.

    Args:
        mountinfo: Content of /proc/self/mountinfo.
        own: Content of /proc/self/cgroup.
    """
    folders = own_folders(mountinfo, own)
    cpu = [
        *(
            parse_cpu_v1(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))
            for folder in _upwards(folders.get("cpu"))
        ),
        *(parse_cpu_v2(_read(folder / "cpu.max")) for folder in _upwards(folders.get(""))),
    ]
    memory = [
        *(parse_memory(_read(folder / "memory.limit_in_bytes")) for folder in _upwards(folders.get("memory"))),
        *(parse_memory(_read(folder / "memory.max")) for folder in _upwards(folders.get(""))),
    ]
    return CgroupLimits(cpu_millis=_smallest(cpu), memory_mib=_smallest(memory))


def parse_cpu_v1(quota_us: str, period_us: str) -> int | None:
    """Understand cpu.cfs_quota_us (-1: no limit) and cpu.cfs_period_us; empty where there is no such file."""
    if not quota_us.strip() or not period_us.strip() or int(quota_us) <= 0:
        return None
    return int(quota_us) * 1000 // int(period_us)


def parse_cpu_v2(cpu_max: str) -> int | None:
    """Understand cpu.max, such as ``max 100000`` or ``150000 100000``; empty where there is no such file."""
    quota_us, _, period_us = cpu_max.strip().partition(" ")
    return None if quota_us in {"", "max"} else parse_cpu_v1(quota_us, period_us)


def parse_memory(limit: str) -> int | None:
    """
    Understand memory.max or memory.limit_in_bytes; empty where there is no such file.

    Version 1 says "no limit" by a number that no machine has.
    """
    if limit.strip() in {"", "max"} or int(limit) >= 1 << 60:
        return None
    return int(limit) // _MIB


def parse_cpu_model(cpuinfo: str) -> str:
    """Find the CPU's name in /proc/cpuinfo; empty where the kernel gives none (ARM)."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return ""


def _operating_system() -> str:
    try:
        distribution = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:  # a bare system without /etc/os-release
        distribution = platform.system()
    return f"{distribution}, Linux {platform.release()}"


def _upwards(folder: Path | None) -> Iterator[Path]:
    """Yield a cgroup's folder and those above it; above the mount there are no such files."""
    if folder is not None:
        yield folder
        yield from folder.parents


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _smallest(limits: Iterable[int | None]) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
