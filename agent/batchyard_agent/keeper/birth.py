"""
How a process is started: a fork of this program, which makes itself what was ordered and becomes it.

No shell and no other program stands between. It must not know what becomes of the
process. Law: until the very call of the command the child holds the lock that it
inherited, and its own line in the journal is the last thing that it does before. (What
it touches is copied: it does little, and calls nothing that is made of Python needlessly.)
"""

from __future__ import annotations

import errno
import os
import resource
from _signal import SIG_DFL, SIGPIPE, SIGXFSZ, signal  # type: ignore[import-not-found]  # without enum, which costs memory

from batchyard_agent.keeper import groups, marks, record, wire

TYPE_CHECKING = False  # as in typing, which costs memory
if TYPE_CHECKING:
    from collections.abc import Callable

NEVER_CALLED = 125
"""What a child ends with that could not become its command."""


class Order:
    """
    What is to be started.

    Attributes:
        fields: As they came.
        name, fence_ms: See ``record.Kept``.
        user: Whom it becomes, as uid, gid and further groups; None: it stays who this program is.
        groups: Folders of its cgroup, to be made.
        limits: Resource limits: number, soft, hard.
    """

    __slots__ = ("fence_ms", "fields", "groups", "limits", "name", "user")

    def __init__(self, fields: list[bytes]) -> None:
        """
        Read an order.

        Its fields: name, log, folder, whether that is to be made, user, groups, writes, joins, limits, arguments,
        environment, closed, shared, wanted folder, stdin, fence.

        Raises:
            NotSpokenError, ValueError: it is none.
        """
        name, _, _, _, user, groups, _, _, limits, _, _, _, _, _, _, fence = self.fields = fields
        self.name = name.decode()
        self.fence_ms = int(fence) if fence else record.FENCE_OF_HOST
        self.user = tuple(map(int, user.split(b":"))) if user else None
        self.groups = [os.fsdecode(group) for group in wire.unpack(groups)]
        self.limits = [(int(a), int(b), int(c)) for a, b, c in _threes(wire.unpack(limits))]

    @property
    def folder(self) -> bytes:
        """Where it starts, unless another is wanted that is there."""
        return self.fields[2]

    @property
    def closed(self) -> list[bytes]:
        """Files, as devices of others, that it cannot open; where it is isolated from others."""
        return wire.unpack(self.fields[11])

    @property
    def shared(self) -> bytes:
        """Where the folders of all attempts are; where it is isolated it sees its own there, and no other."""
        return self.fields[12]

    def open_log(self) -> int:
        """
        Open the file that takes what it writes, and make it if need be.

        Raises:
            OSError: it cannot be had.
        """
        log = os.open(self.fields[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if self.user is not None:
            os.fchown(log, self.user[0], -1)  # so that it can open its own /dev/stdout
        return log

    def make_folder(self) -> None:
        """
        Make its folder, if that is its own.

        Raises:
            OSError: it cannot be made.
        """
        if self.fields[3] != b"1":
            return
        try:
            os.mkdir(self.folder, 0o700)
        except FileExistsError:
            pass
        if self.user is not None:
            os.chown(self.folder, self.user[0], self.user[1], follow_symlinks=False)

    def open_input(self, null: int) -> int:
        """
        Open what it reads; *null* where that is nothing.

        Raises:
            OSError: it cannot be had.
        """
        data = self.fields[14]
        if not data:
            return null
        held = os.memfd_create("stdin", os.MFD_CLOEXEC)
        while data:
            data = data[os.write(held, data) :]
        os.lseek(held, 0, os.SEEK_SET)
        return held

    def enter_folder(self, log: int) -> None:
        """
        Go where it starts; that it is not where it wanted to, its log says.

        Raises:
            OSError: its folder cannot be entered.
        """
        if wanted := self.fields[13]:
            try:
                os.chdir(wanted)
            except OSError as error:
                why = os.strerror(error.errno or 0).encode()
                line = b"[batchyard: this host has no folder %s for the job (%s): it starts in an empty one]\n"
                os.write(log, line % (wanted, why))
            else:
                return
        os.chdir(self.folder)

    def make_groups(self) -> None:
        """
        Make its cgroup.

        Raises:
            OSError: the kernel refused.
        """
        groups.make(self.groups, _threes(wire.unpack(self.fields[6])))

    def take_limits(self, mark: int) -> None:
        """
        Enter its cgroup, and take its limits.

        Raises:
            OSError: the kernel refused.
        """
        for path in wire.unpack(self.fields[7]):
            groups.write(path, b"0")
        for number, soft, hard in self.limits:
            if number == resource.RLIMIT_RTTIME:
                resource.setrlimit(number, (soft if soft >= 0 else mark, mark))
            else:
                resource.setrlimit(number, (soft, hard))

    def take_user(self) -> None:
        """
        Become its user, if it has one.

        Raises:
            OSError: the kernel refused.
        """
        if self.user is not None:
            uid, gid, *further = self.user
            os.setgroups(further)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)

    def execute(self, call: Callable[[bytes, list[bytes], dict[bytes, bytes]], int]) -> int:
        """
        Have its command called, looked up as ``execvp`` does: a file without a format is a script of the shell's.

        Raises:
            OSError: EACCES: it is there and closed; else of the last place.
        """
        arguments = wire.unpack(self.fields[9])
        environment = dict(each.split(b"=", 1) for each in wire.unpack(self.fields[10]))
        return _call(arguments, environment, call)


def _threes(fields: list[bytes]) -> list[tuple[bytes, bytes, bytes]]:
    return list(zip(fields[::3], fields[1::3], fields[2::3], strict=True))


class Birth:
    """
    A child between its fork and its command.

    Attributes:
        pid: The child's.
    """

    __slots__ = ("_pipe", "pid")

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pipe = pipe

    def outcome(self) -> tuple[str, int]:
        """Wait until it has become its command, or has failed: at which stage, and with which errno; empty and 0."""
        chunks = []
        while chunk := os.read(self._pipe, 256):
            chunks.append(chunk)
        os.close(self._pipe)
        stage, _, number = b"".join(chunks).partition(b" ")
        return stage.decode(), int(number or 0)


def fork(order: Order, mark: int, journal: int, null: int) -> Birth:
    """
    Start what was ordered.

    Args:
        order: What.
        mark: Of its processes.
        journal: Open file, to which the child writes.
        null: Open file, its stdin.

    Raises:
        OSError: nothing was started.
    """
    reading, writing = os.pipe()
    child = _Born(order, mark, journal, null, writing)
    try:
        pid = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if not pid:
        child.run()
        os._exit(NEVER_CALLED)
    os.close(writing)
    return Birth(pid, reading)


class Child:
    """A forked child's own way to its command. Whatever fails is told through the pipe, by the stage that it failed at."""

    def __init__(self, order: Order, mark: int, pipe: int) -> None:
        self._order = order
        self._mark = mark
        self._pipe = pipe
        self._stage = b"session"

    def run(self) -> None:
        """Become the command; come back only where that failed, which is told then."""
        try:
            self._run()
        except OSError as error:
            os.write(self._pipe, b"%s %d" % (self._stage, error.errno or 0))
        except BaseException:  # noqa: BLE001  # it must never come back into the keeper's own code
            os.write(self._pipe, b"%s 0" % self._stage)

    def _run(self) -> None:
        raise NotImplementedError


class _Born(Child):
    """That of an attempt's first process."""

    def __init__(self, order: Order, mark: int, journal: int, null: int, pipe: int) -> None:
        super().__init__(order, mark, pipe)
        self._line = record.line("pid", order.name, "")[:-1]
        self._journal = journal
        self._null = null

    def _run(self) -> None:
        order = self._order
        os.setsid()
        signal(SIGPIPE, SIG_DFL)  # which Python ignores, as the other one
        signal(SIGXFSZ, SIG_DFL)
        marks.put(self._mark)
        self._stage = b"log"
        log = order.open_log()
        os.dup2(order.open_input(self._null), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        self._stage = b"folder"
        order.make_folder()
        self._stage = b"limits"
        order.make_groups()
        order.take_limits(self._mark)
        self._stage = b"user"
        order.take_user()
        self._stage = b"cwd"
        order.enter_folder(log)
        self._stage = b"journal"
        os.write(self._journal, self._line + b"%d\n" % os.getpid())
        self._stage = b"exec"
        order.execute(os.execve)


def _call(
    arguments: list[bytes],
    environment: dict[bytes, bytes],
    execute: Callable[[bytes, list[bytes], dict[bytes, bytes]], int],
) -> int:
    name = arguments[0]
    places = [b""] if b"/" in name else environment.get(b"PATH", os.fsencode(os.defpath)).split(b":")
    refused: OSError | None = None
    for place in places if name else []:
        path = name if b"/" in name else (place or b".") + b"/" + name
        try:
            return execute(path, arguments, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            refused = error
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            return execute(b"/bin/sh", [b"/bin/sh", path, *arguments[1:]], environment)
    raise refused or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
