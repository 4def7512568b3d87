"""
The real programs, put together as ``app.py`` of each does it, for machines and networks of this world.

Controller: ``lead``, driver, sessions, services, the etcd store and its client. Agent: driver, core,
sessions. What ``app.py`` itself adds (signals, files, threads, sockets) is not here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from batchyard.features import ATTEMPT_FENCES, TELLS_ALL
from batchyard.ids import AttemptId
from batchyard.v1 import host_pb2, resources_pb2
from batchyard_agent.app import GUARD_LAG_MS
from batchyard_agent.core.attempts import Table
from batchyard_agent.core.events import Event, HostChanged, HostReclaimed, Recovered, SessionOpened, StartRequested
from batchyard_agent.driver import Driver
from batchyard_agent.session import Identity, Sessions, TwinError
from batchyard_agent.standing import Applicant, Standing
from batchyard_controller.app import build_server
from batchyard_controller.archivist import Archivist
from batchyard_controller.core.jobs.retention import DAY_MS, Retention
from batchyard_controller.core.model.launches import ENVIRONMENT_LABEL, LAUNCH_LABEL, Launch
from batchyard_controller.core.model.values import Instant
from batchyard_controller.doors import Door, PeerKind
from batchyard_controller.leadership import Leadership, lead, name_candidate, tend
from batchyard_controller.metrics import Metrics
from batchyard_controller.sessions import Sessions as ControllerSessions
from batchyard_controller.store.archive import Archive
from batchyard_controller.store.etcd import EtcdStore
from batchyard_controller.throttles import Throttles
from batchyard_controller.vault import Vault

from . import etcd
from .loop import Program
from .machine import WALL_MS, Journal, Machine, Runtime
from .network import Network
from .sink import Sink
from .story import CONTROLLERS

PREFIX = "/batchyard/v1/"
YARD = ",".join(CONTROLLERS)
"""The addresses of both controllers: agents ask one after the other, and go where they are told."""
THROTTLES = Throttles()
"""Of all worlds: nobody is counted here, as who comes by a controller's own socket is its administrator."""
KEEP_MS = 366 * DAY_MS
"""How long jobs are kept in the archive."""


def labels_of(launch: Launch) -> dict[str, str]:
    """Return what the agent of a launched host says of it."""
    return {LAUNCH_LABEL: launch.id, ENVIRONMENT_LABEL: launch.environment}


class LogPlaces:
    """Where logs would be."""

    bytes_max = 1 << 20

    def path(self, attempt_id: AttemptId, part: str = "") -> Path:
        return Path("/logs") / attempt_id / (part or "log")


class HostView:
    """What an agent tells of its machine."""

    def __init__(self, machine: Machine, name: str, features: list[str]) -> None:
        self._machine, self._name, self._features = machine, name, features
        self._facts = self._make()

    def _make(self) -> host_pb2.HostFacts:
        machine = self._machine
        return host_pb2.HostFacts(
            name=self._name,
            boot_id=machine.boot_id,
            agent_version="simulated",
            features=self._features,
            capacity=resources_pb2.Resources(cpu_millis=machine.cpu_millis, memory_mib=8192, disk_mib=10_000),
            runtimes=["process"],
            operating_system="Linux",
            cpu_architecture="X86_64",
            address=machine.name,
            reclaimed_at_ms=machine.reclaim_at_ms,
            host_type=machine.launch.host_type if machine.launch is not None else "",
            labels=labels_of(machine.launch) if machine.launch is not None else {},
        )

    def facts(self) -> host_pb2.HostFacts:
        if self._facts.reclaimed_at_ms != self._machine.reclaim_at_ms:
            self._facts = self._make()
        return self._facts

    async def read_usage(self) -> host_pb2.HostUsage:
        return host_pb2.HostUsage(cpu_percent=5, wall_ms=self._machine.wall_ms())


class AgentDriver(Driver):
    """An agent's driver that notes who welcomes it though another leads by now; an old one knows of no fence but its own."""

    is_old = False
    _deposed: tuple[SessionOpened, ...] = ()

    def observe(self, *events: Event) -> None:
        super().observe(*map(self._as_seen, events))

    def _as_seen(self, event: Event) -> Event:
        """Return what this agent sees of an event; a welcome of a deposed leader is remembered."""
        if self.is_old and isinstance(event, StartRequested):
            launch = replace(event.spec.launch, fence_ms=None)
            return replace(event, spec=replace(event.spec, fence_ms=None, launch=launch))
        if isinstance(event, SessionOpened) and event.epoch < self.table.meta.epoch:
            self._deposed += (event,)
        return event

    def take_deposed(self) -> tuple[SessionOpened, ...]:
        """Return these welcomes, once."""
        deposed, self._deposed = self._deposed, ()
        return deposed


class AgentProgram:
    """One run of an agent on a machine."""

    def __init__(
        self,
        machine: Machine,
        program: Program,
        dice: Random,
        on_end: Callable[[], None],
        name: str = "",
        *,
        is_old: bool = False,
    ) -> None:
        self.machine, self.program = machine, program
        self._on_end = on_end
        disk = machine.disk
        self.table = Table(meta=disk.meta, launch_limits={"process": 8}, contact_saved_ms=disk.meta.contact_ms)
        for attempt in sorted(disk.rows.values(), key=lambda each: each.done_at_ms):
            self.table.restore(attempt)
        self.journal = Journal(machine.loop, disk, dice)
        self.driver = AgentDriver(table=self.table, journal=self.journal, read_now=machine.now, look=self._after_turn)  # type: ignore[arg-type]
        self.driver.is_old = is_old
        features = [TELLS_ALL] if is_old else [ATTEMPT_FENCES, TELLS_ALL]
        self.host = HostView(machine, name or machine.name, features)
        self._dice = dice

    async def run(self) -> None:
        machine = self.machine
        self.journal.sync_later()
        runtime = machine.runtime = Runtime(machine, self.program)
        await runtime.open(self.driver.observe)
        held = tuple(("process", AttemptId(attempt_id)) for attempt_id in await runtime.launched())
        self.driver.runtimes["process"] = runtime
        self.driver.observe(HostChanged(runtimes=frozenset({"process"}), gpu_uuids=frozenset()))
        self.driver.observe(Recovered(boot_id=machine.boot_id, held=held))
        if machine.reclaim_at_ms:
            self.announce()
        who = Applicant(controller=YARD, folder=Path("/agent"), name=machine.name)
        standing = Standing(who, None, machine.wall_ms, self._dice.random)
        sessions = Sessions(
            target=YARD,
            connect=standing.connect,
            driver=self.driver,
            logs=LogPlaces(),  # type: ignore[arg-type]
            host=self.host,
            read_now=machine.now,
            dice=self._dice.random,
            identity=Identity(
                nonce=f"{self._dice.getrandbits(128):032x}", machine_id=machine.name, run=self.table.meta.run
            ),
        )
        try:
            async with asyncio.TaskGroup() as group:
                for part in (self.driver.run(), sessions.run()):
                    group.create_task(part)
        except* TwinError:
            self._on_end()

    def announce(self) -> None:
        """Tell that the machine is taken away, as ``Agent._announce`` does."""
        now, at_ms = self.machine.now(), self.machine.reclaim_at_ms
        self.driver.observe(HostReclaimed(at_ms=now.boot_ms + at_ms - now.wall_ms))

    def _after_turn(self, table: Table) -> None:
        meta = table.meta
        for welcome in self.driver.take_deposed():
            if meta.contact_ms is not None and meta.contact_ms >= welcome.sent_at_ms:
                self.machine.witness.obeyed(self.machine, welcome.epoch, meta.epoch)
        if meta.contact_ms is not None:
            self.machine.guard(meta.contact_ms + GUARD_LAG_MS, meta.fence_ms)


class Commits(Metrics):
    """A controller's metrics, which know whether a commit is under way: until then the world is ahead of the store."""

    is_under_way = False

    @contextmanager
    def committing(self, groups: int) -> Iterator[None]:
        """Note it."""
        self.is_under_way = True
        try:
            with super().committing(groups):
                yield
        finally:
            self.is_under_way = False


class ControllerProgram:
    """One run of a controller."""

    def __init__(self, name: str, program: Program, network: Network, world: Any, dice: Random) -> None:
        self.name, self.program = name, program
        self.wall_off_ms = 0
        self.commits = Commits()
        self._launcher = world.cloud.launcher() if world.traits.has_cloud else None
        self._keep_jobs = world.traits.keep_jobs
        self._archivist = None if self._keep_jobs is None else Archivist(Archive(world.shelf.folder), KEEP_MS)
        self.leadership = Leadership(self._archivist.archive if self._archivist is not None else None)
        vault = Vault({})
        self._fence_ms = world.traits.fence_s * 1000
        self.sessions = ControllerSessions(self.leadership, vault, self._fence_ms)
        self._world, self._dice = world, dice
        self.address = name.partition(" ")[0]
        self.site = network.site(self.address, program)
        door = Door(PeerKind.LOCAL, uid=0)
        self.site.server = build_server(self.leadership, self.sessions, vault, door, throttles=THROTTLES)  # type: ignore[assignment]  # this world's

    def clock(self) -> Instant:
        time_ms = int(self._world.loop.time() * 1000)
        return Instant(wall_ms=WALL_MS + time_ms + self.wall_off_ms, boot_ms=time_ms + 1_000_000)

    async def run(self) -> None:
        store = EtcdStore([etcd.ADDRESS], prefix=PREFIX)
        if self._world.traits.quota_bytes:
            self.program.start(tend(store, self.leadership, self.commits))
        await lead(
            store,
            name_candidate(self.name, self.address),
            self.leadership,
            lambda epoch: Sink(self._world.witness, self, epoch, self.sessions.open_term(epoch)),
            self.clock,
            self.commits,
            retention(self._keep_jobs),
            self._launcher,
            self._fence_ms,
            archivist=self._archivist,
        )


def retention(keep_jobs: int | None) -> Retention:
    """Return what history a yard's controllers keep that has an archive beyond so many jobs, or none."""
    return Retention() if keep_jobs is None else Retention(count=keep_jobs, is_archived=True)
