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
from _signal import (  # type: ignore[import-not-found]  # without enum, which costs memory
    SIG_BLOCK,
    SIG_DFL,
    SIGCHLD,
    SIGPIPE,
    SIGTERM,
    SIGXFSZ,
    pthread_sigmask,
    signal,
    sigwait,
)

from batchyard_agent.keeper import groups, kernel, marks, record, wire

TYPE_CHECKING = False  # as in typing, which costs memory
if TYPE_CHECKING:
    from collections.abc import Callable

NEVER_CALLED = 125
"""What a child ends with that could not become its command."""


class Order:
    """
    What is to be started.

    Attributes:
        name: See ``record.Kept``.
        log: File that takes what it writes; made if need be.
        folder: Where it starts.
        closed: Files, as devices of others, that it cannot open; where it is isolated from others.
        makes_folder: The folder is its own and has to be made.
        shared: Where those of all attempts are; where it is isolated it sees its own there, and no other.
        user: Whom it becomes, as uid and gid; None: it stays who this program is.
        groups: Folders of its cgroup, to be made.
        writes: What is written into files of them, and whether it may be missing.
        joins: Files by which it joins them.
        limits: Resource limits: number, soft, hard.
        arguments: Argument vector; the first is looked up on PATH.
        environment: All of it.
    """

    __slots__ = (
        "arguments",
        "closed",
        "environment",
        "folder",
        "groups",
        "joins",
        "limits",
        "log",
        "makes_folder",
        "name",
        "shared",
        "user",
        "writes",
    )

    def __init__(self, fields: list[bytes]) -> None:
        """
        Read an order as ``pack`` made it.

        Raises:
            NotSpokenError, ValueError: it is none.
        """
        name, log, folder, makes_folder, user, groups, writes, joins, limits, arguments, environment, closed, shared = (
            fields
        )
        self.name = name.decode()
        self.log = log
        self.folder = folder
        self.makes_folder = makes_folder == b"1"
        self.user = _pair(user)
        self.groups = [os.fsdecode(group) for group in wire.unpack(groups)]
        self.writes = _threes(wire.unpack(writes))
        self.joins = wire.unpack(joins)
        self.limits = [(int(a), int(b), int(c)) for a, b, c in _threes(wire.unpack(limits))]
        self.arguments = wire.unpack(arguments)
        self.environment = dict(each.split(b"=", 1) for each in wire.unpack(environment))
        self.closed = wire.unpack(closed)
        self.shared = shared


def _pair(text: bytes) -> tuple[int, int] | None:
    uid, _, gid = text.partition(b":")
    return (int(uid), int(gid)) if text else None


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


def fork(order: Order, mark: int, journal: int, null: int, namespace: int) -> Birth:
    """
    Start what was ordered.

    Args:
        order: What.
        mark: Of its processes.
        journal: Open file, to which the child writes.
        null: Open file, its stdin.
        namespace: This process's own pid namespace, opened: a user's process gets another one. Below 0: none does.

    Raises:
        OSError: nothing was started.
    """
    reading, writing = os.pipe()
    is_isolated = namespace >= 0 and order.user is not None
    child = _Child(order, mark, journal, null, writing, is_isolated=is_isolated)
    try:
        pid = _fork_isolated(namespace) if is_isolated else os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if not pid:
        child.run()
        os._exit(NEVER_CALLED)
    os.close(writing)
    return Birth(pid, reading)


def _fork_isolated(namespace: int) -> int:
    kernel.isolate_children(True)
    try:
        pid = os.fork()
    except OSError:
        kernel.isolate_children(False, namespace)
        raise
    if pid:
        kernel.isolate_children(False, namespace)
    return pid


class _Child:
    """The child's own way. Whatever fails is told through the pipe, by the stage that it failed at."""

    def __init__(self, order: Order, mark: int, journal: int, null: int, pipe: int, *, is_isolated: bool) -> None:
        self._is_isolated = is_isolated
        self._order = order
        self._line = record.line("pid", order.name, "")[:-1]
        self._mark = mark
        self._journal = journal
        self._null = null
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
        self._stage = b"log"
        self._take_streams()
        self._stage = b"folder"
        if order.makes_folder:
            self._make_folder()
        if self._is_isolated:
            self._stage = b"namespace"
            pid = os.readlink("/proc/self").encode()  # as it is seen from outside
            kernel.hide_others()
            for path in order.closed:
                kernel.put_over(record.CLOSED, path)
            kernel.show_alone(order.shared, order.folder)
        else:
            pid = b"%d" % os.getpid()
        self._stage = b"limits"
        self._take_limits()
        if order.user is not None:
            self._stage = b"user"
            os.setgroups([])
            os.setresgid(order.user[1], order.user[1], order.user[1])
            os.setresuid(order.user[0], order.user[0], order.user[0])
        self._stage = b"cwd"
        os.chdir(order.folder)
        self._stage = b"journal"
        os.write(self._journal, self._line + pid + b"\n")
        self._stage = b"exec"
        if self._is_isolated:
            _be_first(order.arguments, order.environment)
        _call(order.arguments, order.environment, os.execve)

    def _take_streams(self) -> None:
        order = self._order
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        log = os.open(order.log, flags, 0o640)
        if order.user is not None:
            os.fchown(log, order.user[0], -1)  # so that it can open its own /dev/stdout
        os.dup2(self._null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)

    def _take_limits(self) -> None:
        order = self._order
        groups.make(order.groups, order.writes)
        for path in order.joins:
            groups.write(path, b"0")
        for number, soft, hard in order.limits:
            if number == resource.RLIMIT_RTTIME:
                resource.setrlimit(number, (soft if soft >= 0 else self._mark, self._mark))
            else:
                resource.setrlimit(number, (soft, hard))

    def _make_folder(self) -> None:
        order = self._order
        try:
            os.mkdir(order.folder, 0o700)
        except FileExistsError:
            pass
        if order.user is not None:
            os.chown(order.folder, *order.user, follow_symlinks=False)


def _be_first(arguments: list[bytes], environment: dict[bytes, bytes]) -> None:
    """
    Be the first process of a namespace: hand SIGTERM on to the command, take the ends of orphans, end as it does.

    What is first there cannot be killed from inside, and all the rest is by the kernel when it ends.
    It is not the command itself, which would hear no signal that it does not handle. Being
    the job's user, it has nothing that the job has not.
    """
    before = pthread_sigmask(SIG_BLOCK, [SIGTERM, SIGCHLD])

    def spawn(path: bytes, argv: list[bytes], variables: dict[bytes, bytes]) -> int:
        return os.posix_spawn(path, argv, variables, setsid=True, setsigmask=before)

    command = _call(arguments, environment, spawn)
    os.closerange(0, 1 << 16)  # the lock among them, and the pipe: the command runs
    while True:
        if sigwait([SIGTERM, SIGCHLD]) == SIGTERM:
            try:
                os.kill(command, SIGTERM)
            except (ProcessLookupError, PermissionError):  # ended, or a program that became another user
                pass
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == command:
                os._exit(kernel.shell_code(os.waitstatus_to_exitcode(status)))
            if not pid:
                break


def _call(
    arguments: list[bytes],
    environment: dict[bytes, bytes],
    execute: Callable[[bytes, list[bytes], dict[bytes, bytes]], int],
) -> int:
    """
    Execute a command, looked up as ``execvp`` does: a file without a format is a script of the shell's.

    Raises:
        OSError: EACCES: it is there and closed; else of the last place.
    """
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
