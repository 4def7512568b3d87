"""
The machine's processes: who belongs to an attempt, and how much memory they hold.

Used where no cgroup keeps an attempt's processes together. Reads /proc; what ends
while it is read is left out. It knows nothing of runtimes.

An attempt's processes are its supervisor's session and all descendants. What makes
itself a new session *and* loses its parent is not found any more.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_REMOVED = " (deleted)"
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


def members(processes: Mapping[int, Process], supervisor: int) -> list[int]:
    """Return the pids of an attempt: its session and all descendants; not the supervisor, no zombies."""
    children = defaultdict(list)
    for process in processes.values():
        children[process.parent].append(process.pid)
    found: set[int] = set()
    todo = [process.pid for process in processes.values() if process.session == supervisor]
    todo += children[supervisor]
    while todo:
        pid = todo.pop()
        if pid not in found and pid != supervisor:
            found.add(pid)
            todo += children[pid]
    return sorted(pid for pid in found if not processes[pid].is_zombie)


def children(processes: Mapping[int, Process], parent: int) -> list[int]:
    """Return the pids of a process's children, no zombies; of a supervisor that is its command alone."""
    return [process.pid for process in processes.values() if process.parent == parent and not process.is_zombie]


def supervisors(record: Path) -> list[int]:
    """Return the processes that keep the record of an attempt, found without it."""
    return [pid for pid in _pids() if keeps(pid, record)]


def keeps(pid: int, record: Path) -> bool:
    """Say whether a process leads a session and has the record open as its stdin: an attempt's supervisor."""
    return _kept(pid, record.parent.resolve()) == record.name


def kept_in(folder: Path) -> set[str]:
    """
    Return the names of all records of a folder that supervisors keep, also of those that were removed.

    What jobs hold open may bear any name whatever there.
    """
    where = folder.resolve()
    return {name for pid in _pids() if (name := _kept(pid, where)) is not None}


def _kept(pid: int, folder: Path) -> str | None:
    """Return which file of a folder a process that leads a session has open as its stdin."""
    with suppress(OSError, ValueError):  # a name too long to be read, or with bytes that no path may have
        if os.getsid(pid) == pid:
            stdin = _PROC / str(pid) / "fd" / "0"
            parent, _, name = os.readlink(stdin).rpartition("/")  # noqa: PTH115  # a removed file has no path
            if parent == str(folder):
                return _own_name(name, os.stat(stdin), folder)  # noqa: PTH116  # hot path
    return None


def _own_name(name: str, file: os.stat_result, folder: Path) -> str | None:
    """
    Return the name of an open file of ours in a folder, None of any other.

    Another mount namespace has the same paths for other files, and who makes one may
    choose them. Of a removed file the disk and the owner are left to go by.
    """
    if not name.endswith(_REMOVED):
        return name if os.path.samestat(file, (folder / name).stat()) else None
    is_ours = file.st_dev == folder.stat().st_dev and file.st_uid == os.geteuid()
    return name.removesuffix(_REMOVED) if is_ours else None


def is_fork(pid: int, parent: int) -> bool:
    """Say whether a process still runs its parent's program: it was forked and has called none of its own."""
    with suppress(*_GONE):
        arguments = (_PROC / str(pid) / "cmdline").read_bytes()
        return arguments != b"" and arguments == (_PROC / str(parent) / "cmdline").read_bytes()
    return False


def leftovers(supervisor: int) -> list[int]:
    """
    Return what lives on in the session of a supervisor that has ended.

    While any process is in the session its number is given to no other. So a live
    process with that very pid means that the session is empty and the number reused.
    """
    found = []
    for pid in _pids():
        with suppress(*_GONE):
            if os.getsid(pid) == supervisor and not _read_process(pid).is_zombie:
                found.append(pid)
    return [] if supervisor in found else found


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
