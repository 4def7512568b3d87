"""
Cgroups: a memory limit and a share of the CPUs for each attempt.

Knows the kernel's control files and nothing of attempts' lives. An attempt's cgroup is
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
from collections.abc import Callable, Iterator
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


class CgroupUnavailableError(Exception):
    """No cgroup can be made for attempts here; the text says why."""


class CgroupParent(Protocol):
    """Where attempts' cgroups are made."""

    @property
    def enforcement(self) -> str:
        """``cgroup-v1`` or ``cgroup-v2``."""

    def folders(self, name: str) -> tuple[str, ...]:
        """Return the folders of the cgroup of that name: by them it is known from then on."""

    def create(self, name: str, limits: Limits) -> None:
        """
        Make the cgroup of that name, its limits set.

        Raises:
            OSError: the kernel refused.
        """

    def remove_empty(self) -> None:
        """Remove the parent itself, if no attempt's cgroup is left in it."""


@dataclass(frozen=True, slots=True)
class CgroupV1:
    """Parent folders in the memory and the cpu hierarchy."""

    memory: Path
    cpu: Path
    enforcement: str = "cgroup-v1"

    def folders(self, name: str) -> tuple[str, ...]:
        """See ``CgroupParent``."""
        return str(self.memory / name), str(self.cpu / name)

    def create(self, name: str, limits: Limits) -> None:
        """See ``CgroupParent``."""
        memory, cpu = self.memory / name, self.cpu / name
        _make(memory)
        _make(cpu)
        if limits.memory_mib:
            _write(memory / "memory.limit_in_bytes", limits.memory_mib * _MIB)
            with suppress(FileNotFoundError):  # the kernel counts swap only when told at boot
                _write(memory / "memory.memsw.limit_in_bytes", (limits.memory_mib + limits.swap_mib) * _MIB)
        if limits.swappiness is not None:
            _write(memory / "memory.swappiness", limits.swappiness)
        if limits.cpu_millis:
            _write(cpu / "cpu.cfs_period_us", _PERIOD_US)
            _write(cpu / "cpu.cfs_quota_us", _quota_us(limits.cpu_millis))
            _write(cpu / "cpu.shares", _shares(limits.cpu_millis))

    def remove_empty(self) -> None:
        """See ``CgroupParent``."""
        _remove_if_empty(self.memory)
        _remove_if_empty(self.cpu)


@dataclass(frozen=True, slots=True)
class CgroupV2:
    """Parent folder in the one hierarchy, which hands memory and cpu down."""

    parent: Path
    enforcement: str = "cgroup-v2"

    def folders(self, name: str) -> tuple[str, ...]:
        """See ``CgroupParent``."""
        return (str(self.parent / name),)

    def create(self, name: str, limits: Limits) -> None:
        """See ``CgroupParent``."""
        folder = self.parent / name
        _make(folder)
        self.hand_down()
        if limits.memory_mib:
            _write(folder / "memory.max", limits.memory_mib * _MIB)
            with suppress(FileNotFoundError):  # a kernel without swap accounting
                _write(folder / "memory.swap.max", limits.swap_mib * _MIB)
        if limits.cpu_millis:
            _write(folder / "cpu.max", f"{_quota_us(limits.cpu_millis)} {_PERIOD_US}")
            _write(folder / "cpu.weight", 1 + (_shares(limits.cpu_millis) - 2) * 9999 // 262_142)

    def hand_down(self) -> None:
        """Let the parent's children have controllers, once there is one: until then it may be removed."""
        _write(self.parent / "cgroup.subtree_control", "+memory +cpu")

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
            parent = CgroupV1(folders["memory"] / PARENT, folders["cpu"] / PARENT)
            for folder in (parent.memory, parent.cpu):
                _try(folder, own_pid)
            return parent
        if "" in folders:
            return _find_v2(folders[""], _top(mountinfo), own_pid)
    except OSError as error:
        raise CgroupUnavailableError(str(error)) from error
    raise CgroupUnavailableError("no cgroup hierarchy with memory and cpu is mounted")


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
    try:
        _write(base / "cgroup.subtree_control", "+memory +cpu")
    except OSError as error:
        if error.errno != errno.EBUSY or (base / "cgroup.procs").read_text().split() != [str(own_pid)]:
            raise
        (base / LEAF).mkdir(exist_ok=True)
        _write(base / LEAF / "cgroup.procs", own_pid)
        _write(base / "cgroup.subtree_control", "+memory +cpu")
    parent = CgroupV2(base / PARENT)
    _try(parent.parent, own_pid, parent.hand_down)
    return parent


def join_files(cgroup: tuple[str, ...]) -> tuple[str, str]:
    """
    Return the two files into which a process writes 0 to move itself into an attempt's cgroup.

    In version 1 that is ``tasks``: moving only the writer spares the kernel a wait
    for all processors. /dev/null stands in where there is but one.
    """
    if len(cgroup) == 1:
        return f"{cgroup[0]}/cgroup.procs", os.devnull
    memory, cpu = cgroup
    return f"{memory}/tasks", f"{cpu}/tasks"


def pids(cgroup: tuple[str, ...]) -> list[int]:
    """Return the processes in an attempt's cgroup and those below it; none if it is gone."""
    return [int(pid) for folder in _tree(cgroup[0]) for pid in _read(f"{folder}/cgroup.procs").split()]


def oom_kills(cgroup: tuple[str, ...]) -> int:
    """Return how many of the cgroup's processes the kernel has killed for its memory limit."""
    name = "memory.events" if len(cgroup) == 1 else "memory.oom_control"
    counts = dict(line.split() for line in _read(f"{cgroup[0]}/{name}").splitlines())
    return int(counts.get("oom_kill", 0))


def remove(cgroup: tuple[str, ...]) -> bool:
    """Remove an attempt's cgroup. Idempotent. False: a process is still on its way out, try again."""
    for top in cgroup:
        for folder in _tree(top):
            try:
                os.rmdir(folder)  # noqa: PTH106  # hot path
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                return False
    return True


def _tree(top: str) -> Iterator[str]:
    """Yield *top*'s folders, deepest first."""
    try:
        is_leaf = os.stat(top).st_nlink <= 2  # noqa: PTH116  # one system call in the hot path
    except FileNotFoundError:
        return
    if is_leaf:
        yield top
    else:
        yield from (folder for folder, _, _ in os.walk(top, topdown=False))


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


def _read(path: str) -> str:
    """Read a control file; empty if its cgroup is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        chunks = []
        while chunk := os.read(fd, 1 << 16):
            chunks.append(chunk)
        return b"".join(chunks).decode()
    except OSError as error:
        if error.errno != errno.ENODEV:  # removed while being read
            raise
        return ""
    finally:
        os.close(fd)


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
