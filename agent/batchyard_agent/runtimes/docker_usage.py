"""
What a container has used: read from its cgroup when its first process ends, before the engine removes that.

Of a container that has ended the engine itself tells nothing any more, and while it runs no
more than what it has used until then. The kernel says in the moment of the end that it is
there; the engine hears of it by way of its shim and its daemon, which takes it some
hundredths of a second. Whoever comes too late all the same tells what was read before.
Law: where nothing can be read nothing is told, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from batchyard.resources import NO_USAGE, Usage
from batchyard_agent.keeper import groups
from batchyard_agent.runtimes import cgroup

_CONTROLLERS = ("memory", "cpuacct", "")
"""Whose folders tell; the last is version 2's."""


class UsageWatch:
    """
    Watches one container that runs.

    Args:
        pid: Of its first process, as this machine counts.
        container: The container's id.

    Attributes:
        usage: What it had used when that was last read; nothing where it cannot be.
    """

    def __init__(self, pid: int, container: str) -> None:
        self.usage = NO_USAGE
        self._loop = asyncio.get_running_loop()
        self._folders = _folders(pid, container)
        self._pidfd = -1
        if self._folders:
            with suppress(OSError):  # it has ended meanwhile
                self._pidfd = os.pidfd_open(pid)
                self._loop.add_reader(self._pidfd, self._on_end)
            self.look()

    def close(self) -> None:
        """Watch no more."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _on_end(self) -> None:
        self.look()
        self.close()

    def look(self) -> None:
        """Read what it has used until now."""
        peak_kib, cpu_ms = groups.peak_kib(self._folders), groups.cpu_ms(self._folders)
        if cpu_ms is not None:
            self.usage = Usage(peak_memory_kib=peak_kib, user_cpu_ms=cpu_ms[0], system_cpu_ms=cpu_ms[1])


def _folders(pid: int, container: str) -> list[str]:
    """Return the folders of a container's cgroup; none where its process is not this machine's, or is gone."""
    try:
        own = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return []
    found = cgroup.own_folders(Path("/proc/self/mountinfo").read_text(), own)
    # Others are of another process, as for an agent in a container, or of one that has just ended.
    return [str(found[name]) for name in _CONTROLLERS if name in found and container in str(found[name])]
