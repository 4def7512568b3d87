"""
The mark of an attempt's processes, by which they are known whatever they do.

It is a number that only the kernel keeps: the hard limit of the real-time CPU that a process may
use without a pause (RLIMIT_RTTIME, which counts for real-time scheduling alone), far
beyond any that means something. It is inherited by children and kept over exec; who
is not root can only lower it. So a process that has left its session, its parents, its name
and its environment still says whose it is. (No cgroup is needed, nor any right.)
"""

from __future__ import annotations

import os
import resource
import time
import zlib

_BASE = 1 << 61
_KEEPER_BITS = 20
_ATTEMPT_BITS = 40
_TICK_NS = 125_000
"""More attempts than one in so long no keeper starts; a boot of the machine may last four years."""


def keeper_of(mark: int) -> int:
    """Return the number of the keeper whose mark this is."""
    return (mark - _BASE) >> _ATTEMPT_BITS


def keeper_number(folder: str) -> int:
    """Return the number of a folder's keepers, by its place: it is the same after the folder was wiped."""
    place = f"{os.stat(folder).st_dev}:{folder}"
    return zlib.crc32(os.fsencode(place)) >> (32 - _KEEPER_BITS)


def new(keeper: int, last: int) -> int:
    """
    Return a mark that no other attempt has, and that is lower than those before: a process can be marked again.

    Args:
        keeper: Number of the keeper.
        last: What this returned before, of the same keeper; 0: nothing.
    """
    ticks = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _TICK_NS
    mark = _BASE + (keeper << _ATTEMPT_BITS) + (-ticks) % (1 << _ATTEMPT_BITS)
    return last - 1 if last and mark >= last else mark


def put(mark: int) -> None:
    """Mark this process."""
    resource.setrlimit(resource.RLIMIT_RTTIME, (mark, mark))


def read(pid: int) -> int:
    """Return the mark of a process; 0: it has none, or is gone."""
    try:
        hard = resource.prlimit(pid, resource.RLIMIT_RTTIME)[1]
    except (OSError, ValueError):
        hard = _from_text(pid)
    return hard if _BASE <= hard < _BASE << 1 else 0


def _from_text(pid: int) -> int:
    """Read it where the process is another user's, of which the kernel tells in its files alone."""
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:
            for line in file:
                if line.startswith(b"Max realtime timeout"):
                    hard = line.split()[4]
                    return int(hard) if hard.isdigit() else 0
    except OSError:
        pass
    return 0


def children(pid: int) -> list[int]:
    """Return the children of a process's first thread, to which the kernel gives orphans too; zombies among them."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:  # a kernel without that file
        return [each for each in pids() if parent_and_state(each)[0] == pid]


def pids() -> list[int]:
    """Return all processes of this machine that can be seen."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def parent_and_state(pid: int) -> tuple[int, str]:
    """Return a process's parent and its state, as ``Z``; 0 and empty: it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return 0, ""
    # The second field, the program's name, may hold blanks and brackets itself.
    state, parent = text[text.rindex(b")") + 2 :].split()[:2]
    return int(parent), state.decode()


def marked(mark: int) -> list[int]:
    """Return the processes of a mark, wherever they are; no zombies."""
    return [pid for pid in pids() if read(pid) == mark and lives(pid)]


def all_of(keeper: int) -> dict[int, int]:
    """Return all processes that bear a mark of a keeper's number, each with its mark; no zombies."""
    found = {pid: read(pid) for pid in pids()}
    return {pid: mark for pid, mark in found.items() if mark and keeper_of(mark) == keeper and lives(pid)}


def lives(pid: int) -> bool:
    """Say whether a process is there and no zombie."""
    return parent_and_state(pid)[1] not in {"Z", "X", ""}
