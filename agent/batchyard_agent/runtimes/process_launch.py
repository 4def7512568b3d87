"""
Launching on the process runtime: from a spec to a supervisor that runs.

Blocking, and done within a millisecond or two. It must not know what becomes of the
attempt. Law: record first, then cgroup, then supervisor; whatever fails takes all of
it back, under the record's lock, so that a failed launch has certainly run nothing.
"""

from __future__ import annotations

import errno
import os
import pwd
import resource
import subprocess
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from batchyard_agent.runtimes import cgroup, job_user, supervisor
from batchyard_agent.runtimes.cgroup import CgroupParent
from batchyard_agent.runtimes.job_user import JobUser
from batchyard_agent.runtimes.protocol import LaunchSpec
from batchyard_agent.runtimes.supervisor import CannotLaunchError

_BACKSTOP_KIB = 1 << 20
_DESCRIPTORS = 16
_SHORTAGES = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EROFS, errno.EIO}
)
"""What the host, and not the attempt, is short of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised:
    """A supervisor that was started."""

    pid: int
    cgroup: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """
    Starts supervisors.

    Attributes:
        scratch: Where attempts get a working folder each.
        cgroups: None: limits are kept without.
        user: Whom commands run as; None: the agent's own. Supervisors are the agent's, and
            so are records: no job can write into its own.
    """

    boot_id: str
    scratch: Path
    cgroups: CgroupParent | None
    user: JobUser | None = None

    def launch(self, spec: LaunchSpec, record: Path, started_at_ms: int) -> Supervised:
        """
        Start the supervisor of an attempt.

        Raises:
            CannotLaunchError: nothing has run, nothing is left of it.
            FileExistsError: the record exists: the attempt was launched before.
        """
        _refuse_what_needs_a_container(spec, self.user.names if self.user else _own_names())
        folders = self.cgroups.folders(record.name) if self.cgroups else ()
        try:
            stdin = supervisor.create_record(record, started_at_ms=started_at_ms, boot_id=self.boot_id, cgroup=folders)
        except FileExistsError:
            raise
        except OSError as error:
            raise CannotLaunchError(str(error), host_failed=error.errno in _SHORTAGES) from error
        try:
            return Supervised(pid=self._start(spec, record.name, folders, stdin), cgroup=folders)
        except (OSError, ValueError, CannotLaunchError) as error:
            self.discard(record, folders)
            if isinstance(error, CannotLaunchError):
                raise
            is_short = isinstance(error, OSError) and error.errno in _SHORTAGES
            raise CannotLaunchError(str(error), host_failed=is_short) from error
        finally:
            os.close(stdin)

    def _start(self, spec: LaunchSpec, name: str, folders: tuple[str, ...], stdin: int) -> int:
        folder = self._working_directory(spec, name)
        command, environment = supervisor.command_line(spec, folder, self.user)
        arguments: tuple[str, ...]
        if self.cgroups:
            self.cgroups.create(name, _limits(spec))
            limit, arguments = supervisor.LIMIT_CGROUP, cgroup.join_files(folders)
        else:
            limit, arguments = supervisor.LIMIT_RLIMIT, (_backstop(spec.container.resources.memory_mib),)
        script = supervisor.script(limit, as_user=self.user is not None)
        line = ["/bin/sh", "-c", script, supervisor.NAME, *arguments, *command]
        if self.user is None:
            return _start_process(line, environment, folder, stdin, _open_log(spec.log_path), subprocess.DEVNULL)
        stderr = job_user.environment_file(environment)
        try:
            log = _open_log(spec.log_path, self.user.uid)
            here = Path("/") if spec.container.working_directory else folder
            return _start_process(line, {"PATH": supervisor.DEFAULT_PATH}, here, stdin, log, stderr)
        finally:
            os.close(stderr)

    def _working_directory(self, spec: LaunchSpec, name: str) -> Path:
        if spec.container.working_directory:
            return Path(spec.container.working_directory)
        folder = self.scratch / name
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.user:
            os.chown(folder, self.user.uid, self.user.gid)
        return folder

    def discard(self, record: Path, folders: tuple[str, ...]) -> None:
        """Take back what was prepared for an attempt that never ran."""
        cgroup.remove(folders)
        remove_empty(self.scratch / record.name)
        record.unlink(missing_ok=True)


def has_descriptors() -> bool:
    """Say whether as many files can be opened as a launch takes; half-way it could not be followed or taken back."""
    found: list[int] = []
    try:
        while len(found) < _DESCRIPTORS:
            found.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    finally:
        for fd in found:
            os.close(fd)
    return True


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


def _own_names() -> set[str]:
    uid, gid = os.getuid(), os.getgid()
    names = {str(uid), f"{uid}:{gid}"}
    with suppress(KeyError):  # a user without an entry has no name
        names.add(pwd.getpwuid(uid).pw_name)
    return names


def _limits(spec: LaunchSpec) -> cgroup.Limits:
    amounts, linux = spec.container.resources, spec.container.linux_parameters
    return cgroup.Limits(
        cpu_millis=amounts.cpu_millis,
        memory_mib=amounts.memory_mib,
        swap_mib=linux.max_swap_mib or 0,
        swappiness=linux.swappiness,
    )


def _backstop(memory_mib: int) -> str:
    """
    Return the KiB of private writable memory that no process of an attempt may pass between two looks.

    Address space (``ulimit -v``) is not bounded: JVMs, Node and CUDA reserve far more than they use.
    """
    own = resource.getrlimit(resource.RLIMIT_DATA)[1]
    bounds = [own // 1024] if own != resource.RLIM_INFINITY else []
    bounds += [memory_mib * 1024 + _BACKSTOP_KIB] if memory_mib else []
    return str(min(bounds)) if bounds else "unlimited"


def _start_process(
    arguments: list[str], environment: dict[str, str], folder: Path, stdin: int, log: int, stderr: int
) -> int:
    """Start a supervisor in a session of its own; return its pid. What the shell itself says is not kept."""
    try:
        process = subprocess.Popen(
            arguments,
            env=environment,
            cwd=folder,
            stdin=stdin,
            stdout=log,
            stderr=stderr,
            start_new_session=True,
        )
    finally:
        os.close(log)
    process.returncode = 0  # it is waited for by pidfd; keeps Popen from minding it
    return process.pid


def _open_log(path: Path, owner: int | None = None) -> int:
    """Open a log, and make it its owner's so that the job can open its own /dev/stdout; None: the agent's."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        log = os.open(path, flags, 0o640)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(path, flags, 0o640)
    try:
        if owner is not None:
            os.fchown(log, owner, -1)
    except OSError:
        os.close(log)
        raise
    return log
