"""
The supervisor of one attempt on the process runtime, and the record it keeps.

A supervisor is ``/bin/sh`` with a few lines of built-in commands: it starts the
attempt's command, waits, and writes the exit code down, so that the code is
learnt even when the agent is dead at that moment. It must never interpret a word
of the job: command, names and values reach it as arguments and environment only.

Law: the record is the supervisor's stdin, and it is locked (flock) from before the
supervisor exists until it is gone. So *locked* means "may still run", and a free
record is final. Pids are never asked whether they live, as they are reused.

A record is one file of whole lines, each written by one write:

    {"started_at_ms": ..., "boot_id": ..., "cgroup": [...]}   by the agent
    pid 4711          by the supervisor, before anything else
    out of memory     by the agent, before it kills for memory
    over disk         by the agent, before it kills for what it takes of the disk
    failed 126        by the supervisor: the command was never called, and why (``Record.failure``)
    exit 7            by the supervisor, at the end; its time is the stop time

Nothing is synced to disk: after a crash of the machine the boot id tells that
whatever is missing may have happened.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from batchyard_agent.runtimes.job_user import JobUser
from batchyard_agent.runtimes.protocol import LaunchSpec, StartFailed

# What both scripts share. The traps let the supervisor outlive a signal to its whole
# group; a trapped (not ignored) signal is back at its default in the subshell. The
# subshell gives up the record (stdin), so that the command does not hold the lock. The
# last line ends what the command left behind in its process group, itself included.
_SCRIPT = """echo "pid $$" >&0
trap : HUP INT QUIT PIPE ALRM TERM USR1 USR2
(
{limit} || {{ echo "failed 125" >&0; exit 125; }}
{check}exec "$@" {stdin} 2>&1
)
echo "exit $?" >&0
kill -9 0
"""

# Calls the wrapper that becomes the job's user once before the command, to see whether it would
# get there. One that was killed, as for its memory, is no answer: then the command is as well.
_CHECK = """batchyard_check=1 "$@" <&2 >/dev/null 2>&1 || {
code=$?
[ $code -gt 128 ] || { echo "failed $code" >&0; exit $code; }
}
"""

LIMIT_RLIMIT = 'ulimit -d "$1" && shift'
"""First argument: KiB of private writable memory a process may have, or ``unlimited``."""

LIMIT_CGROUP = 'echo 0 >"$1" && echo 0 >"$2" && shift 2'
"""First two arguments: files that move whoever writes 0 into the attempt's cgroups."""

NAME = "batchyard-supervisor"
"""What a supervisor calls itself (``$0``)."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH of an attempt that sets none; the one that Docker gives."""

EXIT_NEVER_CALLED = 125
"""What a supervisor ends with whose command's limits were refused, as ``docker run`` does."""

EXIT_NOT_EXECUTABLE = 126

_REASON_LENGTH_MAX = 255
_RECORD_BYTES_MAX = 64 << 10
_PID = re.compile(rb"pid ([1-9][0-9]{0,8})")
_FAILED = re.compile(rb"failed ([0-9]{1,3})")
_EXIT = re.compile(rb"exit ([0-9]{1,3})")
_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_NOT_PLAIN = re.compile(rb"[^A-Za-z0-9-]")
# Variables that one shell or another (dash, bash, busybox) sets, drops or chokes on.
_SHELL_OWN = frozenset(
    [
        "EUID",
        "GROUPS",
        "IFS",
        "LINENO",
        "OLDPWD",
        "OPTIND",
        "PPID",
        "PS1",
        "PS2",
        "PS4",
        "PWD",
        "RANDOM",
        "SECONDS",
        "SHELLOPTS",
        "SHLVL",
        "UID",
        "_",
    ]
)
# Names of limits as Docker and AWS Batch have them; util-linux prlimit has the same.
_ULIMIT_NAMES = frozenset(
    [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """
    What is known of a launched attempt.

    Attributes:
        pid: The supervisor's, also its session and process group; None until it began.
        failure: Why the command was never called: 125, its limits; 126, it is not executable; else
            what ``job_user`` ends with. None: it was called, as far as is known.
        exit_code: None until the command has ended.
        stopped_at_ms: Time of the last line; the stop time once *exit_code* is there.
        cgroup: Folders of its cgroup; empty when limits are not kept by one.
    """

    started_at_ms: int
    boot_id: str
    cgroup: tuple[str, ...]
    pid: int | None
    exit_code: int | None
    failure: int | None
    out_of_memory: bool
    over_disk: bool
    stopped_at_ms: int


class CannotLaunchError(Exception):
    """The attempt cannot be launched; carries what to tell."""

    def __init__(self, text: str, exit_code: int | None = None, *, host_failed: bool = False) -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.host_failed = host_failed

    def observed(self, attempt_id: str, now_ms: int) -> StartFailed:
        """Return the observation for it, with the prefix that AWS's users match on."""
        reason = f"CannotStartContainerError: {self}"[:_REASON_LENGTH_MAX]
        return StartFailed(
            attempt_id=attempt_id,
            reason=reason,
            exit_code=self.exit_code,
            stopped_at_ms=now_ms,
            host_failed=self.host_failed,
        )


def create_record(path: Path, *, started_at_ms: int, boot_id: str, cgroup: tuple[str, ...]) -> int:
    """
    Make a record, locked, and return its open file for the supervisor's stdin.

    Raises:
        FileExistsError: the attempt was launched before; it must not be again.
        OSError: no record can be written; none is left.
    """
    header = json.dumps({"started_at_ms": started_at_ms, "boot_id": boot_id, "cgroup": cgroup})
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(fd, header.encode() + b"\n")
    except OSError:  # a full disk
        path.unlink()
        os.close(fd)
        raise
    return fd


def is_locked(path: Path) -> bool:
    """
    Say whether the supervisor of this record may still live.

    Raises:
        FileNotFoundError: there is no record.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def read_record(path: Path) -> Record | None:
    """
    Read a record; None when its first line is not whole, as its writer died before, or was overwritten.

    Raises:
        FileNotFoundError: there is no record.
    """
    with path.open("rb") as file:
        content = file.read(_RECORD_BYTES_MAX)
        modified_at_ms = os.fstat(file.fileno()).st_mtime_ns // 1_000_000
    return parse_record(content, modified_at_ms)


def parse_record(content: bytes, modified_at_ms: int) -> Record | None:
    """
    Understand a record's content, whatever stands in it: it never raises.

    Where the agent is not root a job may write there too. So the first pid counts, which
    stood there before the command was called; a line that means nothing is passed over, and
    so is a last line without its end.
    """
    header, *lines = content.split(b"\n")[:-1] or [b""]
    try:
        launch = json.loads(header)
        started_at_ms, boot_id, folders = launch["started_at_ms"], launch["boot_id"], launch["cgroup"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not (isinstance(started_at_ms, int) and isinstance(boot_id, str) and isinstance(folders, list)):
        return None
    if not all(isinstance(folder, str) for folder in folders):
        return None
    pids = [int(match[1]) for match in map(_PID.fullmatch, lines) if match]
    failures = [int(match[1]) for match in map(_FAILED.fullmatch, lines) if match]
    exits = [int(match[1]) for match in map(_EXIT.fullmatch, lines) if match]
    return Record(
        started_at_ms=started_at_ms,
        boot_id=boot_id,
        cgroup=tuple(folders),
        pid=pids[0] if pids else None,
        exit_code=exits[-1] if exits else None,
        failure=failures[0] if failures else None,
        out_of_memory=b"out of memory" in lines,
        over_disk=b"over disk" in lines,
        # The time of a file is taken from a coarser clock, a few milliseconds late.
        stopped_at_ms=max(modified_at_ms, started_at_ms),
    )


def note_out_of_memory(path: Path) -> None:
    """Write down why the attempt is about to be killed, in case the agent dies first."""
    _note(path, b"out of memory\n")


def note_over_disk(path: Path) -> None:
    """Write down why the attempt is about to be killed, in case the agent dies first."""
    _note(path, b"over disk\n")


def _note(path: Path, line: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(line)


def script(limit: str, *, as_user: bool) -> str:
    """Return a supervisor's lines; *as_user*: its stderr holds the environment, see ``job_user``."""
    if as_user:
        return _SCRIPT.format(limit=limit, check=_CHECK, stdin="<&2")
    return _SCRIPT.format(limit=limit, check="", stdin="</dev/null")


def command_line(spec: LaunchSpec, folder: Path, user: JobUser | None = None) -> tuple[tuple[str, ...], dict[str, str]]:
    """
    Return the arguments and environment with which to call an attempt's command.

    A shell passes on only names that it can spell itself, so other variables go
    through ``env``; they are then seen in the supervisor's command line.

    Raises:
        CannotLaunchError: the command is missing (127) or not executable (126).
    """
    environment = {"PATH": DEFAULT_PATH, "HOME": str(folder), **spec.environment, **spec.secrets}
    _require_command(spec.container.command, environment["PATH"], folder)
    odd = [f"{name}={value}" for name, value in environment.items() if not _survives_shell(name)]
    seen = [name for name in spec.secrets if not _survives_shell(name)]
    if seen:
        raise CannotLaunchError(f"a secret cannot be given as {seen[0]!r}: a shell keeps that variable for itself")
    prefix: tuple[str, ...] = ()
    if spec.container.ulimits:
        prefix += _limits_prefix(spec)
    if user:
        prefix += user.become(spec.container.working_directory, spec.container.command[0])
    if odd:
        if "=" in spec.container.command[0]:
            raise CannotLaunchError(
                f'exec: "{spec.container.command[0]}": "=" in a command\'s name beside odd variable names'
            )
        prefix += (_tool("env"), *odd)
    return prefix + spec.container.command, {
        name: value for name, value in environment.items() if _survives_shell(name)
    }


def _survives_shell(name: str) -> bool:
    return _SHELL_NAME.fullmatch(name) is not None and name not in _SHELL_OWN and not name.startswith("BASH")


def _require_command(command: tuple[str, ...], search_path: str, folder: Path) -> None:
    """Look the command up as ``exec`` will, so that a missing one is known for sure to have never run."""
    if not command:
        raise CannotLaunchError("no command specified")
    name = command[0]
    has_folder = "/" in name
    if shutil.which(folder / name if has_folder else name, path=_absolute(search_path, folder)):
        return
    places = [""] if has_folder else search_path.split(":") if name else []
    if any((folder / place / name).exists() for place in places):
        raise CannotLaunchError(f'exec: "{name}": permission denied', 126)
    missing = "no such file or directory" if has_folder else "executable file not found in $PATH"
    raise CannotLaunchError(f'exec: "{name}": {missing}', 127)


def _absolute(search_path: str, folder: Path) -> str:
    """Spell out the parts of a PATH that are meant from the attempt's working folder."""
    parts = search_path.split(":")
    if all(part.startswith("/") for part in parts):
        return search_path
    return ":".join(str(folder / part) for part in parts)


def _limits_prefix(spec: LaunchSpec) -> tuple[str, ...]:
    ulimits = spec.container.ulimits
    unknown = sorted({limit.name for limit in ulimits} - _ULIMIT_NAMES)
    if unknown:
        raise CannotLaunchError(f"unknown ulimit {unknown[0]!r}")
    return (
        _tool("prlimit"),
        *(f"--{limit.name}={_limit(limit.soft_limit)}:{_limit(limit.hard_limit)}" for limit in ulimits),
    )


def _limit(value: int) -> str:
    return "unlimited" if value < 0 else str(value)


def _tool(name: str) -> str:
    path = shutil.which(name, path=DEFAULT_PATH)
    if path is None:
        raise CannotLaunchError(f"this host has no {name}, which the attempt's settings need")
    return path


def plain_name(attempt_id: str) -> str:
    """Return a name for files and cgroups: letters, digits and ``-``, all else as ``_`` and hex."""
    return _NOT_PLAIN.sub(lambda match: b"_%02x" % match[0][0], attempt_id.encode()).decode()


def attempt_id_of(name: str) -> str:
    """Return the attempt id that ``plain_name`` was given."""
    return re.sub(rb"_([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), name.encode()).decode()


def is_plain_name(name: str) -> bool:
    """Say whether ``plain_name`` can have made a name; it may be anything."""
    try:
        return plain_name(attempt_id_of(name)) == name
    except ValueError:
        return False
