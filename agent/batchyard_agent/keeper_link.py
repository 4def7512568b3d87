"""
The agent's side of its keeper: have one, speak to it, and have another when that is gone or stands still.

It knows how a keeper is found, started and ended, and what it said last; it decides nothing
about attempts. Law: there is one keeper or none at any time (its lock), and each tells first
all that it knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Protocol

import structlog

from batchyard.records import replace
from batchyard.state_folder import make_private_folder
from batchyard_agent import keeper
from batchyard_agent.keeper import kernel, marks, wire
from batchyard_agent.keeper.guard import Guard
from batchyard_agent.keeper.record import Ended, ended_from
from batchyard_agent.runtimes.plain_names import whole_name

WELCOME_LIMIT_S = 10.0
"""How long a keeper may take to answer before it counts as one that stands still; it reads its journal first."""
OPEN_LIMIT_S = 60.0
PING_S = 1.0
SILENCE_LIMIT_S = 10.0
"""A keeper that has answered nothing for so long stands still: another takes its place."""
KILL_LIMIT_S = 2.0
"""Likewise one that was told to end what the fence demands."""

FORGOTTEN_MAX = 10_000
"""So many forgotten attempts are remembered, the last ones: more than a keeper can have heard of and not written down."""

_RETRY_S = 0.02
_READ_BYTES = 1 << 18
_LOG_BYTES_MAX = 1 << 20
_UCRED = struct.Struct("=iII")
_PROGRAM = str(Path(keeper.__file__).parent)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """
    An attempt as the keeper told of it last.

    Attributes:
        started_at_ms: Wall clock.
        pid: Of its command; 0: it never came to run.
        notes: Why it was killed: ``memory``, ``disk``, ``fence``.
        ended: None while anything of it may live.
    """

    started_at_ms: int
    pid: int
    notes: tuple[str, ...] = ()
    ended: Ended | None = None


class Listener(Protocol):
    """Whoever has attempts kept."""

    def on_kept(self, name: str, kept: Kept) -> None:
        """Take that an attempt has started or ended."""

    def on_refused(self, name: str, why: str) -> None:
        """Take that an attempt is not started: ``again`` or ``fence``."""

    def on_renewed(self) -> None:
        """Take that another keeper is there; what it knows is in ``KeeperLink.kept``, and it was told nothing yet."""


class KeeperGoneError(Exception):
    """There is no keeper now; the text says why."""


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    pid: int
    inbox: wire.Inbox = field(default_factory=wire.Inbox)


class KeeperLink:
    """
    One keeper after the other, of one folder.

    Args:
        folder: The keeper's own, of this agent alone.
        child: The keeper that this process has just started; 0: none.

    Attributes:
        kept: All attempts that it keeps, by name.
        can_isolate: Processes of another user than this one neither see nor reach others.
    """

    def __init__(self, folder: Path, child: int = 0) -> None:
        self.folder = folder
        self.kept: dict[str, Kept] = {}
        self.can_isolate = False
        self._listener: Listener | None = None
        self._connection: _Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._heard_s = 0.0
        self._guard: tuple[bytes, ...] = ()
        self._forgotten: deque[str] = deque(maxlen=FORGOTTEN_MAX)
        self._orphans: dict[int, str] = {}
        """Descriptors of attempts that are now children of this process, and their names."""
        self._has_orphans = False
        self._visits: dict[bytes, tuple[asyncio.Future[tuple[str, int]], asyncio.Future[int | None]]] = {}
        """Commands let into attempts, by the numbers that they were given here."""
        self._visit_numbers = count(1)
        self._child = child
        """The keeper that this process started last; 0: it has ended, or was started by another."""

    @property
    def is_open(self) -> bool:
        """Whether a keeper is in touch now."""
        return self._connection is not None

    def listen(self, listener: Listener | None) -> None:
        """Tell *listener* from now on; None: nobody."""
        self._listener = listener

    async def open(self) -> None:
        """
        Have a keeper, and hold on to it from now on. Idempotent.

        Raises:
            OSError: there can be none.
        """
        if self._task is None:
            await self._renew()
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(_on_done)

    async def close(self) -> None:
        """Let go of the keeper, which goes on as long as there is something to keep."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for pidfd in list(self._orphans):
            self._forget_orphan(pidfd)
        if self._connection is not None:
            writer = self._connection.writer
            self._leave()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        if not self.kept:  # it ends now, and is no zombie then
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KILL_LIMIT_S):
                    while self._has_child():  # noqa: ASYNC110
                        await asyncio.sleep(_RETRY_S / 10)

    def send(self, *fields: bytes) -> None:
        """Say something; it is lost if the keeper is gone, and then ``on_renewed`` says so."""
        if self._connection is not None:
            self._connection.writer.write(wire.message(*fields))

    def forget(self, *names: str) -> None:
        """Have attempts forgotten, by their own names or that of the whole; the next keeper forgets them too."""
        for name in names:
            self.kept.pop(name, None)
            self._forgotten.append(name)
            self.send(b"forget", name.encode())

    def expect_entry(self) -> tuple[bytes, asyncio.Future[tuple[str, int]], asyncio.Future[int | None]]:
        """
        Expect the keeper's word on a command that it is about to be told to let into an attempt.

        Returns:
            A number for it; at which stage it failed, and with which errno, empty and 0 if it runs; and
            later its exit code, None if the keeper went before.
        """
        number, loop = b"%d" % next(self._visit_numbers), asyncio.get_running_loop()
        begun: asyncio.Future[tuple[str, int]] = loop.create_future()
        left: asyncio.Future[int | None] = loop.create_future()
        self._visits[number] = begun, left
        left.add_done_callback(lambda _: self._visits.pop(number, None))
        return number, begun, left

    def guard(self, *, since_ms: int, fence_ms: int, containers: Iterable[int], engine: str, query: str) -> None:
        """
        Tell since when the silence counts, and how containers are found.

        Args:
            since_ms: CLOCK_BOOTTIME.
            fence_ms: After how long an attempt is ended that has no fence of its own; 0: never.
            containers: The fences of all containers that may run.
            engine: See ``keeper.guard.Guard``.
            query: Likewise.
        """
        fences = ",".join(map(str, sorted(containers)))
        told = (b"guard", b"%d" % since_ms, b"%d" % fence_ms, fences.encode(), engine.encode(), query.encode())
        if told != self._guard:
            self._guard = told
            self.send(*told)

    # One keeper after the other.

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except (KeeperGoneError, OSError, wire.NotSpokenError) as error:
                log.warning("the keeper is gone; another one takes its place", reason=str(error))
            self._leave()
            await self._renew()
            if self._listener is not None:
                self._listener.on_renewed()

    async def _renew(self) -> None:
        """
        Connect to the keeper there is, or to one that is started now.

        Raises:
            OSError: neither can be done.
        """
        loop = asyncio.get_running_loop()
        give_up_at_s = loop.time() + OPEN_LIMIT_S
        while True:
            try:
                connection = await self._connect()
                async with asyncio.timeout(WELCOME_LIMIT_S):
                    await self._greet(connection)
            except (
                ConnectionError,
                FileNotFoundError,
                KeeperGoneError,
            ) as error:  # as one that becomes another version
                if loop.time() > give_up_at_s:
                    raise OSError(f"no keeper comes up in {self.folder}: {error}") from error
                if not self._has_child():
                    make_private_folder(self.folder)
                    self._leave_word()
                    self._child = _start(self.folder)
                await asyncio.sleep(_RETRY_S)
            except (TimeoutError, wire.NotSpokenError) as error:
                if loop.time() > give_up_at_s:
                    raise OSError(f"no keeper answers in {self.folder}: {error}") from error
                log.warning("the keeper does not answer; it is ended", reason=repr(error))
                self._end_keeper()
            else:
                return

    def _leave_word(self) -> None:
        """Write down what a keeper goes by that starts now: one that stood still did not hear of the last contact."""
        if self._guard:
            boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            since_ms, fence_ms, *rest = (field.decode() for field in self._guard[1:])
            Guard(str(self.folder), boot_id).tell(int(since_ms), int(fence_ms), *rest)

    def _has_child(self) -> bool:
        """Say whether the keeper that this process started lives, and take the end of one that does not."""
        if self._child and os.waitpid(self._child, os.WNOHANG)[0]:
            self._child = 0
        return self._child > 0

    async def _connect(self) -> _Connection:
        # A socket's path has 107 bytes at most; the folder's may be longer.
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/socket")
        finally:
            os.close(folder)
        peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _ = _UCRED.unpack(peer)
        if uid != os.geteuid():
            writer.close()
            raise PermissionError(f"the keeper of {self.folder} is another user's")
        return _Connection(reader, writer, pid)

    async def _greet(self, connection: _Connection) -> None:
        """Hear all that a keeper knows. Whoever it is, nothing that was heard before counts any more."""
        connection.writer.write(wire.message(b"hello", wire.VERSION, sys.executable.encode(), _PROGRAM.encode()))
        self.kept = {}
        listener, self._listener = self._listener, None
        try:
            while not await self._receive(connection):
                pass
        except BaseException:
            connection.writer.close()
            raise
        finally:
            self._listener = listener
        self._connection = connection
        self._heard_s = asyncio.get_running_loop().time()
        if self._guard:
            self.send(*self._guard)
        # The former keeper may have ended before it heard, or wrote down, that it should.
        gone = set(self._forgotten)
        self.forget(*(name for name in self.kept.copy() if name in gone or whole_name(name) in gone))

    async def _follow(self) -> None:
        assert self._connection is not None
        beat = asyncio.get_running_loop().create_task(self._beat())
        try:
            while True:
                await self._receive(self._connection)
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self.send(b"ping")
            await asyncio.sleep(PING_S)
            self._bury_orphans()
            if loop.time() - self._heard_s > SILENCE_LIMIT_S:
                log.warning("the keeper stands still; it is ended", silent_s=round(loop.time() - self._heard_s, 1))
                self._end_keeper()
                self._heard_s = loop.time()

    async def _receive(self, connection: _Connection) -> bool:
        """
        Take what the keeper says next. True: that was its welcome.

        Raises:
            KeeperGoneError: it says nothing any more.
        """
        data = await connection.reader.read(_READ_BYTES)
        if not data:
            raise KeeperGoneError("it has ended")
        self._heard_s = asyncio.get_running_loop().time()
        is_welcome = False
        for what, *fields in connection.inbox.take(data):
            is_welcome = is_welcome or what == b"welcome"
            self._take(what, fields)
        return is_welcome

    def _take(self, what: bytes, fields: list[bytes]) -> None:
        match what:
            case b"started":
                name, pid, started_at_ms = fields
                self._tell(name.decode(), Kept(started_at_ms=int(started_at_ms), pid=int(pid)))
            case b"ended":
                ended_name, notes, *words = (each.decode() for each in fields)
                kept = self.kept.get(ended_name, Kept(started_at_ms=0, pid=0))
                told = tuple(filter(None, notes.split(",")))
                self._tell(ended_name, replace(kept, notes=told, ended=ended_from(words)))
            case b"refused":
                if self._listener is not None:
                    self._listener.on_refused(fields[0].decode(), fields[1].decode())
            case b"welcome":
                self.can_isolate = fields == [b"1"]
            case b"entered":
                number, stage, errno = fields
                begun, left = self._visits.get(number, (None, None))
                if begun is not None and not begun.done():
                    begun.set_result((stage.decode(), int(errno)))
                if left is not None and stage and not left.done():
                    left.set_result(None)
            case b"left":
                _, left = self._visits.get(fields[0], (None, None))
                if left is not None and not left.done():
                    left.set_result(int(fields[1]))
            case b"adrift":
                self._follow_orphan(fields[0].decode(), int(fields[1]))
            case _:
                pass

    def _tell(self, name: str, kept: Kept) -> None:
        self.kept[name] = kept
        if self._listener is not None:
            self._listener.on_kept(name, kept)

    def _leave(self) -> None:
        for begun, left in list(self._visits.values()):
            if not begun.done():
                begun.set_result(("gone", 0))
            if not left.done():
                left.set_result(None)
        if self._connection is not None:
            self._connection.writer.close()
            self._connection = None

    def _end_keeper(self) -> None:
        """End a keeper that stands still; what it keeps goes on."""
        pid = self._connection.pid if self._connection is not None else 0
        with contextlib.suppress(FileNotFoundError, ValueError):
            pid = pid or int((self.folder / "lock").read_text())
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # What a keeper leaves to this process, where that is its next ancestor that takes orphans.

    def _follow_orphan(self, name: str, pid: int) -> None:
        self._has_orphans = True
        if marks.parent_and_state(pid)[0] != os.getpid() or name in self._orphans.values():
            return
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(pid)
            self._orphans[pidfd] = name
            asyncio.get_running_loop().add_reader(pidfd, self._on_orphan_ended, pidfd)

    def _on_orphan_ended(self, pidfd: int) -> None:
        name = self._orphans[pidfd]
        with contextlib.suppress(ChildProcessError):
            if ended := os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG):
                is_exit = ended.si_code == os.CLD_EXITED
                self.send(b"code", name.encode(), b"%d" % (ended.si_status if is_exit else 128 + ended.si_status))
        self._forget_orphan(pidfd)

    def _forget_orphan(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        del self._orphans[pidfd]

    def _bury_orphans(self) -> None:
        """Take the ends of attempts' other processes that came to this one."""
        if not self._has_orphans:
            return
        for pid in marks.children(os.getpid()):
            if marks.read(pid) and marks.parent_and_state(pid)[1] == "Z" and not self._follows(pid):
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def _follows(self, pid: int) -> bool:
        return any(self.kept[name].pid == pid for name in self._orphans.values() if name in self.kept)


def _start(folder: Path) -> int:
    """Start a keeper, in a session of its own, and return its pid; it ends by itself if there is one already."""
    path = folder / "log"
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_BYTES_MAX:
            path.unlink()
    log_file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", _PROGRAM, str(folder.absolute())],
            env={},  # what this one's environment holds is nothing for those that it keeps
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,
        )
    finally:
        os.close(log_file)
    process.returncode = 0  # keeps Popen from minding it
    return process.pid


def begin(folder: Path) -> int:
    """
    Start a keeper where none lives; 0: one does, or none can be had, which ``KeeperLink.open`` says.

    Called as soon as an agent knows its folder: what both left that were killed may be due to end by now.
    """
    with contextlib.suppress(OSError):
        make_private_folder(folder)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(lock)
        return _start(folder)
    return 0


def _on_done(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        # The loop's handler decides; the app ends the agent, whose next life tries again.
        task.get_loop().call_exception_handler({"message": "there is no keeper any more", "exception": error})


def take_orphans() -> None:
    """Become the parent of what a keeper leaves that is killed, so that no exit code is lost with it."""
    kernel.become_subreaper()
