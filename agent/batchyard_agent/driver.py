"""
The agent's loop: take what has come, decide, write, and only then act.

It joins the pure core to journal, runtimes and session, and decides nothing
itself. Law: nothing that follows from an event is done or told before the
journal holds it, but what a full disk must not hold up (``core.turns``).
Everything that comes during one write goes into the next.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, assert_never

import structlog

from batchyard.ids import AttemptId
from batchyard_agent.core.attempts import Attempt, AttemptSpec, Phase, Table
from batchyard_agent.core.commands import (
    Adopt,
    CloseSession,
    Command,
    Discard,
    Launch,
    Note,
    Remove,
    RuntimeCommand,
    Signal,
)
from batchyard_agent.core.endings import NEVER_STARTED_REASON
from batchyard_agent.core.events import Adopted, CommandFailed, Discarded, Event, Now, StartFailed, Ticked
from batchyard_agent.core.turns import Turn, put_off, take_turn
from batchyard_agent.journal import Journal
from batchyard_agent.runtimes.protocol import Entry, EntryEnd, LaunchSpec, Runtime, RuntimeUnavailableError, Wanted

EVENTS_MAX = 10_000
"""Events that may wait before the session has to stop reading."""

TICK_S = 1.0
"""Longest pause between looks at the clock: timers stand still while the machine sleeps, CLOCK_BOOTTIME does not."""

RECALL_LIMIT_S = 30.0
"""How long an attempt of several waits for its secrets before it is adopted without."""

log = structlog.get_logger()


class NoSecretsError(Exception):
    """An attempt gets no secrets; the text says why."""


class Session(Protocol):
    """Where reports go while the controller listens."""

    def send_reports(self, attempts: Sequence[Attempt]) -> None:
        """Send the present truth about *attempts*."""

    def ask_secrets(self, attempt_id: AttemptId) -> None:
        """Ask for the secrets of an attempt that is to be launched."""

    def leave(self, reason: str) -> None:
        """End the session."""


Values = Mapping[str, Mapping[str, str]]
"""Variables, by the container that gets them; empty: the attempt's only one."""


def _nothing(_spec: AttemptSpec) -> Values:
    return {}


class Driver:
    """
    The only one that changes the attempt table.

    Args:
        find_variables: Asked just before a launch for what the environment gets
            beyond the spec's, of things that only this host knows.
        look: Called with the table after each turn; it changes nothing.

    Attributes:
        table: For reading only.
        runtimes: By name; filled by whoever opens them, at any time.
    """

    def __init__(
        self,
        *,
        table: Table,
        journal: Journal,
        read_now: Callable[[], Now],
        find_variables: Callable[[AttemptSpec], Values] = _nothing,
        look: Callable[[Table], None] = lambda _: None,
    ) -> None:
        self.table = table
        self.runtimes: dict[str, Runtime] = {}
        self._journal = journal
        self._read_now = read_now
        self._find_variables = find_variables
        self._look = look
        self._events: list[Event] = []
        self._owed: list[Command] = []
        """What could not be written yet, nor told, for want of room on the disk."""
        self._waiters: list[tuple[Session | None, asyncio.Future[list[Attempt]]]] = []
        self._session: Session | None = None
        self._errands: dict[AttemptId, asyncio.Future[Values]] = {}
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def observe(self, *events: Event) -> None:
        """Take events, on the event loop's thread; they keep their order."""
        self._events += events
        self._wake.set()
        if len(self._events) >= EVENTS_MAX:
            self._room.clear()

    async def room(self) -> None:
        """Wait until few enough events are waiting."""
        await self._room.wait()

    async def attach(self, session: Session) -> list[Attempt]:
        """
        Send reports to *session* from now on.

        Returns:
            All attempts that are kept, as the journal holds them. What changes
            after that moment is reported to the session.
        """
        return await self._turned(session)

    async def settle(self) -> None:
        """Wait until all events taken so far have been written and carried out."""
        await self._turned(None)

    async def _turned(self, session: Session | None) -> list[Attempt]:
        done: asyncio.Future[list[Attempt]] = asyncio.get_running_loop().create_future()
        self._waiters.append((session, done))
        self._wake.set()
        return await done

    def detach(self, session: Session) -> None:
        """Send no more reports to *session*."""
        if self._session is session:
            self._session = None

    def take_secrets(self, attempt_id: AttemptId, values: Values, error: str) -> None:
        """Let an attempt that waits for its secrets go on, with *values* or to its end."""
        errand = self._errands.get(attempt_id)
        if errand is None or errand.done():
            return
        if error:
            errand.set_exception(NoSecretsError(f"ResourceInitializationError: unable to pull secrets: {error}"))
        else:
            errand.set_result(values)

    async def run(self) -> None:
        """Take turns for ever. Attempts go on when this is cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._something()
                events, self._events = self._events, []
                waiters, self._waiters = self._waiters, []
                self._room.set()
                turn = take_turn(self.table, [*events, Ticked()], self._read_now(), self._owed)
                if await self._is_written(turn):
                    self._owed = []
                    self._carry_out(turn, group)
                    self._release(waiters)
                else:
                    self._owed = put_off(self.table, turn)
                    self._carry_out(turn, group)
                    self._waiters = [*waiters, *self._waiters]
                self._look(self.table)

    async def _is_written(self, turn: Turn) -> bool:
        return not turn.writes or await self._journal.commit(turn.rows, turn.forgotten, turn.meta)

    def _release(self, waiters: list[tuple[Session | None, asyncio.Future[list[Attempt]]]]) -> None:
        for session, done in waiters:
            if done.cancelled():
                continue
            if session is not None:
                self._session = session
                for attempt_id in self._errands:
                    session.ask_secrets(attempt_id)
            done.set_result(list(self.table.attempts.values()))

    async def _something(self) -> None:
        due_ms = self.table.next_due_ms
        pause_s = TICK_S
        if due_ms is not None:
            pause_s = min(TICK_S, max(0.0, (due_ms - self._read_now().boot_ms) / 1000))
        try:
            async with asyncio.timeout(pause_s):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    def _carry_out(self, turn: Turn, group: asyncio.TaskGroup) -> None:
        if turn.reports and self._session is not None:
            self._session.send_reports(turn.reports)
        removed: dict[str, list[AttemptId]] = {}
        for action in turn.actions:
            match action:
                case Launch(spec) if not spec.needs_secrets:
                    self._launch(action, spec.launch)
                case Remove(attempt_id, runtime):
                    removed.setdefault(runtime, []).append(attempt_id)
                case Launch() | Adopt() | Signal() | Discard():
                    group.create_task(self._command(action))
                case Note(text, attempt_id):
                    log.warning(text, attempt=attempt_id)
                case CloseSession(reason):
                    if self._session is not None:
                        self._session.leave(reason)
                case _:
                    assert_never(action)
        for runtime, attempt_ids in removed.items():
            group.create_task(self._remove(runtime, attempt_ids))

    def _launch(self, command: Launch, launch: LaunchSpec) -> None:
        spec = command.spec
        try:
            self._runtime(spec.runtime).launch(launch.with_environment(self._find_variables(spec)))
        except Exception as error:  # noqa: BLE001  # whatever it is
            self._note_broken(command, error)

    async def _remove(self, runtime: str, attempt_ids: Sequence[AttemptId]) -> None:
        try:
            broken = await self._runtime(runtime).remove(attempt_ids)
        except Exception as error:  # noqa: BLE001  # whatever it is
            broken = dict.fromkeys(attempt_ids, error)
        for attempt_id, why in broken.items():
            self._note_broken(Remove(AttemptId(attempt_id), runtime), why)

    async def _command(self, command: Launch | Adopt | Signal | Discard) -> None:
        """Carry out one command that may take its time."""
        try:
            await self._command_runtime(command)
        except Exception as error:  # noqa: BLE001  # whatever it is
            self._note_broken(command, error)

    def _note_broken(self, command: RuntimeCommand, error: Exception) -> None:
        """Whatever a runtime breaks with becomes an event that the core answers."""
        log.debug("a runtime broke", command=command, exc_info=error)
        is_away = isinstance(error, RuntimeUnavailableError)
        self.observe(CommandFailed(command=command, error=f"{type(error).__name__}: {error}", is_away=is_away))

    async def _command_runtime(self, command: Launch | Adopt | Signal | Discard) -> None:
        match command:
            case Launch(spec):
                await self._launch_with_secrets(command, spec)
            case Adopt(spec):
                adoption = await self._runtime(spec.runtime).adopt(await self._recalled(spec))
                self.observe(Adopted(attempt_id=spec.attempt_id, adoption=adoption))
            case Signal(attempt_id) if attempt_id in self._errands:
                # Not launched yet, so there is nothing to signal: it never will be.
                self._give_up_secrets(attempt_id)
            case Signal(attempt_id, runtime, signal):
                await self._runtime(runtime).signal(attempt_id, signal)
            case Discard(attempt_id, runtime):
                await self._runtime(runtime).discard(attempt_id)
                self.observe(Discarded(attempt_id=attempt_id))
            case _:
                assert_never(command)

    async def _launch_with_secrets(self, command: Launch, spec: AttemptSpec) -> None:
        """Have an attempt launched once its secrets are here; they stay in this call's memory."""
        try:
            launch = spec.launch.with_secrets(await self._fetch_secrets(spec.attempt_id))
        except NoSecretsError as error:
            self.observe(StartFailed(attempt_id=spec.attempt_id, reason=str(error)))
            return
        self._launch(command, launch)

    async def _recalled(self, spec: AttemptSpec) -> LaunchSpec:
        """
        Return what an attempt is adopted by: of several, and of pods, with all that those need that may be started yet.

        A former agent's secrets went with it. If they cannot be had in time, those that need them fail to start.
        """
        attempt, launch = self.table.attempts.get(spec.attempt_id), spec.launch
        is_whole = not launch.parts and launch.task is None
        if is_whole or attempt is None or attempt.phase is Phase.RUNNING:
            return launch
        if spec.needs_secrets:
            with contextlib.suppress(NoSecretsError, TimeoutError):
                async with asyncio.timeout(RECALL_LIMIT_S):
                    launch = launch.with_secrets(await self._fetch_secrets(spec.attempt_id))
        return launch.with_environment(self._find_variables(spec))

    async def enter(self, spec: AttemptSpec, part: str, wanted: Wanted, secrets: Mapping[str, str]) -> Entry | EntryEnd:
        """
        Run a command in an attempt that runs.

        Args:
            spec: The attempt's.
            part: Which of several containers; empty: the only one.
            wanted: What.
            secrets: Variables of that container, of a plain process; they stay in this call's memory.

        Raises:
            EntryRefusedError: nothing can be run there.
            RuntimeUnavailableError: the engine does not answer.
        """
        launch = spec.launch.with_environment(self._find_variables(spec)).with_variables(part, secrets)
        return await self._runtime(spec.runtime).enter(launch, part, wanted)

    def _give_up_secrets(self, attempt_id: AttemptId) -> None:
        errand = self._errands[attempt_id]
        if not errand.done():
            errand.set_exception(NoSecretsError(NEVER_STARTED_REASON))

    async def _fetch_secrets(self, attempt_id: AttemptId) -> Values:
        """
        Wait for the controller's answer, over as many sessions as it takes.

        Raises:
            NoSecretsError: the controller refused, or the attempt was stopped.
        """
        errand: asyncio.Future[Values] = asyncio.get_running_loop().create_future()
        self._errands[attempt_id] = errand
        try:
            if self._session is not None:
                self._session.ask_secrets(attempt_id)
            return await errand
        finally:
            del self._errands[attempt_id]

    def _runtime(self, name: str) -> Runtime:
        runtime = self.runtimes.get(name)
        if runtime is None:
            raise RuntimeUnavailableError(f"the {name} runtime is not open")
        return runtime
