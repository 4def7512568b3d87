"""
One attempt of the process runtime from its launch or adoption until its end was told.

What is known of it meanwhile, and what its record and its cgroup say in the end. It must
not know what else runs.
"""

from __future__ import annotations

import asyncio
import os
import signal as signals
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from batchyard_agent.runtimes import cgroup, process_table, supervisor
from batchyard_agent.runtimes.job_user import FOLDER_CLOSED
from batchyard_agent.runtimes.protocol import Exited, LaunchSpec, StartFailed, Vanished
from batchyard_agent.runtimes.supervisor import EXIT_NEVER_CALLED, EXIT_NOT_EXECUTABLE, CannotLaunchError, Record

_RETRY_S = 0.005

_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Live:
    """
    An attempt whose end was not told yet.

    Attributes:
        pid: The supervisor's; None when it ended long ago, and the number may be another's.
        pidfd: Readable when the supervisor has ended; below 0 from then on.
    """

    attempt_id: str
    pid: int | None
    record: Path
    cgroup: tuple[str, ...]
    command: tuple[str, ...]
    working_directory: str
    log_path: Path
    log_bytes_max: int
    memory_mib: int
    disk_mib: int
    pidfd: int = -1
    killed_for_memory: bool = False

    @classmethod
    def from_spec(cls, spec: LaunchSpec, record: Path, pid: int | None, folders: tuple[str, ...]) -> Live:
        """Take of a spec what is needed yet; no secret is."""
        return cls(
            attempt_id=spec.attempt_id,
            pid=pid,
            record=record,
            cgroup=folders,
            command=spec.container.command,
            working_directory=spec.container.working_directory,
            log_path=spec.log_path,
            log_bytes_max=spec.log_bytes_max,
            memory_mib=spec.container.resources.memory_mib,
            disk_mib=spec.container.resources.disk_mib,
        )


def bound_log(live: Live, bound: Callable[[Path, int], object]) -> None:
    """Hold a log to its limit; a full or broken disk must not keep the attempt from ending."""
    try:
        bound(live.log_path, live.log_bytes_max)
    except OSError as error:
        _log.warning("log limit not kept", attempt_id=live.attempt_id, error=str(error))


def ending(live: Live) -> Exited | StartFailed | Vanished:
    """Return how an attempt ended of which nothing runs any more."""
    try:
        record = supervisor.read_record(live.record)
    except FileNotFoundError:
        record = None
    if record is None or record.exit_code is None:
        reason = "the attempt's supervisor was killed, the exit code is lost"
        return Vanished(attempt_id=live.attempt_id, reason=reason)
    if record.failure is not None:
        return _never_called(live, record, record.failure)
    reason = f"Killed as its working folder took more than the {live.disk_mib} MiB that it asked for"
    return Exited(
        attempt_id=live.attempt_id,
        exit_code=record.exit_code,
        stopped_at_ms=record.stopped_at_ms,
        out_of_memory=record.out_of_memory or (bool(live.cgroup) and cgroup.oom_kills(live.cgroup) > 0),
        reason=reason if record.over_disk else "",
    )


def _never_called(live: Live, record: Record, failure: int) -> StartFailed:
    exit_code = None
    if failure == EXIT_NEVER_CALLED:
        text = "the kernel refused the attempt's limits"
    elif failure == FOLDER_CLOSED:
        text = f"the working folder {live.working_directory!r} is missing, or closed to the job's user"
    elif failure == EXIT_NOT_EXECUTABLE:
        text, exit_code = f'exec: "{"".join(live.command[:1])}": permission denied', EXIT_NOT_EXECUTABLE
    else:
        text = "the attempt's ulimits or its user could not be set"
    return CannotLaunchError(text, exit_code).observed(live.attempt_id, record.stopped_at_ms)


def hold_to_memory(live: Live, pids: list[int]) -> None:
    """Kill what is largest of an attempt's processes, as the kernel does, until the rest keeps to its memory."""
    limit_kib = live.memory_mib * 1024
    if sum(map(process_table.resident_kib, pids)) <= limit_kib:
        return
    held_kib = {pid: process_table.unreclaimable_kib([pid]) for pid in pids}
    for pid in sorted(held_kib, key=held_kib.__getitem__, reverse=True):
        if sum(held_kib.values()) <= limit_kib:
            return
        if not live.killed_for_memory:
            live.killed_for_memory = True
            with suppress(OSError):  # a full disk
                supervisor.note_out_of_memory(live.record)
        kill(pid, signals.SIGKILL)
        del held_kib[pid]


def is_kept(record: Path, folders: tuple[str, ...]) -> bool:
    """Say whether anything of an attempt lives, whatever its record says."""
    return bool(process_table.supervisors(record) or (folders and cgroup.pids(folders)))


async def end_unknown(record: Path, folders: tuple[str, ...]) -> None:
    """End an attempt whose record does not tell who keeps it any more, or is gone: nobody could follow or stop it."""
    _log.warning("an attempt that nobody can follow is killed", record=record.name)
    while is_kept(record, folders):
        processes = process_table.read_processes()
        for keeper in process_table.supervisors(record):
            for pid in process_table.members(processes, keeper):
                kill(pid, signals.SIGKILL)
            kill(keeper, signals.SIGKILL)
        for pid in cgroup.pids(folders) if folders else ():
            kill(pid, signals.SIGKILL)
        await asyncio.sleep(_RETRY_S)


def kill(pid: int, signal: int) -> None:
    """Signal a process that may have ended, or be a program that became another user."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal)


def reap(pid: int) -> None:
    """Take a child's end note, so that it is no zombie; adopted supervisors are not our children."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
