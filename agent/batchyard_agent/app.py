"""
The agent put together: journal, core, runtimes, probes, session.

Here clocks, dice and threads come in. Law: attempts do not depend on this
process. However it ends, they go on and the next agent finds them again; and
if one part of it breaks, all of it ends with that error.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial

import structlog

from batchyard.ids import AttemptId, HostId, uuid7
from batchyard.runtimes import DOCKER, FAKE, PROCESS
from batchyard_agent import clock
from batchyard_agent.books import SWEEP_S, Books
from batchyard_agent.config import AUTOMATIC, Config, keeper_dir, mounts_dir, secrets_dir
from batchyard_agent.convert import spec_from
from batchyard_agent.core.attempts import Table
from batchyard_agent.core.events import HostReclaimed, Recovered, RuntimeOpened
from batchyard_agent.driver import Driver
from batchyard_agent.entries import Entries
from batchyard_agent.host import LocalHost, keeps_levels
from batchyard_agent.journal import Journal
from batchyard_agent.keeper_link import KeeperLink, take_orphans
from batchyard_agent.loop_errors import broken
from batchyard_agent.metadata import Documents, documents
from batchyard_agent.metadata_server import MetadataServer
from batchyard_agent.probe import cpu_memory
from batchyard_agent.probe.place import read_place
from batchyard_agent.probe.reclaim import NoticeCommand, NoticeFile, Notices, NoticeServer, Source
from batchyard_agent.runtimes import job_user
from batchyard_agent.runtimes.docker import DockerRuntime, nobody_writes
from batchyard_agent.runtimes.fake import FakeRuntime
from batchyard_agent.runtimes.held_mounts import HeldMounts
from batchyard_agent.runtimes.job_user import JobUser
from batchyard_agent.runtimes.process import ProcessRuntime
from batchyard_agent.runtimes.protocol import LaunchSpec, Runtime, RuntimeUnavailableError
from batchyard_agent.runtimes.queue_networks import QueueNetworks
from batchyard_agent.runtimes.secret_files import SecretFiles
from batchyard_agent.session import Identity, Sessions, TwinError
from batchyard_agent.standing import Standing, enter, next_run
from batchyard_agent.terminals import Terminals
from batchyard_agent.upgrade import remove_former_scratch

LAUNCH_LIMITS: Mapping[str, int] = {DOCKER: 16, PROCESS: 8}
"""Launches in flight. Docker's hold images that are being pulled too; the engine's own calls the runtime bounds."""

GUARD_LAG_MS = 5_000
"""How long after the fence the keeper ends what the agent should have; the controller waits for 35 s more than that."""

Held = tuple[tuple[str, AttemptId], ...]
"""Runtime and attempt, as in ``Recovered``."""

REOPEN_S = 30.0

log = structlog.get_logger()


async def run(config: Config, keeper: int = 0) -> None:
    """
    Be an agent until SIGTERM or SIGINT; *keeper* is the process that ``keeper_link.begin`` has started.

    Raises:
        StateDirectoryError: the state folder cannot be used.
        JoinError: the host has not joined the controller's yard, and cannot.
        BrokenMembershipError: by what it is known there cannot be read.
        TwinError: another agent with this one's identity, as of a copied state folder, is connected.
        RuntimeUnavailableError: a runtime that was asked for by name cannot be used.
        ExceptionGroup: a part of the agent broke.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    take_orphans()
    journal = Journal.open(config.state_dir, uuid7(clock.read_wall_ms(), os.urandom(10)))
    try:
        standing = await begin(config, journal, stop)
        if standing is not None:
            await Agent(config, journal, standing, keeper).run(stop)
    except ExceptionGroup as group:
        twins, _ = group.split(TwinError)
        if twins is None:
            raise
        raise TwinError(str(twins.exceptions[0])) from None
    finally:
        journal.close()


async def begin(config: Config, journal: Journal, stop: asyncio.Event) -> Standing | None:
    """Begin a run as who this host is; see `enter`."""
    meta = journal.load_meta()
    standing = await enter(config.applicant, HostId(meta.host_id), stop, clock.read_wall_ms, random.random)
    if standing is not None:
        host_id = meta.host_id if standing.member is None else standing.member.host_id
        await journal.commit((), meta=replace(next_run(meta, standing.yard), host_id=host_id))
    return standing


class Agent:
    """One agent's parts."""

    def __init__(self, config: Config, journal: Journal, standing: Standing, keeper: int = 0) -> None:
        self._config = config
        self._standing = standing
        self._decode = partial(spec_from, least=config.security_level)
        self._books = Books(
            journal,
            config.state_dir / "logs",
            decode=self._decode,
            launch_limits=LAUNCH_LIMITS,
            read_now=clock.read_now,
            log_bytes_max=config.log_bytes_max,
            logs_age_max_s=config.logs_age_max_s,
            logs_total_bytes_max=config.logs_total_bytes_max,
        )
        self._table = self._books.table
        self._link = KeeperLink(keeper_dir(config.state_dir), keeper)
        self._secret_files = SecretFiles(secrets_dir(config.state_dir))
        self._metadata = MetadataServer(
            config.state_dir / "metadata.json", self._documents, config.container_network, config.node_network
        )
        self._driver = Driver(
            table=self._table,
            journal=journal,
            read_now=clock.read_now,
            find_variables=self._metadata.environment,
            look=self._look,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until *stop* is set."""
        self._secret_files.open()
        async with self._metadata, self._keeping(), self._open_runtimes() as held:
            # What runs was told by the last agent where to ask.
            for attempt in self._table.living():
                self._metadata.listen_for(attempt.runtime)
            host = LocalHost(self._config, self._driver.runtimes, self._driver.observe)
            self._driver.observe(Recovered(boot_id=host.boot_id, held=held))
            notices = Notices(self._notice_sources(), partial(self._announce, host), clock.read_now)
            await notices.look()
            terminals = Terminals(self._driver, clock.read_now)
            entries = Entries(self._driver, terminals, self._standing.connect)
            sessions = Sessions(
                target=self._config.controller,
                connect=self._standing.connect,
                driver=self._driver,
                logs=self._books.logs,
                host=host,
                read_now=clock.read_now,
                dice=random.random,
                decode=self._decode,
                entries=entries,
                identity=Identity(
                    nonce=os.urandom(16).hex(), machine_id=cpu_memory.read_machine_id(), run=self._table.meta.run
                ),
            )
            log.info(
                "agent started",
                host=self._table.meta.host_id,
                name=self._config.name,
                controller=self._config.controller,
                runtimes=sorted(self._driver.runtimes),
                attempts=len(self._table.attempts),
            )
            gc.freeze()  # what is here now stays: no collection has to look at it
            try:
                async with asyncio.TaskGroup() as group:
                    parts = (
                        self._driver.run(),
                        sessions.run(),
                        terminals.run(),
                        self._standing.run(sessions.reopen),
                        notices.run(),
                        self._books.run_sweeps(),
                        self._books.run_syncs(),
                        self._run_refills(),
                        self._run_reopening(),
                        broken(),
                    )
                    tasks = [group.create_task(part) for part in parts]
                    await stop.wait()
                    log.info("agent stops; attempts go on", attempts=len(self._table.attempts))
                    for task in tasks:
                        task.cancel()
            finally:
                await entries.close()
                await terminals.close()
                host.close()

    def _documents(self, attempt_id: AttemptId) -> Documents | None:
        attempt = self._table.get(attempt_id)
        if attempt is None:
            return None
        return documents(attempt, self._config.account, self._config.zone)

    def _look(self, table: Table) -> None:
        if not self._secret_files.is_empty:
            self._secret_files.keep_only([attempt.attempt_id for attempt in table.living()])
        self._tell_guard(table)

    def _tell_guard(self, table: Table) -> None:
        """Have the keeper know how long attempts may run; it comes after the agent itself, so that that says why."""
        if table.meta.contact_ms is None:
            return  # in this boot no controller was in touch yet
        runtime, engine, query = self._driver.runtimes.get(DOCKER), "", ""
        if isinstance(runtime, DockerRuntime):
            engine, query = runtime.guarded()
        launched = (attempt for attempt in table.living() if attempt.runtime == DOCKER and attempt.launched)
        self._link.guard(
            since_ms=table.meta.contact_ms + GUARD_LAG_MS,
            fence_ms=table.meta.fence_ms,
            containers={table.fence_of(attempt) for attempt in launched},
            engine=engine,
            query=query,
        )

    def _notice_sources(self) -> list[Source]:
        """Return where it may be said that the machine is taken away."""
        config, sources = self._config, list[Source]()
        if config.reclaim_file is not None:
            sources.append(NoticeFile(config.reclaim_file))
        if config.reclaim_command:
            sources.append(NoticeCommand(config.reclaim_command, clock.read_wall_ms))
        if config.reclaim_metadata:
            sources.append(NoticeServer(config.reclaim_metadata, clock.read_wall_ms))
        return sources

    def _announce(self, host: LocalHost, at_ms: int) -> None:
        """Tell the controller, and stop everything in time."""
        host.announce(at_ms)
        now = clock.read_now()
        self._driver.observe(HostReclaimed(at_ms=now.boot_ms + at_ms - now.wall_ms if at_ms else None))

    @contextlib.asynccontextmanager
    async def _keeping(self) -> AsyncIterator[None]:
        """
        Have a keeper, for processes and to guard the fence.

        Raises:
            RuntimeUnavailableError: there can be none.
        """
        try:
            await self._link.open()
        except OSError as error:
            raise RuntimeUnavailableError(f"there is no keeper: {error}") from error
        try:
            yield
        finally:
            await self._link.close()

    @contextlib.asynccontextmanager
    async def _open_runtimes(self) -> AsyncIterator[Held]:
        """Open what was asked for, or what opens, and yield what they hold; close all in the end."""
        held: list[tuple[str, AttemptId]] = []
        try:
            for name in self._config.runtimes or AUTOMATIC:
                try:
                    held += await self._open_runtime(name)
                except RuntimeUnavailableError as error:
                    if self._config.runtimes:
                        raise
                    log.info("runtime not available", runtime=name, reason=str(error))
            yield tuple(held)
        finally:
            for runtime in self._driver.runtimes.values():
                await runtime.close()

    async def _open_runtime(self, name: str) -> Held:
        """
        Open a runtime, and use it if it says what it holds of former agents; else it is to be opened again.

        Nothing may be launched beside what nobody answers for, so it is not offered before.
        """
        runtime = self._make_runtime(name)
        try:
            await runtime.open(self._driver.observe)
        except RuntimeUnavailableError:
            await runtime.close()
            raise
        if self._config.security_level.is_secured and not keeps_levels(runtime):
            await runtime.close()
            raise RuntimeUnavailableError(
                f"{name} cannot keep jobs to security level {self._config.security_level} here"
            )
        try:
            held = await runtime.launched()
        except RuntimeUnavailableError as error:
            log.warning("runtime cannot be asked what it holds; it is not used before", runtime=name, reason=str(error))
            await runtime.close()
            return ()
        self._driver.runtimes[name] = runtime
        return tuple((name, AttemptId(attempt_id)) for attempt_id in held)

    def _make_runtime(self, name: str) -> Runtime:
        config = self._config
        if name == DOCKER:
            return DockerRuntime(
                self._table.meta.host_id,
                home=self._home(),
                network=config.container_network,
                sandbox=config.sandbox,
                node_network=config.node_network,
                allowed=config.allowed,
                mounts=HeldMounts(mounts_dir(config.state_dir)),
                networks=QueueNetworks(
                    self._table.meta.host_id,
                    controller=config.controller,
                    closed=config.closed_networks,
                    door=self._metadata.door,
                ),
                secret_files=self._secret_files,
                writer=self._writer,
            )
        if name == PROCESS:
            user = job_user.find(config.job_user, allow_root=config.allow_root_jobs)
            owners = job_user.find_owners(config.name, config.owner_uid_min) if config.run_as_owner else None
            return ProcessRuntime(
                config.state_dir / PROCESS,
                config.scratch,
                now_ms=clock.read_wall_ms,
                link=self._link,
                user=user,
                owners=owners,
                secret_files=self._secret_files,
            )
        assert name == FAKE, name
        return FakeRuntime(now_ms=clock.read_wall_ms)

    def _writer(self, spec: LaunchSpec) -> JobUser | None:
        """
        Return as whom the log of a container is copied: as a plain process of its job, if it could be one here.

        Raises:
            CannotLaunchError: it could not.
        """
        runtime = self._driver.runtimes.get(PROCESS)
        if not isinstance(runtime, ProcessRuntime) or (spec.security_level.is_secured and not keeps_levels(runtime)):
            return nobody_writes(spec)
        return runtime.writer(spec.owner)

    def _home(self) -> str:
        """
        Return what tells this agent's state folder from those of others that use the same engine.

        Law: it is the same after the folder was wiped, and for an agent whose container was
        made anew, as it knows neither the host's id nor a name. Two agents that run have two
        homes: one machine has one folder in one place, and its lock lets in one agent.
        """
        place = read_place(self._config.state_dir)
        if place.is_layer:
            log.warning(
                "the state folder is in a container's own layer: what runs when that is removed is not found again",
                state_dir=str(self._config.state_dir),
            )
        return f"{cpu_memory.read_machine_id()}:{place.device}:{place.path}"

    async def _run_reopening(self) -> None:
        """Take in a runtime that becomes available later, such as an engine that starts after the agent."""
        while True:
            await asyncio.sleep(REOPEN_S)
            for name in self._config.runtimes or AUTOMATIC:
                if name in self._driver.runtimes:
                    continue
                try:
                    held = await self._open_runtime(name)
                except RuntimeUnavailableError as error:
                    log.debug("runtime still not available", runtime=name, reason=str(error))
                    continue
                if name in self._driver.runtimes:
                    log.info("runtime available", runtime=name)
                    self._driver.observe(RuntimeOpened(held=held))

    async def _run_refills(self) -> None:
        """Set room aside again, and remove what former versions left."""
        while True:
            await asyncio.to_thread(self._books.journal.fill_reserve)
            await asyncio.to_thread(remove_former_scratch, self._config.state_dir / PROCESS)
            await asyncio.sleep(SWEEP_S)
