"""
Cgroups: a memory limit, a share of the CPUs and a bound on processes for each attempt.

It plans them, and the keeper makes them as it starts what is to be in them. Knows the kernel's control files and nothing of attempts' lives. An attempt's cgroup is
``batchyard/<name>`` below the agent's own cgroup, so that limits set on the agent's
service hold for all it runs, and nothing outside of it is ever touched.

Version 1 needs the memory and cpu hierarchies writable. Version 2 needs both
controllers delegated, and a cgroup that hands controllers down may hold no processes.
So the agent sits in the leaf ``agent`` (systemd 254 and newer: ``Delegate=yes``,
``DelegateSubgroup=agent``). Older systemd could not restart an agent whose cgroup has
handed controllers down; there attempts' cgroups are made at the top of the hierarchy,
which needs root. An agent that is alone in a top cgroup (a container) moves itself
into the leaf.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PARENT = "batchyard"
LEAF = "agent"

_MIB = 1 << 20
_PERIOD_US = 100_000
_QUOTA_US_MIN = 1_000
_SHARES_MIN, _SHARES_MAX = 2, 262_144

PIDS_MAX = 16_384
"""Processes and threads of one attempt: beyond what jobs have, and well below what a machine has (32,768 at least)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What one attempt may use.

    Attributes:
        cpu_millis: Quota and weight; 0: none.
        memory_mib: Hard limit; 0: none.
        swap_mib: Swap on top of it, where the kernel counts swap.
        swappiness: 0 to 100; None leaves it. Version 1 only.
    """

    cpu_millis: int
    memory_mib: int
    swap_mib: int = 0
    swappiness: int | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """
    What is to be written into a control file.

    Attributes:
        may_be_missing: ``1``: not every kernel has the file; else empty.
    """

    path: str
    value: str
    may_be_missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    How the cgroup of one attempt is made.

    Attributes:
        folders: To be made; by them it is known from then on. The first one says who is in it.
        writes: In this order, once all are made.
        joins: Files into which a process writes 0 to move itself there. In version 1 that is
            ``tasks``: moving only the writer spares the kernel a wait for all processors.
    """

    folders: tuple[str, ...]
    writes: tuple[Write, ...]
    joins: tuple[str, ...]


class CgroupUnavailableError(Exception):
    """No cgroup can be made for attempts here; the text says why."""


class CgroupParent(Protocol):
    """Where attempts' cgroups are made."""

    @property
    def enforcement(self) -> str:
        """``cgroup-v1`` or ``cgroup-v2``."""

    def plan(self, name: str, limits: Limits) -> Plan:
        """Say how the cgroup of that name is made."""

    def folders(self, name: str) -> tuple[str, ...]:
        """Return the folders of the cgroup of that name."""

    def remove_empty(self) -> None:
        """Remove the parent itself, if no attempt's cgroup is left in it."""


@dataclass(frozen=True, slots=True)
class CgroupV1:
    """Parent folders in the memory and the cpu hierarchy, and in that of pids if it can be had."""

    memory: Path
    cpu: Path
    pids: Path | None = None
    enforcement: str = "cgroup-v1"

    def folders(self, name: str) -> tuple[str, ...]:
        """See ``CgroupParent``."""
        return tuple(str(parent / name) for parent in self._parents)

    def plan(self, name: str, limits: Limits) -> Plan:
        """See ``CgroupParent``."""
        memory, cpu = f"{self.memory}/{name}", f"{self.cpu}/{name}"
        writes = []
        if limits.memory_mib:
            writes.append(Write(f"{memory}/memory.limit_in_bytes", str(limits.memory_mib * _MIB)))
            swap = (limits.memory_mib + limits.swap_mib) * _MIB
            # The kernel counts swap only when told at boot.
            writes.append(Write(f"{memory}/memory.memsw.limit_in_bytes", str(swap), "1"))
        if limits.swappiness is not None:
            writes.append(Write(f"{memory}/memory.swappiness", str(limits.swappiness)))
        if limits.cpu_millis:
            writes.append(Write(f"{cpu}/cpu.cfs_period_us", str(_PERIOD_US)))
            writes.append(Write(f"{cpu}/cpu.cfs_quota_us", str(_quota_us(limits.cpu_millis))))
            writes.append(Write(f"{cpu}/cpu.shares", str(_shares(limits.cpu_millis))))
        if self.pids:
            writes.append(Write(f"{self.pids}/{name}/pids.max", str(PIDS_MAX)))
        folders = self.folders(name)
        return Plan(folders=folders, writes=tuple(writes), joins=tuple(f"{folder}/tasks" for folder in folders))

    @property
    def _parents(self) -> list[Path]:
        return [self.memory, self.cpu, *([self.pids] if self.pids else [])]

    def remove_empty(self) -> None:
        """See ``CgroupParent``."""
        for parent in self._parents:
            _remove_if_empty(parent)


@dataclass(frozen=True, slots=True)
class CgroupV2:
    """
    Parent folder in the one hierarchy, which hands controllers down.

    Attributes:
        controllers: As they are handed down: ``+memory +cpu +pids``.
    """

    parent: Path
    controllers: str = "+memory +cpu"
    enforcement: str = "cgroup-v2"

    def folders(self, name: str) -> tuple[str, ...]:
        """See ``CgroupParent``."""
        return (str(self.parent / name),)

    def plan(self, name: str, limits: Limits) -> Plan:
        """See ``CgroupParent``."""
        folder = f"{self.parent}/{name}"
        # The parent may have been removed as empty, and made anew just now.
        writes = [Write(f"{self.parent}/cgroup.subtree_control", self.controllers)]
        if limits.memory_mib:
            writes.append(Write(f"{folder}/memory.max", str(limits.memory_mib * _MIB)))
            # A kernel without swap accounting has no such file.
            writes.append(Write(f"{folder}/memory.swap.max", str(limits.swap_mib * _MIB), "1"))
        if limits.cpu_millis:
            weight = 1 + (_shares(limits.cpu_millis) - 2) * 9999 // 262_142
            writes.append(Write(f"{folder}/cpu.max", f"{_quota_us(limits.cpu_millis)} {_PERIOD_US}"))
            writes.append(Write(f"{folder}/cpu.weight", str(weight)))
        if "pids" in self.controllers:
            writes.append(Write(f"{folder}/pids.max", str(PIDS_MAX)))
        return Plan(folders=(folder,), writes=tuple(writes), joins=(f"{folder}/cgroup.procs",))

    def hand_down(self) -> None:
        """Let the parent's children have controllers, once there is one: until then it may be removed."""
        _write(self.parent / "cgroup.subtree_control", self.controllers)

    def remove_empty(self) -> None:
        """See ``CgroupParent``."""
        _remove_if_empty(self.parent)


def find_parent(mountinfo: str, own: str, own_pid: int) -> CgroupParent:
    """
    Find where this agent can make cgroups, and get it ready.

    Args:
        mountinfo: Content of /proc/self/mountinfo.
        own: Content of /proc/self/cgroup.
        own_pid: The agent's.

    Raises:
        CgroupUnavailableError: nowhere.
    """
    folders = own_folders(mountinfo, own)
    try:
        if "memory" in folders and "cpu" in folders:
            for name in ("memory", "cpu"):
                _try(folders[name] / PARENT, own_pid)
            return CgroupV1(folders["memory"] / PARENT, folders["cpu"] / PARENT, _find_pids_v1(folders, own_pid))
        if "" in folders:
            return _find_v2(folders[""], _top(mountinfo), own_pid)
    except OSError as error:
        raise CgroupUnavailableError(str(error)) from error
    raise CgroupUnavailableError("no cgroup hierarchy with memory and cpu is mounted")


def _find_pids_v1(folders: dict[str, Path], own_pid: int) -> Path | None:
    if "pids" not in folders:
        return None
    try:
        _try(folders["pids"] / PARENT, own_pid)
    except OSError:
        return None
    return folders["pids"] / PARENT


def own_folders(mountinfo: str, own: str) -> dict[str, Path]:
    """
    Return the folder of this process's cgroup by controller; version 2 has the name ``""``.

    Hierarchies whose own cgroup lies outside of what is mounted are left out.
    """
    paths: dict[str, str] = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    folders: dict[str, Path] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        root, mount_point = left.split()[3:5]
        kind, _, options = right.split()[:3]
        names = {"cgroup": options.split(","), "cgroup2": [""]}.get(kind, [])
        for name in names:
            if name in paths and Path(paths[name]).is_relative_to(root):
                folders.setdefault(name, Path(mount_point) / Path(paths[name]).relative_to(root))
    return folders


def _top(mountinfo: str) -> Path:
    """Return where the version 2 hierarchy is mounted."""
    return next(Path(line.split()[4]) for line in mountinfo.splitlines() if " - cgroup2 " in line)


def _find_v2(own: Path, top: Path, own_pid: int) -> CgroupV2:
    base = own.parent if own.name == LEAF else own
    if base != top and (base / "cgroup.procs").read_text().split():
        base = top
    offered = (base / "cgroup.controllers").read_text().split()
    missing = {"memory", "cpu"} - set(offered)
    if missing:
        raise CgroupUnavailableError(f"{base} is not given the controllers {', '.join(sorted(missing))}")
    controllers = "+memory +cpu +pids" if "pids" in offered else "+memory +cpu"
    try:
        _write(base / "cgroup.subtree_control", controllers)
    except OSError as error:
        if error.errno != errno.EBUSY or (base / "cgroup.procs").read_text().split() != [str(own_pid)]:
            raise
        (base / LEAF).mkdir(exist_ok=True)
        _write(base / LEAF / "cgroup.procs", own_pid)
        _write(base / "cgroup.subtree_control", controllers)
    parent = CgroupV2(base / PARENT, controllers)
    _try(parent.parent, own_pid, parent.hand_down)
    return parent


def _try(parent: Path, own_pid: int, use: Callable[[], None] = lambda: None) -> None:
    """
    Make a cgroup below the parent, *use* the parent while it is there, and remove it again.

    Raises:
        OSError: it cannot be done, as where another user's agent has made the parent.
    """
    trial = parent / f"trial-{own_pid}"
    with suppress(FileExistsError):  # an agent of that pid was killed just here
        _make(trial)
    use()
    trial.rmdir()


def _make(folder: Path) -> None:
    """Make a cgroup below the parent, which another agent of this host may remove as empty at any time."""
    while True:
        try:
            folder.mkdir()
        except FileNotFoundError:
            folder.parent.mkdir(exist_ok=True)
        else:
            return


def _quota_us(cpu_millis: int) -> int:
    return max(_QUOTA_US_MIN, cpu_millis * _PERIOD_US // 1000)


def _shares(cpu_millis: int) -> int:
    return min(max(_SHARES_MIN, cpu_millis * 1024 // 1000), _SHARES_MAX)


def _write(path: Path, value: int | str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in {errno.EBUSY, errno.ENOTEMPTY, errno.ENOENT}:
            raise
