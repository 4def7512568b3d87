"""
Machines that jobs run on: clocks, a disk, what runs on them, and the guard of their fence.

What runs here outlives agents, as processes and their keeper do; it ends by itself, by a signal,
by the guard, or with the machine. The witness sees each start and end with its own eyes. Law: the
runtime keeps the promises of ``runtimes/protocol.py`` and breaks none to be kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from batchyard.ids import AttemptId, split_attempt_id, split_job_id
from batchyard_agent.books import SYNC_S
from batchyard_agent.core.attempts import Attempt, Meta
from batchyard_agent.core.events import Now
from batchyard_agent.runtimes.protocol import (
    Adoption,
    Exited,
    LaunchSpec,
    Observation,
    Started,
    StartFailed,
    StopSignal,
)
from batchyard_controller.core.model.launches import Launch

from .loop import Handle, Program, VirtualLoop

WALL_MS = 1_800_000_000_000
"""What right clocks show when the world begins."""


@dataclass(slots=True, kw_only=True)
class Running:
    """One attempt's process."""

    attempt_id: str
    host_id: str
    """Who launched it: the machine may be another host by the time that it starts."""
    cpu_millis: int
    duration_s: float
    exit_code: int
    is_stubborn: bool
    """SIGTERM does not end it."""
    fence_ms: int | None = None
    """Its own; 0: never; None: that of its host."""
    started_at: float | None = None
    started_wall_ms: int = 0
    ended: Exited | None = None
    by_itself: bool = False

    @property
    def runs(self) -> bool:
        return self.started_at is not None and self.ended is None


@dataclass(slots=True)
class Disk:
    """An agent's state folder: what was written, and what of it a power cut leaves."""

    meta: Meta
    rows: dict[AttemptId, Attempt] = field(default_factory=dict)
    synced_meta: Meta | None = None
    synced_rows: dict[AttemptId, Attempt] = field(default_factory=dict)
    is_synced: bool = True

    def sync(self) -> None:
        self.synced_meta, self.synced_rows = self.meta, dict(self.rows)
        self.is_synced = True

    def lose_power(self) -> None:
        self.meta, self.rows = self.synced_meta or Meta(host_id=self.meta.host_id), dict(self.synced_rows)

    def copy(self) -> Disk:
        return Disk(self.meta, dict(self.rows), self.synced_meta, dict(self.synced_rows))


class Journal:
    """The agent's journal on such a disk."""

    def __init__(self, loop: VirtualLoop, disk: Disk, dice: Random) -> None:
        self._loop, self._disk, self._dice = loop, disk, dice
        self._next_sync: Handle | None = None

    async def commit(
        self, rows: Sequence[Attempt], forgotten: Sequence[AttemptId] = (), meta: Meta | None = None
    ) -> bool:
        await asyncio.sleep(self._dice.uniform(0.0005, 0.01))
        self.sync_later()
        for attempt in rows:
            self._disk.rows[attempt.attempt_id] = attempt
        for attempt_id in forgotten:
            self._disk.rows.pop(attempt_id, None)
        if meta is not None:
            self._disk.meta = meta
            self._disk.sync()
        return True

    def sync_later(self) -> None:
        """Do what the agent's ``Books.run_syncs`` does, where there is something to sync."""
        self._disk.is_synced = False
        if self._next_sync is None:
            self._next_sync = self._loop.call_at(int(self._loop.time() / SYNC_S + 1) * SYNC_S, self._sync)

    def _sync(self) -> None:
        self._next_sync = None
        if not self._disk.is_synced:
            self._disk.sync()


class Machine:
    """One machine, whatever runs on it."""

    def __init__(
        self, loop: VirtualLoop, name: str, host_id: str, cpu_millis: int, dice: Random, witness: Any, on_error: Any
    ) -> None:
        self.name, self.cpu_millis = name, cpu_millis
        self.loop, self.dice, self.witness = loop, dice, witness
        self.wall_off_ms = 0
        self.boots = 0
        self.booted_at = -600.0
        self.running: dict[str, Running] = {}
        self.disk = Disk(Meta(host_id=host_id))
        self.agent: Program | None = None
        self.runtime: Runtime | None = None
        self.reclaim_at_ms = 0
        self.launch: Launch | None = None
        """Of one that was launched for an environment."""
        self.damage = -1.0
        """When it last lost power or its disk; what ran then may have ended unseen."""
        self.former_ids: list[str] = []
        """Which hosts it was before it lost its state folder."""
        self.is_refused = False
        """Its agent has ended, as a twin had its identity."""
        self._since_ms = self._fence_ms = 0
        """From when on silence counts (its boot clock; 0: not yet), and the fence of what has none of its own."""
        self._on_error = on_error
        self.kernel = Program(loop, f"{name} kernel", on_error)

    # Clocks -------------------------------------------------------------------

    @property
    def boot_id(self) -> str:
        return f"{self.name}-boot-{self.boots}"

    def now(self) -> Now:
        time_ms = self.loop.time() * 1000
        return Now(boot_ms=int(time_ms - self.booted_at * 1000), wall_ms=self.wall_ms())

    def wall_ms(self) -> int:
        return WALL_MS + int(self.loop.time() * 1000) + self.wall_off_ms

    # What runs ----------------------------------------------------------------

    def start(self, running: Running) -> None:
        """Carry out a start, unless the guard lets nothing start or it was killed before."""
        if running.ended is not None or self.running.get(running.attempt_id) is not running:
            return
        if self.has_passed(running):
            del self.running[running.attempt_id]
            reason = "CannotStartContainerError: no controller was in touch"
            self._tell(StartFailed(attempt_id=running.attempt_id, reason=reason, host_failed=True))
            return
        running.started_at, running.started_wall_ms = self.loop.time(), self.wall_ms()
        self.witness.started(self, running)
        self._tell(Started(attempt_id=running.attempt_id, started_at_ms=running.started_wall_ms))
        self.kernel_later(running.duration_s, self._end_by_itself, running)
        self._guard_next()

    def _end_by_itself(self, running: Running) -> None:
        if running.runs:
            running.by_itself = True
            self.end(running, running.exit_code)

    def end(self, running: Running, code: int, *, is_fenced: bool = False) -> None:
        if not running.runs:
            return
        running.ended = Exited(
            attempt_id=running.attempt_id, exit_code=code, stopped_at_ms=self.wall_ms(), is_fenced=is_fenced
        )
        self.witness.ended(self, running, code)
        self._tell(running.ended)

    def signal(self, attempt_id: str, signal: StopSignal) -> None:
        running = self.running.get(attempt_id)
        if running is None or not running.runs or (signal is StopSignal.TERM and running.is_stubborn):
            return
        self.kernel_later(self.dice.uniform(0.001, 0.05), self.end, running, 128 + signal)

    def kernel_later(self, delay_s: float, what: Callable[..., None], *args: Any) -> None:
        self.loop.call_later(delay_s, what, *args, context=self.kernel._context)

    def _tell(self, observation: Observation) -> None:
        if self.runtime is not None:
            self.runtime.tell(observation)

    # The guard ----------------------------------------------------------------

    def guard(self, since_ms: int, fence_ms: int) -> None:
        """Take from the agent from when on its silence counts (its boot clock), and its host's fence; 0: never."""
        if (since_ms, fence_ms) != (self._since_ms, self._fence_ms):
            self._since_ms, self._fence_ms = since_ms, fence_ms
            self._guard_next()

    def has_passed(self, running: Running) -> bool:
        """Say whether nothing with the fence of an attempt may run."""
        return 0 < self._due_ms(running) <= self.now().boot_ms

    def _due_ms(self, running: Running) -> int:
        """Return when an attempt's fence passes; 0: never."""
        fence_ms = self._fence_ms if running.fence_ms is None else running.fence_ms
        return self._since_ms + fence_ms if self._since_ms and fence_ms else 0

    def _guard_next(self) -> None:
        """Look again when the next fence of what runs passes, unless another contact is told of before."""
        dues = [self._due_ms(each) for each in self.running.values() if each.runs and self._due_ms(each)]
        if dues:
            self.kernel_later((min(dues) - self.now().boot_ms) / 1000, self._keep_guard, self._since_ms)

    def _keep_guard(self, since_ms: int) -> None:
        if since_ms == self._since_ms:
            passed = [running for running in self.running.values() if running.runs and self.has_passed(running)]
            for running in passed:
                self.end(running, 137, is_fenced=True)
            if passed:
                self._guard_next()

    # Misfortunes --------------------------------------------------------------

    def kill_agent(self) -> None:
        if self.agent is not None:
            self.agent.kill()
        self.agent = self.runtime = None

    def lose_power(self) -> None:
        """End everything at once, and forget what was on no disk."""
        self.kill_agent()
        self.damage = self.loop.time()
        for running in self.running.values():
            if running.runs:
                running.ended = Exited(attempt_id=running.attempt_id, exit_code=-1, stopped_at_ms=self.wall_ms())
                self.witness.ended(self, running, None)
        self.running.clear()
        self._since_ms = self._fence_ms = 0
        self.disk.lose_power()
        self.kernel.kill()
        self.kernel = Program(self.loop, f"{self.name} kernel", self._on_error)
        self.boots += 1
        self.booted_at = self.loop.time()
        self.reclaim_at_ms = 0

    def wipe(self, host_id: str) -> None:
        """Lose the state folder under a dead agent; what runs goes on."""
        self.kill_agent()
        self.damage = self.loop.time()
        self.former_ids.append(self.disk.meta.host_id)
        self.disk = Disk(Meta(host_id=host_id))


class Runtime:
    """See ``runtimes/protocol.py``: plain processes of this machine."""

    name = "process"
    fault = ""

    def __init__(self, machine: Machine, program: Program) -> None:
        self._machine, self._program = machine, program
        self._host_id = machine.disk.meta.host_id
        self._observe: Callable[[Observation], None] | None = None
        self._followed: set[str] = set()

    def tell(self, observation: Observation) -> None:
        if self._observe is not None and observation.attempt_id in self._followed:
            self._program.call(self._observe, observation)

    async def open(self, observe: Callable[[Observation], None]) -> None:
        self._observe = observe

    def launch(self, spec: LaunchSpec) -> None:
        if spec.attempt_id in self._machine.running:
            raise FileExistsError(f"{spec.attempt_id} was launched before")
        _, duration_s, exit_code, manners, *failing = spec.container.command
        index = split_job_id(split_attempt_id(spec.attempt_id)[0])[1]
        running = Running(
            attempt_id=spec.attempt_id,
            host_id=self._host_id,
            cpu_millis=spec.container.resources.cpu_millis,
            duration_s=float(duration_s),
            exit_code=1 if str(index) in failing else int(exit_code),
            is_stubborn=manners == "stubborn",
            fence_ms=spec.fence_ms,
        )
        self._followed.add(spec.attempt_id)
        self._machine.running[spec.attempt_id] = running
        self._machine.kernel_later(self._machine.dice.uniform(0.002, 0.3), self._machine.start, running)

    async def adopt(self, spec: LaunchSpec) -> Adoption:
        await asyncio.sleep(self._machine.dice.uniform(0.001, 0.02))
        running = self._machine.running.get(spec.attempt_id)
        if running is None:
            return Adoption.NOT_LAUNCHED
        self._followed.add(spec.attempt_id)
        if running.started_at is not None:
            self.tell(Started(attempt_id=spec.attempt_id, started_at_ms=running.started_wall_ms))
        if running.ended is not None:
            self.tell(running.ended)
        return Adoption.KNOWN

    async def signal(self, attempt_id: str, signal: StopSignal) -> None:
        self._machine.signal(attempt_id, signal)

    async def remove(self, attempt_ids: Sequence[str]) -> Mapping[str, Exception]:
        for attempt_id in attempt_ids:
            self._machine.running.pop(attempt_id, None)
        return {}

    async def launched(self) -> list[str]:
        return sorted(self._machine.running)

    async def discard(self, attempt_id: str) -> None:
        running = self._machine.running.pop(attempt_id, None)
        if running is not None:
            self._machine.end(running, 137)

    async def close(self) -> None:
        self._observe = None
