"""
How a command comes into an attempt that runs: a fork of this program, which goes where the attempt is and becomes it.

It goes into the attempt's cgroup, namespaces, limits, user and folder, by the same order as a start, and
bears the attempt's mark, so that it ends with the attempt. Laws: it has no more rights than what
it joins, and nothing of this program stays open in it; what it reads and writes is open in the
agent, from where it opens it by itself.
"""

from __future__ import annotations

import fcntl
import os
from _signal import SIG_DFL, SIGHUP, SIGKILL, SIGSTOP, signal  # type: ignore[import-not-found]  # without enum, which costs memory

from batchyard_agent.keeper import birth, kernel, marks

_TIOCSCTTY = 0x540E
"""Makes a terminal the one that a session is controlled by (termios has no other need)."""

_SIGNALS = 32
"""Those below have names; what is above is for real time."""


class Visit:
    """
    A command that was let into an attempt.

    Attributes:
        number: The agent's, for it.
        name: The attempt's.
    """

    __slots__ = ("name", "number")

    def __init__(self, number: bytes, name: str) -> None:
        self.number = number
        self.name = name


class Door:
    """
    What a visit is let in by.

    Args:
        agent: The agent's process, in which the streams are open.
        streams: Their numbers there: stdin, stdout, stderr; empty: nothing is read.
        is_terminal: They are one terminal, which becomes its own.
    """

    __slots__ = ("is_terminal", "paths")

    def __init__(self, agent: int, streams: list[bytes], *, is_terminal: bool) -> None:
        self.paths = [b"/proc/%d/fd/%s" % (agent, each) if each else os.devnull.encode() for each in streams]
        self.is_terminal = is_terminal


def fork(order: birth.Order, mark: int, inside: int, own: int, door: Door) -> birth.Birth:
    """
    Let a command into an attempt.

    Args:
        order: As of a start.
        mark: The attempt's.
        inside: A process of it.
        own: This program's own pid namespace, opened; -1: attempts have none of their own.
        door: Its streams.

    Raises:
        OSError: it could not be.
    """
    is_apart = own >= 0 and kernel.is_apart(inside)
    mounts = os.open(f"/proc/{inside}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC) if is_apart else -1
    reading, writing = os.pipe()
    try:
        if is_apart:
            kernel.enter_pids(inside)
        pid = os.fork()
        if not pid:
            _Visitor(order, mark, mounts, door, writing).run()
            os._exit(birth.NEVER_CALLED)
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
        if is_apart:
            os.close(mounts)
            kernel.isolate_children(False, own)
    return birth.Birth(pid, reading)


def hang_up(pid: int) -> None:
    """Tell a visit, and those of its session's group, that nobody listens any more."""
    try:
        os.killpg(pid, SIGHUP)
    except (ProcessLookupError, PermissionError):
        pass


def end(pid: int) -> None:
    """Kill a visit."""
    try:
        os.kill(pid, SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


class _Visitor(birth.Child):
    """That of a visit."""

    def __init__(self, order: birth.Order, mark: int, mounts: int, door: Door, pipe: int) -> None:
        super().__init__(order, mark, pipe)
        self._mounts = mounts
        self._door = door

    def _run(self) -> None:
        order = self._order
        os.setsid()
        for number in range(1, _SIGNALS):  # Python ignores some, and nohup, or a shell's &, what a terminal sends
            if number not in (SIGKILL, SIGSTOP):
                signal(number, SIG_DFL)
        marks.put(self._mark)
        self._stage = b"streams"
        self._take_streams()
        self._stage = b"limits"
        order.take_limits(self._mark)
        if self._mounts >= 0:
            self._stage = b"namespace"
            kernel.enter_mounts(self._mounts)
        self._stage = b"user"
        order.take_user()
        self._stage = b"cwd"
        self._enter_folder()
        self._stage = b"exec"
        order.execute(os.execve)

    def _take_streams(self) -> None:
        for number, path in enumerate(self._door.paths):
            access = os.O_RDWR if self._door.is_terminal else os.O_WRONLY if number else os.O_RDONLY
            opened = os.open(path, access | os.O_NOCTTY)
            if self._order.user is not None and path != os.devnull.encode():
                os.fchown(opened, self._order.user[0], -1)  # so that it can open its own /dev/stdout
            os.dup2(opened, number)
            os.close(opened)
        if self._door.is_terminal:
            fcntl.ioctl(0, _TIOCSCTTY, 0)

    def _enter_folder(self) -> None:
        """Go where the attempt started: where it wanted to, if that is there."""
        for folder in (self._order.fields[13], self._order.folder):
            try:
                os.chdir(folder)
            except OSError:
                if folder == self._order.folder:
                    raise
            else:
                return
