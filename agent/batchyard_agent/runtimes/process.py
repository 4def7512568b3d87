"""
The process runtime: attempts as plain processes, no container engine and no root needed.

Each attempt has a supervisor of its own (``supervisor``), which outlives the agent and
writes the exit code down. This module launches supervisors, waits for them with one pidfd
each on the event loop, and reads their records. It decides nothing about attempts.

What is enforced, by ``enforcement`` (one log line at ``open`` says which):

- ``cgroup-v1``, ``cgroup-v2``: memory is a hard limit of the kernel; CPU has quota and weight.
- ``rlimit`` (no writable cgroups): memory is watched every half second and the largest process
  killed beyond it; in between, no process gets more than the limit and 1 GiB. CPU is not enforced.

Laws: a record is made before a supervisor, and only once; its lock says whether the
attempt may still run. Nothing is told to have ended before all its processes have.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal as signals
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import structlog

from batchyard_agent.probe.cpu_memory import read_boot_id
from batchyard_agent.runtimes import cgroup, log_limit, process_table, scratch, supervisor
from batchyard_agent.runtimes.disk_watch import DiskWatch
from batchyard_agent.runtimes.job_user import JobUser
from batchyard_agent.runtimes.process_launch import (
    Launcher,
    has_descriptors,
    make_passage,
    remove_empty,
    write_durably,
)
from batchyard_agent.runtimes.process_live import (
    Live,
    bound_log,
    end_unknown,
    ending,
    hold_to_memory,
    is_kept,
    kill,
    reap,
)
from batchyard_agent.runtimes.protocol import (
    Adoption,
    LaunchSpec,
    Observation,
    Observe,
    RuntimeUnavailableError,
    Started,
    StopSignal,
    Vanished,
)
from batchyard_agent.runtimes.supervisor import CannotLaunchError, Record

ADOPT_LIMIT_S = 5.0
"""How long a supervisor may take to write its pid down before its record counts as damaged."""

DAMAGED_REASON = "what was known of the attempt was damaged or removed, the exit code is lost"

WATCH_INTERVAL_S = 0.5
"""Time between looks at running attempts' logs and, without cgroups, memory."""

_RETRY_S_MIN = 0.005
_RETRY_S_MAX = 1.0

_log = structlog.get_logger(__name__)


class ProcessRuntime:
    """
    Runs attempts as processes.

    Args:
        state_dir: Folder of this runtime alone; must survive restarts of the agent.
        scratch_dir: Folder of attempts' working folders; apart, since jobs fill it.
        now_ms: Wall clock.
        user: Whom they run as; None: the agent's own user.
        enforcement: ``auto`` takes cgroups where they can be had; ``rlimit`` never does.
    """

    name = "process"
    fault = ""

    def __init__(
        self,
        state_dir: Path,
        scratch_dir: Path,
        *,
        now_ms: Callable[[], int],
        user: JobUser | None = None,
        enforcement: Literal["auto", "rlimit"] = "auto",
    ) -> None:
        self._records = state_dir / "attempts"
        self._scratch = scratch_dir
        self._user = user
        self._boot_file = state_dir / "boot"
        self._now_ms = now_ms
        self._wanted_enforcement = enforcement
        self._cgroups: cgroup.CgroupParent | None = None
        self._boot_id = ""
        self._launched_boot_id = ""
        self._live: dict[str, Live] = {}
        self._watch: asyncio.TimerHandle | None = None
        self._disk_watch = DiskWatch(self._disk_limits, self._on_over_disk)

    @property
    def enforcement(self) -> str:
        """``cgroup-v1``, ``cgroup-v2`` or ``rlimit``; right after ``open``."""
        return self._cgroups.enforcement if self._cgroups else "rlimit"

    async def open(self, observe: Observe) -> None:
        """See ``Runtime``."""
        self._observe: Observe | None = observe
        self._loop = asyncio.get_running_loop()
        try:
            self._prepare()
        except OSError as error:
            raise RuntimeUnavailableError(f"the process runtime cannot be used: {error}") from error

    def _prepare(self) -> None:
        self._boot_id = read_boot_id()
        self._records.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_passage(self._scratch)
        if self._user:
            self._user.require_access(self._scratch)
        if self._boot_file.exists():
            self._launched_boot_id = self._boot_file.read_text()
        os.close(os.pidfd_open(os.getpid()))  # needs Linux 5.3
        self._find_cgroups()
        self._launcher = Launcher(boot_id=self._boot_id, scratch=self._scratch, cgroups=self._cgroups, user=self._user)

    def _find_cgroups(self) -> None:
        why_not = "chosen by configuration"
        if self._wanted_enforcement == "auto":
            mountinfo, own = Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
            try:
                self._cgroups = cgroup.find_parent(mountinfo, own, os.getpid())
            except cgroup.CgroupUnavailableError as error:
                why_not = str(error)
        if self._cgroups:
            _log.info("process runtime ready", enforcement=self.enforcement)
        else:
            _log.info("process runtime ready", enforcement="rlimit", cpu="not enforced", why_no_cgroup=why_not)

    async def launch(self, spec: LaunchSpec) -> None:
        """
        See ``Runtime``.

        Takes about as long as starting one process, on the loop itself: the
        interpreter waits for a new process while it holds its lock, so a thread would free nobody.

        Raises:
            FileExistsError: the attempt was launched before.
        """
        if not has_descriptors():
            lacks = CannotLaunchError(os.strerror(errno.EMFILE), host_failed=True)
            self._tell(lacks.observed(spec.attempt_id, self._now_ms()))
            return
        if self._launched_boot_id != self._boot_id:
            # Records are not synced: a crash of the machine can take one away whose attempt
            # ran, and then its absence proves nothing. So the boot of the last launch is
            # kept. Adoption comes before the first launch after a boot.
            write_durably(self._boot_file, self._boot_id)
            self._launched_boot_id = self._boot_id
        record, started_at_ms = self._record(spec.attempt_id), self._now_ms()
        try:
            started = self._launcher.launch(spec, record, started_at_ms)
        except CannotLaunchError as error:
            self._tell(error.observed(spec.attempt_id, self._now_ms()))
            return
        self._tell(Started(attempt_id=spec.attempt_id, started_at_ms=started_at_ms))
        self._follow(Live.from_spec(spec, record, started.pid, started.cgroup), os.pidfd_open(started.pid))

    async def adopt(self, spec: LaunchSpec) -> Adoption:
        """See ``Runtime``."""
        if spec.attempt_id in self._live:
            return Adoption.KNOWN
        path, record, is_stuck = self._record(spec.attempt_id), None, False
        give_up_at_s = self._loop.time() + ADOPT_LIMIT_S
        with suppress(FileNotFoundError):
            while supervisor.is_locked(path) and not is_stuck:
                if self._adopt_running(spec, path):
                    return Adoption.KNOWN
                is_stuck = self._loop.time() > give_up_at_s
                await asyncio.sleep(_RETRY_S_MIN)  # its supervisor starts, or ends, this very moment
            record = supervisor.read_record(path)
        if is_stuck or self._is_lost(path, record):
            await end_unknown(path, self._folders(path))
            self._tell(Vanished(attempt_id=spec.attempt_id, reason=DAMAGED_REASON))
            return Adoption.KNOWN
        return self._adopt_ended(spec, path, record)

    def _is_lost(self, path: Path, record: Record | None) -> bool:
        """Say whether an attempt that has not ended lives without its record: that was removed, or replaced."""
        if record is None or record.pid is None:
            return is_kept(path, self._folders(path))
        return record.exit_code is None and bool(process_table.supervisors(path))

    def _adopt_running(self, spec: LaunchSpec, path: Path) -> bool:
        """Follow an attempt whose record is locked. False: it has not begun yet, or has just ended."""
        record = supervisor.read_record(path)
        if record is None or record.pid is None:
            return False
        try:
            pidfd = os.pidfd_open(record.pid)
        except ProcessLookupError:
            return False
        # The pid may have been another's when it was opened, or never its own: where the
        # agent is not root, a job can write its record.
        if not (process_table.keeps(record.pid, path) and supervisor.is_locked(path)):
            os.close(pidfd)
            return False
        self._tell(Started(attempt_id=spec.attempt_id, started_at_ms=record.started_at_ms))
        self._follow(Live.from_spec(spec, path, record.pid, record.cgroup), pidfd)
        return True

    def _adopt_ended(self, spec: LaunchSpec, path: Path, record: Record | None) -> Adoption:
        is_this_boot = record.boot_id == self._boot_id if record else self._launched_boot_id in {"", self._boot_id}
        if is_this_boot and (record is None or record.pid is None):
            if log_limit.was_written(spec.log_path):  # it ran, and nothing else is left of it
                self._tell(Vanished(attempt_id=spec.attempt_id, reason=DAMAGED_REASON))
                return Adoption.KNOWN
            self._launcher.discard(path, record.cgroup if record else ())
            return Adoption.NOT_LAUNCHED
        if record is None or (record.exit_code is None and not is_this_boot):
            reason = "the host was restarted while the attempt ran"
            self._tell(Vanished(attempt_id=spec.attempt_id, reason=reason, is_reboot=True))
            return Adoption.KNOWN
        self._tell(Started(attempt_id=spec.attempt_id, started_at_ms=record.started_at_ms))
        # A supervisor that got as far as the exit code has ended its group itself; and
        # after a restart of the host its pid means nothing.
        pid = record.pid if record.exit_code is None else None
        live = Live.from_spec(spec, path, pid, record.cgroup)
        self._live[spec.attempt_id] = live
        self._end(live, _RETRY_S_MIN)
        return Adoption.KNOWN

    async def signal(self, attempt_id: str, signal: StopSignal) -> None:
        """
        See ``Runtime``. The supervisor is spared: it has the exit code to write.

        As in a container SIGTERM goes to the command's own process alone, which tells its
        children as it sees fit: one that lost them first would end before its handler ran.
        SIGKILL goes to all, and to that process first, so that its end is what is told.
        """
        if live := self._live.get(attempt_id):
            self._signal(live, signal, _RETRY_S_MIN)

    def _signal(self, live: Live, signal: StopSignal, retry_s: float) -> None:
        if live.pid is None or live.pidfd < 0:
            return  # it has ended, and all that is left of it is being killed
        processes = process_table.read_processes()
        targets = process_table.children(processes, live.pid)
        if signal is StopSignal.KILL:
            others = {*process_table.members(processes, live.pid), *(cgroup.pids(live.cgroup) if live.cgroup else ())}
            targets += sorted(others.difference(targets))
        else:
            # A shell forgets a signal that it takes just after it has forked; the command cannot.
            targets = [pid for pid in targets if not process_table.is_fork(pid, live.pid)]
        for pid in targets:
            kill(pid, signal)
        if signal is StopSignal.KILL:
            kill(live.pid, signals.SIGCONT)  # in case the attempt has stopped its whole group
        if not targets:  # the supervisor has not called the command yet, or is just ending
            self._loop.call_later(retry_s, self._signal, live, signal, min(2 * retry_s, _RETRY_S_MAX))

    async def remove(self, attempt_id: str) -> None:
        """See ``Runtime``."""
        assert attempt_id not in self._live, f"{attempt_id} has not ended"
        path = self._record(attempt_id)
        try:
            record = supervisor.read_record(path)
        except FileNotFoundError:
            return
        while record and not cgroup.remove(record.cgroup):  # noqa: ASYNC110  # the kernel tells nobody
            await asyncio.sleep(_RETRY_S_MIN)
        await self._remove_folder(path.name)
        path.unlink(missing_ok=True)

    async def launched(self) -> list[str]:
        """See ``Runtime``."""
        names = {path.name for path in self._records.iterdir()} | process_table.kept_in(self._records)
        return [supervisor.attempt_id_of(name) for name in sorted(filter(supervisor.is_plain_name, names))]

    async def discard(self, attempt_id: str) -> None:
        """See ``Runtime``."""
        assert attempt_id not in self._live, f"{attempt_id} was adopted"
        path = self._record(attempt_id)
        await end_unknown(path, self._folders(path))
        folders = self._folders(path)
        while folders and not cgroup.remove(folders):  # noqa: ASYNC110  # the kernel tells nobody
            await asyncio.sleep(_RETRY_S_MIN)
        await self._remove_folder(path.name)
        path.unlink(missing_ok=True)

    async def _remove_folder(self, name: str) -> None:
        try:
            remove_empty(self._scratch / name)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.ENOTDIR}:
                raise
            await asyncio.to_thread(scratch.remove, self._scratch / name)

    async def close(self) -> None:
        """See ``Runtime``."""
        for live in self._live.values():
            self._unfollow(live)
        self._live.clear()
        self._observe = None
        if self._watch:
            self._watch.cancel()
        self._watch = None
        await self._disk_watch.close()
        if self._cgroups:
            self._cgroups.remove_empty()

    def _follow(self, live: Live, pidfd: int) -> None:
        live.pidfd = pidfd
        self._live[live.attempt_id] = live
        self._loop.add_reader(pidfd, self._on_supervisor_ended, live)
        if self._watch is None:
            self._watch = self._loop.call_later(WATCH_INTERVAL_S, self._look)
        if live.disk_mib:
            self._disk_watch.wake()

    def _unfollow(self, live: Live) -> None:
        if live.pidfd >= 0:
            self._loop.remove_reader(live.pidfd)
            os.close(live.pidfd)
            live.pidfd = -1

    def _on_supervisor_ended(self, live: Live) -> None:
        self._unfollow(live)
        self._end(live, _RETRY_S_MIN)

    def _end(self, live: Live, retry_s: float) -> None:
        """Kill what is left of an attempt until nothing is; then tell how it ended."""
        if self._live.get(live.attempt_id) is not live:
            return
        if left := self._leftovers(live):
            for pid in left:
                kill(pid, signals.SIGKILL)
            self._loop.call_later(retry_s, self._end, live, min(2 * retry_s, _RETRY_S_MAX))
            return
        if live.pid is not None:
            reap(live.pid)  # not before now: until then the number of its session cannot be reused
        bound_log(live, log_limit.finish)
        del self._live[live.attempt_id]
        self._tell(ending(live))

    def _leftovers(self, live: Live) -> list[int]:
        if live.cgroup:
            return cgroup.pids(live.cgroup)
        return [] if live.pid is None else process_table.leftovers(live.pid)

    def _look(self) -> None:
        """Hold running attempts to their limits of log size and, without cgroups, of memory."""
        self._watch = None
        running = [live for live in self._live.values() if live.pidfd >= 0]
        for live in running:
            bound_log(live, log_limit.enforce)
        watched = [(live, live.pid) for live in running if live.pid and live.memory_mib and not live.cgroup]
        if watched:
            processes = process_table.read_processes()
            for live, pid in watched:
                hold_to_memory(live, process_table.members(processes, pid))
        if running:
            self._watch = self._loop.call_later(WATCH_INTERVAL_S, self._look)

    def _disk_limits(self) -> dict[Path, int]:
        watched = [live for live in self._live.values() if live.disk_mib and live.pidfd >= 0]
        return {self._scratch / live.record.name: live.disk_mib for live in watched}

    def _on_over_disk(self, folder: Path) -> None:
        for live in self._live.values():
            if live.record.name == folder.name and live.pidfd >= 0:
                with suppress(OSError):  # the disk is full
                    supervisor.note_over_disk(live.record)
                self._signal(live, StopSignal.KILL, _RETRY_S_MIN)

    def _folders(self, path: Path) -> tuple[str, ...]:
        return self._cgroups.folders(path.name) if self._cgroups else ()

    def _record(self, attempt_id: str) -> Path:
        return self._records / supervisor.plain_name(attempt_id)

    def _tell(self, observation: Observation) -> None:
        self._loop.call_soon(self._deliver, observation)

    def _deliver(self, observation: Observation) -> None:
        if self._observe:
            self._observe(observation)
