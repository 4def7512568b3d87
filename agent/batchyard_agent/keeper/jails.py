"""
Jails: pid namespaces in which attempts of another user run, one after the other.

To make one is to fork the keeper, and costs more than many a command. So a jail stays for
a while: its first process (``warden``) starts what it is told to. This is the keeper's
side of it. Law: who is in a jail is told by its mark, which is that of the attempt in it.
"""

from __future__ import annotations

import os
import resource
from _socket import MSG_DONTWAIT, MSG_WAITALL, SCM_RIGHTS, SOL_SOCKET, socket, socketpair

from batchyard_agent.keeper import kernel, warden, wire

TYPE_CHECKING = False  # as in typing, which costs memory
if TYPE_CHECKING:
    from collections.abc import Callable

    from batchyard_agent.keeper import birth

LIFE_S = 10.0
"""So long a jail is used: it holds what was mounted when it was made."""
IDLE_S = 1.0
"""So long it waits for another attempt."""


class End:
    """
    What a jail tells of an attempt of which nothing is left.

    Attributes:
        code: As a shell gives it.
        peak_kib: Of its largest process.
        user_ms, system_ms: Processor time of all.
        is_stuck: The first process could not leave the attempt's cgroup.
    """

    __slots__ = ("code", "is_stuck", "peak_kib", "system_ms", "user_ms")

    def __init__(self, told: bytes) -> None:
        self.code, self.peak_kib, self.user_ms, self.system_ms, self.is_stuck = warden.END.unpack(told)


class Jail:
    """
    A jail as the keeper sees it.

    Args:
        ours: Connected to its first process.
        order: The first one; others are of the same user and have the same limits.
        now_s: Boottime.

    Attributes:
        pid: Of its first process.
        idle_at_s: Since when it has had nothing to do.
        user_ms, system_ms, peak_kib: What its former attempts have used.
        is_spent: It is not to be used again.
    """

    __slots__ = (
        "_limits",
        "_made_at_s",
        "_socket",
        "_user",
        "idle_at_s",
        "is_spent",
        "peak_kib",
        "pid",
        "system_ms",
        "user_ms",
    )

    def __init__(self, pid: int, ours: socket, order: birth.Order, now_s: float) -> None:
        self.pid = pid
        self._user = order.user
        self._limits = order.limits  # its first process has them too, and cannot raise them
        self.idle_at_s = self._made_at_s = now_s
        self.user_ms = self.system_ms = self.peak_kib = 0
        self.is_spent = False
        self._socket = ours

    def fileno(self) -> int:
        """Return the descriptor on which it tells of an end."""
        return self._socket.fileno()

    def suits(self, order: birth.Order) -> bool:
        """Say whether an attempt may have it."""
        return (order.user, order.limits) == (self._user, self._limits)

    def is_old(self, now_s: float) -> bool:
        """Say whether it is not to be used any more."""
        return self.is_spent or now_s > min(self.idle_at_s + IDLE_S, self._made_at_s + LIFE_S)

    def has_marked(self, mark: int) -> bool:
        """Mark it, and so the next attempt's processes; False: the kernel has such limits lowered alone."""
        try:
            resource.prlimit(self.pid, resource.RLIMIT_RTTIME, (mark, mark))
        except (OSError, ValueError):
            return False
        return True

    def order(self, order: birth.Order, mark: int, journal: int, lock: int) -> None:
        """Have an attempt started."""
        data = wire.message(b"%d" % mark, *order.fields)
        try:
            sent = self._socket.sendmsg([data], [(SOL_SOCKET, SCM_RIGHTS, warden.FDS.pack(journal, lock))])
            if sent < len(data):
                self._socket.sendall(data[sent:])
        except OSError:  # it was killed, and its exit says so
            self.is_spent = True

    def outcome(self) -> tuple[str, int]:
        """Wait until its command runs, or cannot: at which stage, and with which errno; empty and 0."""
        try:
            told = self._socket.recv(warden.OUTCOME.size, MSG_WAITALL)
        except OSError:
            told = b""
        if len(told) < warden.OUTCOME.size:  # it was killed, and its exit says so
            self.is_spent = True
            return "", 0
        stage, number = warden.OUTCOME.unpack(told)
        return stage.rstrip(b"\0").decode(), number

    def end(self) -> End | None:
        """Return how its attempt has ended, if that was told; it does not wait."""
        try:
            told = self._socket.recv(warden.END.size, MSG_DONTWAIT)
        except OSError:
            return None
        if len(told) < warden.END.size:
            return None
        end = End(told)
        self.user_ms += end.user_ms
        self.system_ms += end.system_ms
        self.peak_kib = max(self.peak_kib, end.peak_kib)
        self.is_spent = self.is_spent or end.is_stuck
        return end

    def let_go(self) -> None:
        """Have it end as soon as nothing runs in it."""
        self._socket.close()


class Jails:
    """
    All jails of a keeper.

    Args:
        null: Open file.
        namespace: The keeper's own pid namespace, opened.
        new_mark: Makes a mark that no attempt has.
        boot_s: Reads CLOCK_BOOTTIME.

    Attributes:
        by_pid: Those that have not ended.
    """

    __slots__ = ("_boot_s", "_idle", "_namespace", "_new_mark", "_null", "by_pid")

    def __init__(self, null: int, namespace: int, new_mark: Callable[[], int], boot_s: Callable[[], float]) -> None:
        self._null = null
        self._namespace = namespace
        self._new_mark = new_mark
        self._boot_s = boot_s
        self._idle: list[Jail] = []
        self.by_pid: dict[int, Jail] = {}

    def take(self, order: birth.Order, mark: int) -> Jail:
        """
        Return a jail for an attempt, with its mark.

        Raises:
            OSError: none can be made.
        """
        now_s = self._boot_s()
        for jail in reversed(self._idle):
            if jail.suits(order) and not jail.is_old(now_s):
                self._idle.remove(jail)
                if jail.has_marked(mark):
                    return jail
                jail.let_go()
        jail = self._make(order, now_s)
        jail.has_marked(mark)
        return jail

    def _make(self, order: birth.Order, now_s: float) -> Jail:
        assert order.user is not None, order.name
        ours, theirs = socketpair()
        kernel.isolate_children(True)
        try:
            pid = os.fork()
        except OSError:
            kernel.isolate_children(False, self._namespace)
            raise
        if not pid:
            warden.run(order.user, theirs, self._null)
        kernel.isolate_children(False, self._namespace)
        theirs.close()
        jail = self.by_pid[pid] = Jail(pid, ours, order, now_s)
        return jail

    def rest(self, jail: Jail) -> None:
        """Keep a jail for another attempt, if it may have any; from now on it is of none."""
        jail.idle_at_s = self._boot_s()
        if not jail.has_marked(self._new_mark()) or jail.is_spent:
            jail.let_go()
        else:
            self._idle.append(jail)

    def end_old(self) -> None:
        """Let go of those that wait in vain."""
        now_s = self._boot_s()
        for jail in [each for each in self._idle if each.is_old(now_s)]:
            self._idle.remove(jail)
            jail.let_go()

    def bury(self, jail: Jail) -> None:
        """Forget one that has ended."""
        del self.by_pid[jail.pid]
        if jail in self._idle:
            self._idle.remove(jail)
        jail.let_go()

    def close(self) -> None:
        """End all, as nothing runs in any."""
        for jail in self._idle:
            jail.let_go()
        for jail in list(self.by_pid.values()):
            os.waitpid(jail.pid, 0)
            self.bury(jail)
