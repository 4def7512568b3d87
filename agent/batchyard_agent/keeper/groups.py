"""
The cgroups of one attempt: who is in them, an end to all of them, what they have used.

Knows the kernel's control files, of both versions, and nothing of where they come from: the
agent makes their names and says what is written into them.
"""

from __future__ import annotations

import errno
import os
from _signal import SIGKILL  # type: ignore[import-not-found]  # without enum, which costs memory


def make(groups: list[str], writes: list[tuple[bytes, bytes, bytes]]) -> None:
    """
    Make an attempt's cgroup.

    Args:
        groups: Its folders.
        writes: Path, value, and ``1`` if the file may be missing.

    Raises:
        OSError: the kernel refused.
    """
    for group in groups:
        _make(group)
    for path, value, may_be_missing in writes:
        try:
            write(path, value)
        except FileNotFoundError:
            if may_be_missing != b"1":
                raise


def write(path: bytes, value: bytes) -> None:
    """
    Write into a control file.

    Raises:
        OSError: there is none, or the kernel refused.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value)
    finally:
        os.close(fd)


def leave(groups: list[str]) -> bool:
    """Move this process out of an attempt's cgroup, to where its agent is; False: the kernel refused."""
    return all(_has_left(os.path.dirname(os.path.dirname(group))) for group in groups)


def _has_left(top: str) -> bool:
    # In version 1 to move the writer alone spares the kernel a wait; in version 2 the agent is in a leaf.
    files = (f"{top}/tasks", f"{top}/cgroup.procs", f"{top}/agent/cgroup.procs")
    return any(_has_written(file, b"0") for file in files)


def pids(groups: list[str]) -> list[int]:
    """Return the processes in an attempt's cgroup and those below it; none if it is gone."""
    return [int(pid) for folder in _tree(groups[0]) for pid in _read(f"{folder}/cgroup.procs").split()]


def kill(groups: list[str]) -> None:
    """
    Kill all that is in an attempt's cgroup.

    Version 2 does it in one step. Elsewhere no more processes may be made first, where the
    kernel counts them: then to kill whoever is listed, again and again, comes to an end.
    """
    if _has_written(f"{groups[0]}/cgroup.kill", b"1"):
        return
    for group in groups:
        _has_written(f"{group}/pids.max", b"0")
    for pid in pids(groups):
        try:
            os.kill(pid, SIGKILL)
        except ProcessLookupError:
            pass


def remove(groups: list[str]) -> bool:
    """Remove an attempt's cgroup. Idempotent. False: a process is still on its way out, try again."""
    for top in groups:
        for folder in _tree(top):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                return False
    return True


def oom_kills(groups: list[str]) -> int:
    """Return how many of the cgroup's processes the kernel has killed for its memory limit."""
    for group in groups:
        for name in ("memory.events", "memory.oom_control"):
            for line in _read(f"{group}/{name}").splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
    return 0


def peak_kib(groups: list[str]) -> int:
    """Return the most memory that a cgroup held at once; 0: the kernel does not say."""
    for group in groups:
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            if text := _read(f"{group}/{name}").strip():
                return int(text) // 1024
    return 0


def cpu_ms(groups: list[str]) -> tuple[int, int] | None:
    """Return the processor time that a cgroup used, in user mode and in the kernel; None: it does not say."""
    for group in groups:
        values = dict(line.split(" ", 1) for line in _read(f"{group}/cpu.stat").splitlines())
        if "user_usec" in values:
            return int(values["user_usec"]) // 1000, int(values["system_usec"]) // 1000
        if text := _read(f"{group}/cpuacct.usage_user").strip():
            return int(text) // 1_000_000, int(_read(f"{group}/cpuacct.usage_sys") or 0) // 1_000_000
    return None


def _tree(top: str) -> list[str]:
    """Return *top*'s folders, deepest first."""
    try:
        is_leaf = os.stat(top).st_nlink <= 2
    except FileNotFoundError:
        return []
    return [top] if is_leaf else [folder for folder, _, _ in os.walk(top, topdown=False)]


def _read(path: str) -> str:
    """Read a control file; empty if it is not there, or its cgroup is gone."""
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


def _has_written(path: str, value: bytes) -> bool:
    """Write into a control file; False: there is none, or the kernel refused."""
    try:
        write(os.fsencode(path), value)
    except OSError:
        return False
    return True


def _make(folder: str) -> None:
    """Make a cgroup below the parent, which another agent of this host may remove as empty at any time."""
    while True:
        try:
            os.mkdir(folder)
        except FileExistsError:
            return
        except FileNotFoundError:
            try:
                os.mkdir(os.path.dirname(folder))
            except FileExistsError:
                pass
        else:
            return
