"""
The first process of a jail: it starts one attempt after the other there, and sees each to its end.

It is a fork of the keeper. It spawns what it is told to (which copies no memory), hands SIGTERM
on, takes the ends of orphans, kills what the command leaves, and tells how that ended when
nothing is left. It remains root, so that no job can signal it or change what it is; its
namespace is empty whenever it is the job's user for the moment of a spawn.

Laws: as in ``birth``, until the command runs it holds the lock that came with the order, and
it writes the attempt's line into the journal just before. It ends when the keeper is gone
and nothing runs in it, as its last command did. What it lent to an attempt (cgroup, working
folder, user) it has taken back before the next.
"""

from __future__ import annotations

import os
import struct
import time
from _signal import (  # type: ignore[import-not-found]  # without enum, which costs memory
    SIG_BLOCK,
    SIGCHLD,
    SIGKILL,
    SIGPIPE,
    SIGTERM,
    SIGXFSZ,
    pthread_sigmask,
    set_wakeup_fd,
    sigpending,
    sigwait,
)
from _socket import CMSG_SPACE, MSG_CMSG_CLOEXEC, socket

from batchyard_agent.keeper import birth, groups, kernel, record, wire

TYPE_CHECKING = False  # as in typing, which costs memory
if TYPE_CHECKING:
    from collections.abc import Callable

FDS = struct.Struct("=ii")
"""What comes with an order: the journal and the lock, open."""
OUTCOME = struct.Struct("=16si")
"""The stage that a start failed at, and the errno; empty and 0: the command runs."""
END = struct.Struct("=iqqq?")
"""Of an attempt: code, peak KiB, user and system ms, and whether this process could not leave its cgroup."""

_READ_BYTES = 1 << 16
_FDS_MAX = 1 << 16
_VISITS_LIMIT_S = 5.0
"""So long those that were killed may take to be gone; whoever is left then is a zombie."""


def run(user: tuple[int, ...], keeper: socket, null: int) -> None:
    """
    Be the first process of the namespace that this process was forked into; never return.

    Args:
        user: Whose commands it is to start, as in an order.
        keeper: Connected to the keeper.
        null: Open file.
    """
    try:
        _Warden(user, keeper, null).run()
    finally:
        os._exit(birth.NEVER_CALLED)


class _Warden:
    """What it holds, and what it is doing."""

    def __init__(self, user: tuple[int, ...], ours: socket, null: int) -> None:
        self._user = user
        self._socket = ours
        self._null = null
        self._inbox = wire.Inbox()
        self._held = (-1, -1)
        self._pid = b""
        self._stage = b"namespace"
        self._command = 0
        self._home = os.getcwd()
        self._covered: list[bytes] = []
        self._cpus: set[int] = set()
        self._nice = 0
        self._code = birth.NEVER_CALLED

    def run(self) -> None:
        """Start one command after the other; never return."""
        failure = self._failure_of(self._settle)
        while (ordered := self._receive()) is not None:
            mark, order = ordered
            self._code = birth.NEVER_CALLED
            failure = failure or self._failure_of(self._start, order, mark)
            self._take_back()
            if failure and not self._has_left(order):
                failure = b"namespace", failure[1]
            self._tell(OUTCOME.pack(*(failure or (b"", 0))))
            if not failure:
                self._follow(order)
            elif failure[0] == b"namespace":
                break
            failure = None
        os._exit(self._code)

    def _failure_of(self, work: Callable[..., None], *args: object) -> tuple[bytes, int] | None:
        """Do work, and return at which stage it failed and with which errno; None: it did not."""
        try:
            work(*args)
        except OSError as error:
            return self._stage, error.errno or 0
        except Exception:  # noqa: BLE001  # it must never come back into the keeper's own code
            return self._stage, 0
        return None

    def _settle(self) -> None:
        """Keep nothing of the keeper's open, and see nothing of other namespaces."""
        pthread_sigmask(SIG_BLOCK, [SIGTERM, SIGCHLD])
        set_wakeup_fd(-1)
        os.setsid()
        own = self._socket.detach()
        for number in range(3):
            os.dup2(self._null, number)
        os.dup2(own, 3, inheritable=False)
        os.closerange(4, _FDS_MAX)
        self._socket = socket(fileno=3)
        self._pid = os.readlink("/proc/self").encode()  # as it is seen from outside
        self._cpus, self._nice = os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)
        os.setgroups(self._user[2:])
        kernel.hide_others()

    def _cover(self, order: birth.Order) -> None:
        """Hide what is others' from an attempt."""
        for path in order.closed:
            kernel.put_over(record.CLOSED, path)
            self._covered.append(path)
        kernel.show_alone(order.shared, order.folder)
        self._covered.append(order.shared)

    def _has_left(self, order: birth.Order) -> bool:
        """Leave an attempt's cgroup and its view; False: the kernel refused."""
        covered, self._covered = self._covered, []
        try:
            for path in covered:
                kernel.uncover(path)
        except OSError:
            return False
        return groups.leave(order.groups)

    def _receive(self) -> tuple[int, birth.Order] | None:
        """Wait for an order; None: the keeper is gone, or lets this jail go."""
        try:
            while True:
                data, ancillary, _, _ = self._socket.recvmsg(_READ_BYTES, CMSG_SPACE(FDS.size), MSG_CMSG_CLOEXEC)
                if not data:
                    return None
                for _, _, fds in ancillary:
                    self._held = FDS.unpack(fds)
                for mark, *fields in self._inbox.take(data):
                    return int(mark), birth.Order(fields)
        except (OSError, ValueError, wire.NotSpokenError):
            return None

    def _start(self, order: birth.Order, mark: int) -> None:
        while SIGTERM in sigpending():  # of an attempt that had just ended
            sigwait([SIGTERM])
        self._stage = b"log"
        log = order.open_log()
        given = 0
        try:
            given = order.open_input(0)
            self._stage = b"folder"
            order.make_folder()
            self._stage = b"namespace"
            self._cover(order)
            self._stage = b"limits"
            order.make_groups()
            order.take_limits(mark)
            self._stage = b"user"
            uid, gid = self._user[:2]
            os.setresgid(gid, gid, 0)
            os.setresuid(uid, uid, 0)  # the last is gone with the call of the command
            self._stage = b"cwd"
            order.enter_folder(log)
            self._stage = b"journal"
            os.write(self._held[0], record.line("pid", order.name, "")[:-1] + self._pid + b"\n")
            self._stage = b"exec"
            streams = [(os.POSIX_SPAWN_DUP2, given, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
            self._command = order.execute(
                lambda path, argv, variables: os.posix_spawn(
                    path,
                    argv,
                    variables,
                    file_actions=streams,
                    setsid=True,
                    setsigmask=[],
                    setsigdef=[SIGPIPE, SIGXFSZ],  # which Python ignores
                )
            )
        finally:
            os.close(log)
            if given:
                os.close(given)

    def _take_back(self) -> None:
        """Be root again, as nothing had happened; and let go of the lock."""
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.chdir(self._home)
        # For the moment of the spawn it was of the job's user, who may set these.
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, self._cpus)
        os.setpriority(os.PRIO_PROCESS, 0, self._nice)
        for fd in self._held:
            os.close(fd)

    def _follow(self, order: birth.Order) -> None:
        """Wait until nothing is left of an attempt, which ends with its command, and tell of it."""
        peak_kib, user_s, system_s = 0, 0.0, 0.0
        ended: int | None = None
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:  # who loses its parent there is a child of this one
                break
            if not pid:
                if ended is not None:
                    _kill_all()
                if sigwait([SIGTERM, SIGCHLD]) == SIGTERM and ended is None:
                    os.kill(self._command, SIGTERM)
                continue
            peak_kib = max(peak_kib, usage.ru_maxrss)
            user_s, system_s = user_s + usage.ru_utime, system_s + usage.ru_stime
            if pid == self._command:
                ended = status
        _kill_visits()
        self._code = kernel.shell_code(os.waitstatus_to_exitcode(ended or 0))
        is_stuck = not self._has_left(order)
        self._tell(END.pack(self._code, peak_kib, int(user_s * 1000), int(system_s * 1000), is_stuck))

    def _tell(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError:  # the keeper is gone: this process's exit tells it
            pass


def _kill_all() -> bool:
    """Kill all in this namespace but this process; False: there is nobody."""
    try:
        os.kill(-1, SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _kill_visits() -> None:
    """Empty the namespace of what came in from outside (``entering``), whose ends are others' to take."""
    give_up_at_s = time.monotonic() + _VISITS_LIMIT_S
    while _kill_all() and time.monotonic() < give_up_at_s:
        time.sleep(0.002)
