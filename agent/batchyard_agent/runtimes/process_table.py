"""
The machine's processes: who belongs to an attempt, and how much memory they hold.

Used where no cgroup counts an attempt's memory. Reads /proc; what ends
while it is read is left out. It knows nothing of runtimes.

An attempt's processes are its command's session and all descendants. What makes itself a
new session *and* loses its parent is not counted any more; the keeper ends it all the same.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_GONE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One line of the table. Zombies have ended and wait for their parent to look."""

    pid: int
    parent: int
    session: int
    is_zombie: bool


def read_processes() -> dict[int, Process]:
    """Return all processes by pid."""
    processes = {}
    for pid in _pids():
        with suppress(*_GONE):
            processes[pid] = _read_process(pid)
    return processes


def members(processes: Mapping[int, Process], leader: int) -> list[int]:
    """Return the pids of an attempt: its command, which leads a session, and all of that, and descendants; no zombies."""
    children = defaultdict(list)
    for process in processes.values():
        children[process.parent].append(process.pid)
    found: set[int] = set()
    todo = [process.pid for process in processes.values() if process.session == leader]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children[pid]
    return sorted(pid for pid in found if not processes[pid].is_zombie)


def resident_kib(pid: int) -> int:
    """Return the memory of a process, what it shares with others counted in full."""
    with suppress(*_GONE):
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    return 0


def unreclaimable_kib(pids: Iterable[int]) -> int:
    """
    Return the memory that processes hold and the kernel cannot take back.

    That is private and shared memory without files' pages, each shared page counted
    once among those that share it. Much slower than ``resident_kib``.
    """
    total = 0
    for pid in pids:
        with suppress(*_GONE, PermissionError):
            lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
            amounts = {line.split(":")[0]: int(line.split()[1]) for line in lines}
            total += amounts["Pss_Anon"] + amounts["Pss_Shmem"] if "Pss_Anon" in amounts else amounts["Pss"]
    return total


def _pids() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]  # noqa: PTH208  # names only, and fast


def _read_process(pid: int) -> Process:
    # The second field, the program's name, may hold blanks and brackets itself.
    text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    state, parent, _, session, *_ = text[text.rindex(")") + 2 :].split()
    return Process(pid=pid, parent=int(parent), session=int(session), is_zombie=state in "ZX")
