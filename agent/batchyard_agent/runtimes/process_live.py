"""
One process of the process runtime from its launch or adoption until its end was told: an attempt, or one of several.

What is known of it meanwhile, and what the keeper's word on its end means. It must
not know what else runs.
"""

from __future__ import annotations

import os
import signal as signals
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from batchyard.resources import Usage
from batchyard_agent.core.containers import Seen
from batchyard_agent.keeper_link import Kept
from batchyard_agent.runtimes import process_launch, process_table
from batchyard_agent.runtimes.process_output import OutputCopy
from batchyard_agent.runtimes.protocol import Exited, LaunchSpec, StartFailed, Vanished

UNKNOWN_REASON = "the attempt's keeper was killed, the exit code is lost"

_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Live:
    """
    An attempt whose end was not told yet, or one process of one of several.

    Attributes:
        attempt_id: What it is told of as; of one of several that one's name.
        name: Its plain one (``plain_names``).
        tell: Is told what becomes of it.
        pid: Of its command; 0: it has not started yet.
        order: What the keeper is told to start it; empty once it runs.
        owner: The user whose job it is; empty: the administrator's.
        output: Where a copy of its log goes; empty: nowhere.
        copy: That copy, once it runs.
        is_killed: The keeper was told to kill it.
        is_ending: Its end is told when the copy has all.
        has_ended: Its end was told.
    """

    attempt_id: str
    name: str
    command: tuple[str, ...]
    working_directory: str
    log_path: Path
    log_bytes_max: int
    memory_mib: int
    disk_mib: int
    tell: Callable[[Seen], None]
    pid: int = 0
    order: tuple[bytes, ...] = ()
    killed_for_memory: bool = False
    owner: str = ""
    output: str = ""
    copy: OutputCopy | None = None
    is_killed: bool = False
    is_ending: bool = False
    has_ended: bool = False

    @classmethod
    def from_spec(cls, spec: LaunchSpec, name: str, tell: Callable[[Seen], None]) -> Live:
        """Take of a spec what is needed yet; no secret is."""
        return cls(
            attempt_id=spec.attempt_id,
            name=name,
            command=spec.container.command,
            working_directory=spec.container.working_directory,
            log_path=spec.log_path,
            log_bytes_max=spec.log_bytes_max,
            memory_mib=spec.container.resources.memory_mib,
            disk_mib=spec.container.resources.disk_mib,
            tell=tell,
            owner=spec.owner,
            output=spec.container.output_path,
        )


def bound_log(live: Live, bound: Callable[[Path, int], object]) -> None:
    """Hold a log to its limit; a full or broken disk must not keep the attempt from ending."""
    try:
        bound(live.log_path, live.log_bytes_max)
    except OSError as error:
        _log.warning("log limit not kept", attempt=live.name, error=str(error))


def ending(live: Live, kept: Kept) -> Exited | StartFailed | Vanished:
    """Return how an attempt ended of which nothing runs any more."""
    ended = kept.ended
    assert ended is not None, live.name
    if ended.stage:
        failed = process_launch.failure(ended.stage, ended.number, live.command, live.working_directory)
        return failed.observed(live.attempt_id, ended.stopped_at_ms)
    if ended.code is None:
        return Vanished(attempt_id=live.attempt_id, reason=UNKNOWN_REASON)
    reason = f"Killed as its working folder took more than the {live.disk_mib} MiB that it asked for"
    return Exited(
        attempt_id=live.attempt_id,
        exit_code=ended.code,
        stopped_at_ms=max(ended.stopped_at_ms, kept.started_at_ms),
        out_of_memory=ended.out_of_memory or live.killed_for_memory or "memory" in kept.notes,
        reason=reason if "disk" in kept.notes else "",
        is_fenced="fence" in kept.notes,
        usage=Usage(peak_memory_kib=ended.peak_kib, user_cpu_ms=ended.user_ms, system_cpu_ms=ended.system_ms),
    )


def hold_to_memory(live: Live, pids: list[int], note: Callable[[], None]) -> None:
    """
    Kill what is largest of an attempt's processes, as the kernel does, until the rest keeps to its memory.

    Before the first is killed *note* is called, so that why is known whoever dies next.
    """
    limit_kib = live.memory_mib * 1024
    if sum(map(process_table.resident_kib, pids)) <= limit_kib:
        return
    held_kib = {pid: process_table.unreclaimable_kib([pid]) for pid in pids}
    for pid in sorted(held_kib, key=held_kib.__getitem__, reverse=True):
        if sum(held_kib.values()) <= limit_kib:
            return
        if not live.killed_for_memory:
            live.killed_for_memory = True
            note()
        with suppress(ProcessLookupError, PermissionError):  # ended, or a program that became another user
            os.kill(pid, signals.SIGKILL)
        del held_kib[pid]
