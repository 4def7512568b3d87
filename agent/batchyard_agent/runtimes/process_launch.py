"""
Launching on the process runtime: from a spec to an order that the keeper can carry out, and what its failure means.

It must not know what becomes of the attempt. Law: a job's words are arguments and
environment of its own process, and nothing else ever interprets them.
"""

from __future__ import annotations

import errno
import functools
import os
import pwd
import resource
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from batchyard_agent.keeper.wire import pack
from batchyard_agent.probe import nvml
from batchyard_agent.runtimes import cgroup
from batchyard_agent.runtimes.cgroup import CgroupParent, Plan
from batchyard_agent.runtimes.job_user import JobUser, NoAccountError, Owners
from batchyard_agent.runtimes.plain_names import whole_name
from batchyard_agent.runtimes.protocol import HOLDER, LaunchSpec, StartFailed
from batchyard_agent.runtimes.secret_files import FOLDER_VARIABLE

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH of an attempt that sets none; the one that Docker gives."""

GPU_DEVICE = "nvidia"
"""The devices of GPUs are called so, with their numbers behind."""

EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127

_REASON_LENGTH_MAX = 255
_BACKSTOP_BYTES = 1 << 30
_SHORTAGES = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EROFS, errno.EIO}
)
"""What the host, and not the attempt, is short of."""

_NO_CGROUP = Plan(folders=(), writes=(), joins=())

# Names of limits as Docker and AWS Batch have them.
_ULIMITS = {
    "core": resource.RLIMIT_CORE,
    "cpu": resource.RLIMIT_CPU,
    "data": resource.RLIMIT_DATA,
    "fsize": resource.RLIMIT_FSIZE,
    "locks": 10,
    "memlock": resource.RLIMIT_MEMLOCK,
    "msgqueue": resource.RLIMIT_MSGQUEUE,
    "nice": resource.RLIMIT_NICE,
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "rss": resource.RLIMIT_RSS,
    "rtprio": resource.RLIMIT_RTPRIO,
    "rttime": resource.RLIMIT_RTTIME,
    "sigpending": resource.RLIMIT_SIGPENDING,
    "stack": resource.RLIMIT_STACK,
}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """
    Makes orders of specs.

    Attributes:
        scratch: Where attempts get a working folder each.
        cgroups: None: limits are kept without.
        user: Whom commands run as; None: the agent's own.
        owners: As whom those of users run; None: as all others.
        find_minors: Tells the numbers of GPUs' devices by UUID, as ``nvml.minors``.
        devices: Where they are.
    """

    scratch: Path
    cgroups: CgroupParent | None
    user: JobUser | None = None
    owners: Owners | None = None
    find_minors: Callable[[], Mapping[str, int | None]] = nvml.minors
    devices: Path = Path("/dev")

    def order(self, spec: LaunchSpec, name: str) -> tuple[bytes, ...]:
        """
        Return the message that has the keeper start a process under a plain name; see ``keeper.birth.Order``.

        Raises:
            CannotLaunchError: it cannot be started as it is asked.
        """
        user = self.user_of(spec.owner)
        _refuse_what_needs_a_container(spec, user.names if user else own_names())
        scratch = self.scratch.absolute()
        own, wanted = str(scratch / whole_name(name)), spec.container.working_directory
        is_optional = spec.container.working_directory_optional
        folder = own if is_optional else wanted or own
        environment = {"PATH": DEFAULT_PATH, "HOME": folder, **_login(user), **spec.environment, **spec.secrets}
        if spec.secrets_folder:
            environment[FOLDER_VARIABLE] = spec.secrets_folder
        words = [folder, wanted, *spec.container.command, *environment, *environment.values()]
        if not spec.container.command:
            raise CannotLaunchError("no command specified")
        if any("\0" in word for word in words):
            raise CannotLaunchError("embedded null byte")
        plan = self.cgroups.plan(name, _limits(spec)) if self.cgroups else _NO_CGROUP
        encode = os.fsencode
        return (
            b"start",
            name.encode(),
            encode(spec.log_path.absolute()),
            encode(folder),
            b"1" if folder == own else b"",
            ":".join(map(str, (user.uid, user.gid, *user.groups))).encode() if user else b"",
            pack([encode(each) for each in plan.folders]),
            pack([encode(each) for write in plan.writes for each in (write.path, write.value, write.may_be_missing)]),
            pack([encode(each) for each in plan.joins]),
            pack([str(each).encode() for limit in self._rlimits(spec) for each in limit]),
            pack([encode(each) for each in (HOLDER if spec.container.terminal_grace_s else spec.container.command)]),
            pack([encode(f"{key}={value}") for key, value in environment.items()]),
            pack([encode(each) for each in self._closed(spec.gpu_uuids)]),
            encode(scratch),
            encode(wanted if is_optional else ""),
            spec.container.stdin,
            b"" if spec.fence_ms is None else b"%d" % spec.fence_ms,
        )

    def user_of(self, owner: str) -> JobUser | None:
        """
        Return whom a job's processes run as; None: this agent's own user.

        Args:
            owner: The user whose job it is; empty: the administrator, who is none of the host's accounts.

        Raises:
            CannotLaunchError: they have no account here.
        """
        if self.owners is None or not owner:
            return self.user
        try:
            return self.owners.account(owner)
        except NoAccountError as error:
            raise CannotLaunchError(str(error)) from error

    def _closed(self, gpu_uuids: tuple[str, ...]) -> list[str]:
        """Return the devices of GPUs that are not the attempt's; none where it cannot be told which are."""
        minors = self.find_minors()
        if not minors or any(minors.get(uuid) is None for uuid in gpu_uuids):
            return []
        own = {f"{GPU_DEVICE}{minors[uuid]}" for uuid in gpu_uuids}
        return [str(path) for path in self.devices.glob(f"{GPU_DEVICE}[0-9]*") if path.name not in own]

    def _rlimits(self, spec: LaunchSpec) -> list[tuple[int, int, int]]:
        limits = []
        if self.cgroups is None:
            backstop = _backstop(spec.container.resources.memory_mib)
            limits.append((resource.RLIMIT_DATA, backstop, backstop))
        for limit in spec.container.ulimits:
            if limit.name not in _ULIMITS:
                raise CannotLaunchError(f"unknown ulimit {limit.name!r}")
            limits.append((_ULIMITS[limit.name], max(limit.soft_limit, -1), max(limit.hard_limit, -1)))
        return limits


def failure(stage: str, number: int, command: tuple[str, ...], folder: str) -> CannotLaunchError:
    """
    Say what it means that the keeper could not start a command.

    Args:
        stage: At which of its own stages (``keeper.birth``).
        number: The errno of it; 0: none.
        command: What was to be started.
        folder: The working directory that was asked for; empty: none.
    """
    text = os.strerror(number) if number else "the kernel refused"
    match stage:
        case "exec" if number == errno.EACCES:
            return CannotLaunchError(f'exec: "{command[0]}": permission denied', EXIT_NOT_EXECUTABLE)
        case "exec" if number == errno.ENOENT:
            missing = "no such file or directory" if "/" in command[0] else "executable file not found in $PATH"
            return CannotLaunchError(f'exec: "{command[0]}": {missing}', EXIT_NOT_FOUND)
        case "cwd":
            return CannotLaunchError(f"the working folder {folder!r} is missing, or closed to the job's user")
        case "limits" if number not in _SHORTAGES:
            return CannotLaunchError("the kernel refused the attempt's limits")
        case "user":
            return CannotLaunchError(f"the attempt's user could not be set: {text}", host_failed=True)
        case _:
            return CannotLaunchError(text, host_failed=number in _SHORTAGES)


def write_durably(path: Path, text: str) -> None:
    """Replace a file so that it is whole, old or new, after a crash of the machine."""
    new = path.with_suffix(".new")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def make_passage(folder: Path) -> None:
    """Make a folder through which all may go and that none may list, and what is missing of those above it."""
    if not folder.parent.exists():
        make_passage(folder.parent)
    folder.mkdir(exist_ok=True)
    folder.chmod(0o711)


def remove_empty(folder: Path) -> None:
    """
    Remove a folder that may be gone already.

    Raises:
        OSError: ENOTEMPTY: it is not empty.
    """
    with suppress(FileNotFoundError):
        folder.rmdir()


def refuse_below_level(spec: LaunchSpec, *, is_kept_apart: bool) -> None:
    """
    Refuse what cannot be kept to its security level, as processes run as the agent's own user here.

    Raises:
        CannotLaunchError: so it is.
    """
    if spec.security_level.is_secured and not is_kept_apart:
        text = "takes an agent of root, which runs processes as another user"
        raise CannotLaunchError(f"security level {spec.security_level} {text}", host_failed=True)


def _login(user: JobUser | None) -> dict[str, str]:
    """Return what a login would set, of a user who has a home."""
    return {"HOME": user.home, "USER": user.name, "LOGNAME": user.name} if user and user.home else {}


def _refuse_what_needs_a_container(spec: LaunchSpec, users: AbstractSet[str]) -> None:
    if spec.container.user and spec.container.user not in users:
        raise CannotLaunchError(f"processes of this host run as {max(users)!r}, not as {spec.container.user!r}")
    if spec.container.readonly_root_filesystem or spec.container.linux_parameters.tmpfs:
        raise CannotLaunchError("a read-only root and tmpfs need a container: give the job an image")
    if spec.mounts or spec.devices:
        # It sees the host's own paths; at another path, or read-only, it cannot have them.
        raise CannotLaunchError("mount points and devices need a container: give the job an image")
    if spec.container.privileged:
        raise CannotLaunchError("a process has the rights of its user; only a container can be privileged")


@functools.cache
def own_names() -> frozenset[str]:
    """Return all that a job may call this program's own user."""
    uid, gid = os.getuid(), os.getgid()
    names = {str(uid), f"{uid}:{gid}"}
    with suppress(KeyError):  # a user without an entry has no name
        names.add(pwd.getpwuid(uid).pw_name)
    return frozenset(names)


def _limits(spec: LaunchSpec) -> cgroup.Limits:
    amounts, linux = spec.container.resources, spec.container.linux_parameters
    return cgroup.Limits(
        cpu_millis=amounts.cpu_millis,
        memory_mib=amounts.memory_mib,
        swap_mib=linux.max_swap_mib or 0,
        swappiness=linux.swappiness,
    )


def _backstop(memory_mib: int) -> int:
    """
    Return the bytes of private writable memory that no process of an attempt may pass between two looks.

    Address space (``ulimit -v``) is not bounded: JVMs, Node and CUDA reserve far more than they use.
    """
    own = resource.getrlimit(resource.RLIMIT_DATA)[1]
    bounds = [own] if own != resource.RLIM_INFINITY else []
    bounds += [(memory_mib << 20) + _BACKSTOP_BYTES] if memory_mib else []
    return min(bounds) if bounds else resource.RLIM_INFINITY
