"""
The keeper's loop: its lock, its socket, the messages of its agent, and time.

It joins the rooms of this package and decides nothing itself. One keeper has a folder,
and one agent has a keeper: a newer connection takes the place of an older one. Law: no agent is
answered before the journal of former keepers is read, and that not before all that they were
just starting has come to run, or to nothing.
"""

from __future__ import annotations

import fcntl
import gc
import os
import select
import sys
import time
from _signal import SIGCHLD, SIGKILL, set_wakeup_fd, signal  # type: ignore[import-not-found]  # without enum, which costs memory
from _socket import AF_UNIX, SO_PEERCRED, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, socket

from batchyard_agent.keeper import birth, entering, kernel, marks, wire
from batchyard_agent.keeper.guard import Guard
from batchyard_agent.keeper.jails import Jail
from batchyard_agent.keeper.keeping import Attempts
from batchyard_agent.keeper.record import CLOSED, Journal, Kept

LOCK = "lock"
SOCKET = "socket"
LOCK_LIMIT_S = 30.0
"""How long a former keeper, which was killed, may take to be gone with those that it was just starting."""

FIRST_AGENT_S = 10.0
"""How long it waits for its first agent. Later it ends at once where there is neither an agent nor anything to keep."""

_READ_BYTES = 1 << 16


def main(folder: str, held: str = "") -> None:
    """
    Be the keeper of a folder until there is nothing to keep.

    Args:
        folder: Where its journal and its socket are.
        held: Number of its open lock, where this program was a keeper of another version; else empty.
    """
    os.chdir(folder)
    lock = int(held) if held else _lock()
    os.set_inheritable(lock, False)
    kernel.become_subreaper()
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    guard = Guard(folder, boot_id)
    guard.load()
    attempts = Attempts(Journal(folder, boot_id), marks.keeper_number(folder), lock, _wall_ms, _boot_s)
    attempts.recover()
    os.close(os.open(CLOSED, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0))
    gc.freeze()  # a collection would touch all that children share
    _Program(folder, attempts, guard, lock).run()


def _lock() -> int:
    """Hold this folder alone; the lock stands open in all children until they are what they were to become."""
    fd = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    give_up_at_s = _boot_s() + LOCK_LIMIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _boot_s() > give_up_at_s:
                sys.exit("batchyard keeper: another one has this folder")
            time.sleep(0.01)
        else:
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
            return fd


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Program:
    """The loop and what it holds open."""

    def __init__(self, folder: str, attempts: Attempts, guard: Guard, lock: int) -> None:
        self._folder = folder
        self._attempts = attempts
        self._guard = guard
        self._lock = lock
        self._poll = select.poll()
        self._listener = _listen()
        self._place = os.stat(SOCKET)
        self._agent: socket | None = None
        self._agent_pid = 0
        self._is_welcome = False
        self._inbox = wire.Inbox()
        self._outbox = bytearray()
        self._adrift: dict[int, str] = {}
        self._jails: dict[int, Jail] = {}
        self._needs_agent_at_s = _boot_s() + FIRST_AGENT_S
        self._wakeup, wakeup_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        set_wakeup_fd(wakeup_end, warn_on_full_buffer=False)
        signal(SIGCHLD, lambda *_: None)
        self._poll.register(self._listener, select.POLLIN)
        self._poll.register(self._wakeup, select.POLLIN)

    def run(self) -> None:
        """Serve until there is nothing to keep, or nobody can find this program any more."""
        pause_s = 0.0
        while True:
            for fd, events in self._poll.poll(max(1, int(pause_s * 1000))):
                self._serve(fd, events)
            self._attempts.reap()
            pause_s = self._attempts.look()
            self._keep_guard()
            self._watch_adrift()
            self._watch_jails()
            self._tell_news()
            self._send()
            if self._is_over():
                self._attempts.jails.close()
                self._clear()
                return

    def _serve(self, fd: int, events: int) -> None:
        if fd == self._wakeup:
            os.read(fd, 4096)
        elif fd == self._listener.fileno():
            self._accept()
        elif fd in self._jails:
            self._attempts.on_jail_told(self._jails[fd])
        elif fd in self._adrift:
            self._poll.unregister(fd)
            self._attempts.on_adrift_ended(self._adrift.pop(fd))
        elif self._agent is not None and fd == self._agent.fileno():
            if events & select.POLLIN:
                self._read()
            elif events & (select.POLLHUP | select.POLLERR):
                self._drop()

    def _accept(self) -> None:
        fd, _ = self._listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001  # the light socket has no other
        agent = socket(fileno=fd)
        peer = agent.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
        pid, uid = (int.from_bytes(peer[start : start + 4], sys.byteorder) for start in (0, 4))
        if uid != os.geteuid() or marks.read(pid):
            agent.close()  # of another user, or itself an attempt's
            return
        self._drop()
        agent.setblocking(False)
        self._agent, self._agent_pid = agent, pid
        self._poll.register(agent, select.POLLIN)

    def _drop(self) -> None:
        if self._agent is not None:
            self._poll.unregister(self._agent)
            self._agent.close()
            self._attempts.hang_up(None)
        self._agent, self._is_welcome = None, False
        self._inbox, self._outbox = wire.Inbox(), bytearray()

    def _read(self) -> None:
        assert self._agent is not None
        try:
            data = self._agent.recv(_READ_BYTES)
            if not data:
                self._drop()
                return
            self._take(self._inbox.take(data))
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            sys.stderr.write(f"batchyard keeper: the agent is left: {error}\n")
            self._drop()

    # Messages.

    def _take(self, messages: list[list[bytes]]) -> None:
        """Do as the agent says, starts that came together in one."""
        orders = []
        for what, *fields in messages:
            if what == b"start":
                orders.append(birth.Order(fields))
                continue
            self._start(orders)
            orders = []
            self._take_one(what, fields)
        self._start(orders)

    def _take_one(self, what: bytes, fields: list[bytes]) -> None:
        if what == b"hello":
            self._welcome(*fields)
        elif what == b"ping":
            self._say(b"pong", *fields)
        elif what == b"enter":
            number, terminal, *streams = fields[:5]
            self._enter(number, terminal, streams, birth.Order(fields[5:]))
        elif what == b"hangup":
            self._attempts.hang_up(fields[0])
        elif what == b"signal":
            self._attempts.signal(fields[0].decode(), int(fields[1]))
        elif what == b"note":
            self._attempts.note(fields[0].decode(), fields[1].decode())
        elif what == b"code":
            self._attempts.learn_code(fields[0].decode(), int(fields[1]))
        elif what == b"forget":
            self._attempts.forget([name.decode() for name in fields])
        elif what == b"guard":
            since_ms, fence_ms, containers, engine, query = (field.decode() for field in fields)
            self._guard.tell(int(since_ms), int(fence_ms), containers, engine, query)
        else:
            raise wire.NotSpokenError(f"unknown message {what[:20]!r}")

    def _welcome(self, version: bytes, python: bytes, program: bytes) -> None:
        """Tell a new agent all that is kept; become a keeper of its version first, if need be."""
        if version != wire.VERSION:
            os.set_inheritable(self._lock, True)  # so that no other takes it meanwhile
            line = [python, b"-I", b"-S", program, os.fsencode(self._folder), b"%d" % self._lock]
            os.execv(python, line)  # noqa: S606
        for kept in self._attempts.kept.values():
            self._say(b"started", kept.name.encode(), b"%d" % kept.pid, b"%d" % kept.started_at_ms)
            if kept.ended is not None:
                self._say_end(kept)
        for name, adrift in self._attempts.adrift.items():
            self._say(b"adrift", name.encode(), b"%d" % adrift.kept.pid)
        self._attempts.started.clear()
        self._attempts.ended.clear()
        self._say(b"welcome", b"1" if self._attempts.can_isolate else b"")
        self._is_welcome = True

    def _start(self, orders: list[birth.Order]) -> None:
        if not orders:
            return
        now_s = _boot_s()
        late = [order for order in orders if self._guard.has_passed(order.fence_ms, now_s)]
        for order in late:
            self._say(b"refused", order.name.encode(), b"fence")
        if len(late) == len(orders):
            return
        for name in self._attempts.start([order for order in orders if order not in late]):
            self._say(b"refused", name.encode(), b"again")

    def _enter(self, number: bytes, terminal: bytes, streams: list[bytes], order: birth.Order) -> None:
        if self._guard.has_passed(order.fence_ms, _boot_s()):
            self._say(b"entered", number, b"gone", b"0")
            return
        door = entering.Door(self._agent_pid, streams, is_terminal=terminal == b"1")
        stage, errno = self._attempts.enter(number, order, door)
        self._say(b"entered", number, stage.encode(), b"%d" % errno)

    def _tell_news(self) -> None:
        started, self._attempts.started = self._attempts.started, []
        ended, self._attempts.ended = self._attempts.ended, []
        left, self._attempts.left = self._attempts.left, []
        if self._is_welcome:
            for number, code in left:
                self._say(b"left", number, b"%d" % code)
            for kept in started:
                self._say(b"started", kept.name.encode(), b"%d" % kept.pid, b"%d" % kept.started_at_ms)
            for kept in ended:
                self._say_end(kept)

    def _say_end(self, kept: Kept) -> None:
        assert kept.ended is not None
        self._say(b"ended", kept.name.encode(), ",".join(kept.notes).encode(), *map(str.encode, kept.ended.words()))

    def _say(self, *fields: bytes) -> None:
        if self._agent is not None:
            self._outbox += wire.message(*fields)

    def _send(self) -> None:
        if self._agent is None or not self._outbox:
            return
        try:
            sent = self._agent.send(self._outbox)
            del self._outbox[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._drop()
            return
        self._poll.modify(self._agent, select.POLLIN | (select.POLLOUT if self._outbox else 0))

    # Time.

    def _watch_adrift(self) -> None:
        for name, adrift in self._attempts.adrift.items():
            if not adrift.has_ended and adrift.pidfd not in self._adrift:
                self._adrift[adrift.pidfd] = name
                self._poll.register(adrift.pidfd, select.POLLIN)

    def _watch_jails(self) -> None:
        now = {jail.fileno(): jail for jail in self._attempts.jails.by_pid.values() if jail.fileno() >= 0}
        for fd in self._jails.keys() - now.keys():
            self._poll.unregister(fd)
        for fd in now.keys() - self._jails.keys():
            self._poll.register(fd, select.POLLIN)
        self._jails = now

    def _keep_guard(self) -> None:
        now_s = _boot_s()
        if not self._guard.is_due(now_s):
            return
        for kept in self._attempts.living():
            if self._guard.has_passed(kept.fence_ms, now_s):
                self._attempts.note(kept.name, "fence")
                self._attempts.signal(kept.name, SIGKILL)
        if self._guard.begins_round(now_s):
            self._attempts.help_with(self._guard.kill_containers)

    def _is_over(self) -> bool:
        now_s = _boot_s()
        if self._is_lost():
            for kept in self._attempts.living():
                self._attempts.signal(kept.name, SIGKILL)
            return not self._attempts.living()
        if self._agent is not None:
            self._needs_agent_at_s = 0.0
            return False
        return now_s > self._needs_agent_at_s and not (self._attempts.living() or self._guard.is_needed())

    def _clear(self) -> None:
        """Leave nothing behind, unless an agent is to learn yet how something ended."""
        if self._attempts.kept or self._is_lost():
            return
        for name in os.listdir():
            os.unlink(name)
        os.rmdir(self._folder)

    def _is_lost(self) -> bool:
        """Say whether its folder was removed: no agent finds it any more, so nobody answers for what it keeps."""
        try:
            return not os.path.samestat(os.stat(SOCKET), self._place)
        except OSError:
            return True


def _listen() -> socket:
    """Listen in this folder, for this program's own user alone."""
    try:
        os.unlink(SOCKET)  # of a former keeper: the lock says that it is gone
    except FileNotFoundError:
        pass
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        listener.bind(SOCKET)  # by its short name: a path has 107 bytes at most
    finally:
        os.umask(before)
    listener.listen(8)
    return listener
