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
import resource
from _signal import SIG_DFL, SIGHUP, SIGKILL, SIGPIPE, SIGXFSZ, signal  # type: ignore[import-not-found]  # without enum, which costs memory

from batchyard_agent.keeper import birth, groups, kernel, marks, wire

_TIOCSCTTY = 0x540E
"""Makes a terminal the one that a session is controlled by (termios has no other need)."""


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
            _Child(order, mark, mounts, door, writing).run()
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


class _Child:
    """The child's own way, as ``birth``'s."""

    def __init__(self, order: birth.Order, mark: int, mounts: int, door: Door, pipe: int) -> None:
        self._order = order
        self._mark = mark
        self._mounts = mounts
        self._door = door
        self._pipe = pipe
        self._stage = b"session"

    def run(self) -> None:
        try:
            self._run()
        except OSError as error:
            os.write(self._pipe, b"%s %d" % (self._stage, error.errno or 0))
        except BaseException:  # noqa: BLE001  # it must never come back into the keeper's own code
            os.write(self._pipe, b"%s 0" % self._stage)

    def _run(self) -> None:
        order = self._order
        os.setsid()
        signal(SIGPIPE, SIG_DFL)  # which Python ignores, as the other one
        signal(SIGXFSZ, SIG_DFL)
        marks.put(self._mark)
        self._stage = b"streams"
        self._take_streams()
        self._stage = b"limits"
        for path in wire.unpack(order.fields[7]):
            groups.write(path, b"0")
        for number, soft, hard in order.limits:
            is_mark = number == resource.RLIMIT_RTTIME
            resource.setrlimit(number, (soft if soft >= 0 else self._mark, self._mark) if is_mark else (soft, hard))
        if self._mounts >= 0:
            self._stage = b"namespace"
            kernel.enter_mounts(self._mounts)
        if order.user is not None:
            self._stage = b"user"
            uid, gid, *further = order.user
            os.setgroups(further)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
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
