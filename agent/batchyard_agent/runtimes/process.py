"""
The process runtime: attempts as plain processes, one or several, no container engine and no root needed.

They are the keeper's children, which outlives the agent and tells how each ended. This
module says what is to be started and stopped, and holds attempts to what the kernel does not
hold them to. It decides nothing about attempts.

What is enforced, by ``enforcement`` (one log line at ``open`` says which):

- ``cgroup-v1``, ``cgroup-v2``: memory is a hard limit of the kernel; CPU has quota and weight.
- ``rlimit`` (no writable cgroups): memory is watched every half second and the largest process
  killed beyond it; in between, no process gets more than the limit and 1 GiB. CPU is not enforced.

Laws: the keeper starts an attempt once, whoever asks how often; nothing is told to have
ended before all its processes have.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import structlog

from batchyard_agent import upgrade
from batchyard_agent.keeper import groups
from batchyard_agent.keeper_link import KeeperLink, Kept
from batchyard_agent.probe.cpu_memory import read_boot_id
from batchyard_agent.runtimes import cgroup, log_limit, process_table, scratch
from batchyard_agent.runtimes.disk_watch import DiskWatch
from batchyard_agent.runtimes.job_user import JobUser, Owners
from batchyard_agent.runtimes.plain_names import attempt_id_of, part_name, plain_name, whole_name
from batchyard_agent.runtimes.process_entry import ProcessEntry
from batchyard_agent.runtimes.process_launch import (
    CannotLaunchError,
    Launcher,
    make_passage,
    own_names,
    refuse_below_level,
    write_durably,
)
from batchyard_agent.runtimes.process_live import Live, bound_log, ending, hold_to_memory
from batchyard_agent.runtimes.process_output import OutputCopy
from batchyard_agent.runtimes.process_task import Tasks
from batchyard_agent.runtimes.protocol import (
    Adoption,
    Entry,
    EntryEnd,
    EntryRefusedError,
    LaunchSpec,
    Observation,
    Observe,
    RuntimeUnavailableError,
    Started,
    StopSignal,
    Vanished,
    Wanted,
)
from batchyard_agent.runtimes.secret_files import SecretFiles, SecretFilesError

DAMAGED_REASON = "what was known of the attempt was damaged or removed, the exit code is lost"
REBOOT_REASON = "the host was restarted while the attempt ran"
FENCED_REASON = "the host is out of touch with its controller for too long"

WATCH_INTERVAL_S = 0.5
"""Time between looks at running attempts' logs and, without cgroups, memory."""

_RETRY_S = 0.005

_log = structlog.get_logger(__name__)


class ProcessRuntime:
    """
    Runs attempts as processes.

    Args:
        state_dir: Folder of this runtime alone; must survive restarts of the agent.
        scratch_dir: Folder of attempts' working folders; apart, since jobs fill it.
        now_ms: Wall clock.
        link: To the keeper; opened here if nobody has.
        user: Whom they run as; None: the agent's own user.
        owners: As whom those of users run; None: as all others.
        secret_files: Where secrets that are files are kept; None: nowhere.
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
        link: KeeperLink,
        user: JobUser | None = None,
        owners: Owners | None = None,
        secret_files: SecretFiles | None = None,
        enforcement: Literal["auto", "rlimit"] = "auto",
    ) -> None:
        self._state_dir = state_dir
        self._scratch = scratch_dir
        self._user = user
        self._owners = owners
        self._secret_files = secret_files or SecretFiles(None)
        self._boot_file = state_dir / "boot"
        self._now_ms = now_ms
        self._link = link
        self._wanted_enforcement = enforcement
        self._cgroups: cgroup.CgroupParent | None = None
        self._boot_id = ""
        self._launched_boot_id = ""
        self._former: set[str] = set()
        self._live: dict[str, Live] = {}
        """By name, of several processes of an attempt each."""
        self._tasks = Tasks(self, self._tell)
        self._watch: asyncio.TimerHandle | None = None
        self._removing = asyncio.Lock()
        """Large folders take one thread at most from all else that needs one."""
        self._endings: set[asyncio.Task[None]] = set()
        self._disk_watch = DiskWatch(self._disk_limits, self._on_over_disk)

    @property
    def enforcement(self) -> str:
        """``cgroup-v1``, ``cgroup-v2`` or ``rlimit``; right after ``open``."""
        return self._cgroups.enforcement if self._cgroups else "rlimit"

    def writer(self, owner: str) -> JobUser | None:
        """Return whom a job's processes run as, as `Launcher.user_of`."""
        return self._launcher.user_of(owner)

    @property
    def user(self) -> str:
        """Whom processes run as, in words: by name where that has one."""
        name = self._user.name if self._user else max(own_names())
        return f"their owner or {name}" if self._owners else name

    @property
    def is_other_user(self) -> bool:
        """Whether that is another one than this agent's own."""
        return self._user is not None

    @property
    def is_isolated(self) -> bool:
        """Whether processes neither see nor reach others, nor open what is closed to them; right after ``open``."""
        return self.is_other_user and self._link.can_isolate

    async def open(self, observe: Observe) -> None:
        """See ``Runtime``."""
        self._observe: Observe | None = observe
        self._loop = asyncio.get_running_loop()
        try:
            self._prepare()
            await self._link.open()
        except OSError as error:
            raise RuntimeUnavailableError(f"the process runtime cannot be used: {error}") from error
        self._link.listen(self)
        if self.is_other_user and not self.is_isolated:
            _log.warning("processes of jobs see and reach each other: the kernel gives no pid namespaces here")

    def _prepare(self) -> None:
        self._boot_id = read_boot_id()
        self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_passage(self._scratch)
        if self._user:
            self._user.require_access(self._scratch)
        if self._boot_file.exists():
            self._launched_boot_id = self._boot_file.read_text()
        self._former = upgrade.end_former_attempts(self._state_dir)
        self._find_cgroups()
        self._launcher = Launcher(scratch=self._scratch, cgroups=self._cgroups, user=self._user, owners=self._owners)

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

    def launch(self, spec: LaunchSpec) -> None:
        """
        See ``Runtime``.

        Raises:
            FileExistsError: the attempt was launched before.
        """
        name = plain_name(spec.attempt_id)
        if self._is_followed(name) or (self._kept_of(name) if spec.parts else name in self._link.kept):
            raise FileExistsError(errno.EEXIST, "the attempt was launched before", spec.attempt_id)
        if self._launched_boot_id != self._boot_id:
            # The keeper syncs nothing: a crash of the machine takes away what it knew, and then
            # that it knows nothing proves nothing. So the boot of the last launch is
            # kept. Adoption comes before the first launch after a boot.
            write_durably(self._boot_file, self._boot_id)
            self._launched_boot_id = self._boot_id
        if spec.parts:
            self._tasks.launch(spec, name)
        else:
            self.start(Live.from_spec(spec, name, self._tell), spec)

    def start(self, live: Live, spec: LaunchSpec) -> None:
        """See ``process_task.Carrier``."""
        try:
            refuse_below_level(spec, is_kept_apart=self.is_isolated)
            live.order = self._launcher.order(self._with_files(spec), live.name)
            spec.log_path.parent.mkdir(parents=True, exist_ok=True)
        except CannotLaunchError as error:
            live.tell(error.observed(live.attempt_id, self._now_ms()))
            return
        self._live[live.name] = live
        self._link.send(*live.order)

    def _with_files(self, spec: LaunchSpec) -> LaunchSpec:
        """
        Have a process's secret files written, if it has any.

        Raises:
            CannotLaunchError: they cannot be.
        """
        if not spec.secret_files:
            return spec
        user = self._launcher.user_of(spec.owner)
        try:
            folder = self._secret_files.write(spec, (user.uid, user.gid) if user else None)
        except SecretFilesError as error:
            raise CannotLaunchError(str(error), host_failed=error.host_failed) from error
        return replace(spec, secrets_folder=str(folder))

    # What the keeper tells.

    def on_kept(self, name: str, kept: Kept) -> None:
        """See ``keeper_link.Listener``."""
        live = self._live.get(name)
        if live is None:
            return
        if live.order and kept.pid and not (kept.ended and kept.ended.stage):
            live.order = ()
            live.tell(Started(attempt_id=live.attempt_id, started_at_ms=kept.started_at_ms))
            self._follow(live, kept)
        if kept.ended is not None and live.copy is None:
            self._end(live, kept)
        elif kept.ended is not None and not live.is_ending:
            live.is_ending = True
            ending_task = self._loop.create_task(self._end_with_copy(live, kept))
            self._endings.add(ending_task)
            ending_task.add_done_callback(self._endings.discard)

    async def _end_with_copy(self, live: Live, kept: Kept) -> None:
        assert live.copy is not None
        await live.copy.finish()
        self._end(live, kept)

    def _end(self, live: Live, kept: Kept) -> None:
        assert kept.ended is not None
        del self._live[live.name]
        bound_log(live, log_limit.finish)
        if kept.ended.stage and whole_name(live.name) == live.name:
            self._let_go(live.name)
        live.has_ended = True
        live.tell(ending(live, kept))

    def _let_go(self, name: str) -> None:
        """Leave nothing of an attempt that never ran."""
        with suppress(OSError):
            (self._scratch / name).rmdir()
        self._link.forget(name)

    def on_refused(self, name: str, why: str) -> None:
        """See ``keeper_link.Listener``."""
        live = self._live.get(name)
        if live is None or not live.order or why == "again":
            return  # it was sent again to a keeper that had it already, and tells of it
        del self._live[name]
        live.tell(CannotLaunchError(FENCED_REASON, host_failed=True).observed(live.attempt_id, self._now_ms()))

    def on_renewed(self) -> None:
        """See ``keeper_link.Listener``. What the former keeper was told last it may not have begun."""
        for name, live in list(self._live.items()):
            if kept := self._link.kept.get(name):
                self.on_kept(name, kept)
            elif live.order:
                self._link.send(*live.order)
            else:
                del self._live[name]
                live.tell(Vanished(attempt_id=live.attempt_id, reason=DAMAGED_REASON))
            if live.is_killed:  # a lost SIGTERM is followed by this one, in time
                self.signal_one(live, StopSignal.KILL)

    # What the core asks for.

    async def adopt(self, spec: LaunchSpec) -> Adoption:
        """See ``Runtime``."""
        name = plain_name(spec.attempt_id)
        if self._is_followed(name):
            return Adoption.KNOWN
        logs = {part_name(name, i): part.log_path for i, part in enumerate(spec.parts)} or {name: spec.log_path}
        kept = [each for each in logs if each in self._link.kept]
        if kept and not spec.parts:
            self.take_up(Live.from_spec(spec, name, self._tell))
            return Adoption.KNOWN
        if not kept and self._launched_boot_id not in {"", self._boot_id}:
            self._tell(Vanished(attempt_id=spec.attempt_id, reason=REBOOT_REASON, is_reboot=True))
            return Adoption.KNOWN
        gone = [each for each in logs if each not in kept and self._has_run(each, logs[each])]
        if not kept and not gone:
            return Adoption.NOT_LAUNCHED
        # They ran, and the keeper that knew of them is gone with all that it knew.
        for each in gone:
            await self._end_unknown(each)
        if spec.parts:
            # Of a damaged one nobody knows who never ran: nobody is started any more.
            lost = [each for each in logs if each not in kept] if gone else []
            self._tasks.resume(spec, name, kept, lost, DAMAGED_REASON)
        else:
            self._tell(Vanished(attempt_id=spec.attempt_id, reason=DAMAGED_REASON))
        return Adoption.KNOWN

    def take_up(self, live: Live) -> None:
        """See ``process_task.Carrier``."""
        live.order = (b"start",)  # what is told first is that it has started
        self._live[live.name] = live
        self.on_kept(live.name, self._link.kept[live.name])

    def _has_run(self, name: str, log_path: Path) -> bool:
        return name in self._former or self._pids_in_cgroup(name) or log_limit.was_written(log_path)

    async def enter(self, spec: LaunchSpec, part: str, wanted: Wanted) -> Entry | EntryEnd:
        """See ``Runtime``. It gets what the attempt got: user, limits, folder, surroundings and secrets."""
        name = plain_name(spec.attempt_id)
        for number, each in enumerate(spec.parts):
            if each.part == part:
                spec, name = each, part_name(name, number)
        live = self._live.get(name)
        if live is None or not live.pid or live.has_ended:
            raise EntryRefusedError("the attempt does not run there now")
        variables = {"TERM": wanted.terminal_type} if wanted.terminal else {}
        there = replace(
            spec,
            container=replace(spec.container, command=wanted.command, stdin=b"", terminal_grace_s=0),
            environment={**spec.environment, **variables},
            secrets_folder=self._secret_files.find(spec),
        )
        try:
            refuse_below_level(spec, is_kept_apart=self.is_isolated)
            order = self._launcher.order(there, name)
        except CannotLaunchError as error:
            raise EntryRefusedError(str(error)) from error
        return await ProcessEntry.enter(self._link, order, wanted)

    async def signal(self, attempt_id: str, signal: StopSignal) -> None:
        """
        See ``Runtime``.

        As in a container SIGTERM goes to the command's own process alone, which tells its
        children as it sees fit: one that lost them first would end before its handler ran.
        So does SIGKILL, and the keeper kills all the rest when that process has ended.
        """
        name = plain_name(attempt_id)
        if live := self._live.get(name):
            self.signal_one(live, signal)
        else:
            self._tasks.signal(name, signal)

    def signal_one(self, live: Live, signal: StopSignal) -> None:
        """See ``process_task.Carrier``."""
        live.is_killed = live.is_killed or signal is StopSignal.KILL
        self._link.send(b"signal", live.name.encode(), b"%d" % signal)

    async def remove(self, attempt_ids: Sequence[str]) -> Mapping[str, Exception]:
        """See ``Runtime``."""
        broken: dict[str, Exception] = {}
        names: dict[str, str] = {}
        for attempt_id in attempt_ids:
            name = plain_name(attempt_id)
            if self._is_followed(name):
                broken[attempt_id] = RuntimeError("it has not ended")
            else:
                names[attempt_id] = name
        async with self._removing:
            errors = await asyncio.to_thread(scratch.remove_all, [self._scratch / name for name in names.values()])
        for (attempt_id, name), error in zip(names.items(), errors, strict=True):
            if error is not None:
                broken[attempt_id] = error
            else:  # of a keeper that is just coming up nothing is known yet
                self._link.forget(*(self._kept_of(name) or [name]))
        return broken

    def _is_followed(self, name: str) -> bool:
        return name in self._live or name in self._tasks

    def _kept_of(self, name: str) -> list[str]:
        """Return the names under which the keeper has an attempt."""
        kept = self._link.kept
        return [name] if name in kept else [each for each in kept if whole_name(each) == name]

    async def launched(self) -> list[str]:
        """See ``Runtime``."""
        return sorted(set(map(attempt_id_of, self._link.kept)))

    async def discard(self, attempt_id: str) -> None:
        """See ``Runtime``."""
        name = plain_name(attempt_id)
        assert not self._is_followed(name), f"{attempt_id} was adopted"
        names = self._kept_of(name) or [name]
        for each in names:
            while (kept := self._link.kept.get(each)) is not None and kept.ended is None:
                self._link.send(b"signal", each.encode(), b"%d" % StopSignal.KILL)
                await asyncio.sleep(_RETRY_S)
            await self._end_unknown(each)
        for error in (await self.remove([attempt_id])).values():
            raise error

    def _pids_in_cgroup(self, name: str) -> bool:
        return self._cgroups is not None and bool(groups.pids(list(self._cgroups.folders(name))))

    async def _end_unknown(self, name: str) -> None:
        """End what is left in the cgroup of an attempt that no keeper knows: nobody could follow or stop it."""
        if self._cgroups is None:
            return
        folders = list(self._cgroups.folders(name))
        while groups.pids(folders):
            groups.kill(folders)
            await asyncio.sleep(_RETRY_S)
        while not groups.remove(folders):  # noqa: ASYNC110  # the kernel tells nobody
            await asyncio.sleep(_RETRY_S)

    async def close(self) -> None:
        """See ``Runtime``."""
        self._link.listen(None)
        await self._tasks.close()
        for each in list(self._endings):
            each.cancel()
        for live in self._live.values():
            if live.copy is not None:
                await live.copy.close()
        self._live.clear()
        self._observe = None
        if self._watch:
            self._watch.cancel()
        self._watch = None
        await self._disk_watch.close()
        if self._cgroups:
            self._cgroups.remove_empty()

    # What the kernel does not hold attempts to.

    def _follow(self, live: Live, kept: Kept) -> None:
        live.pid = kept.pid
        if live.output:
            self._copy_log(live)
        if self._watch is None:
            self._watch = self._loop.call_later(WATCH_INTERVAL_S, self._look)
        if live.disk_mib:
            self._disk_watch.wake()

    def _copy_log(self, live: Live) -> None:
        own = str((self._scratch / whole_name(live.name)).absolute())
        try:
            user = self._launcher.user_of(live.owner)
        except CannotLaunchError as error:  # the account went while the attempt ran
            _log.warning("no copy of a log", log=str(live.log_path), path=live.output, error=str(error))
            return
        live.copy = OutputCopy(live.output, (live.working_directory or own, own), live.log_path, user)

    def _running(self) -> list[Live]:
        return [live for live in self._live.values() if live.pid]

    def _look(self) -> None:
        """Hold running attempts to their limits of log size and, without cgroups, of memory."""
        self._watch = None
        running = self._running()
        for live in running:
            bound_log(live, log_limit.enforce)
        watched = [live for live in running if live.memory_mib] if self._cgroups is None else []
        if watched:
            processes = process_table.read_processes()
            for live in watched:
                pids = process_table.members(processes, live.pid)
                hold_to_memory(live, pids, partial(self._note, live, b"memory"))
        if running:
            self._watch = self._loop.call_later(WATCH_INTERVAL_S, self._look)

    def _disk_limits(self) -> dict[Path, int]:
        return {self._scratch / whole_name(live.name): live.disk_mib for live in self._running() if live.disk_mib}

    def _on_over_disk(self, folder: Path) -> None:
        for live in self._live.values():
            if whole_name(live.name) == folder.name:
                self._note(live, b"disk")
                self.signal_one(live, StopSignal.KILL)

    def _note(self, live: Live, word: bytes) -> None:
        self._link.send(b"note", live.name.encode(), word)

    def _tell(self, observation: Observation) -> None:
        self._loop.call_soon(self._deliver, observation)

    def _deliver(self, observation: Observation) -> None:
        if self._observe:
            self._observe(observation)
