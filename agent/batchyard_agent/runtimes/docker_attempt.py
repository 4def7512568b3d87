"""
The life of one attempt in a container: create, start, watch, end.

One object and one task an attempt. It must never decide whether an attempt
should run or stop. Laws: ``start`` is called once at most, after the log file
was made, so that "log but no container" tells a later agent that the attempt
may have run; and the end is told after all output is in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from batchyard.resources import NO_USAGE, Usage
from batchyard_agent.runtimes.docker_calls import Calls
from batchyard_agent.runtimes.docker_engine import (
    LAUNCH_TIMEOUT_S,
    ConflictError,
    Engine,
    EngineError,
    EngineSilentError,
    EngineTimeoutError,
    MissingError,
)
from batchyard_agent.runtimes.docker_facts import (
    EXIT_KILLED,
    EXIT_TERMINATED,
    ContainerDied,
    ContainerEvent,
    ContainerFacts,
    ContainerOutOfMemory,
    init_failure,
    is_malformed_image,
    is_shortage,
)
from batchyard_agent.runtimes.docker_logs import Pump, has_end, read_rest, read_tail
from batchyard_agent.runtimes.docker_spec import NONE, Isolation, container_body, container_name
from batchyard_agent.runtimes.docker_usage import UsageWatch
from batchyard_agent.runtimes.engine_words import exit_code_of_start_failure, reason
from batchyard_agent.runtimes.held_mounts import HeldMounts
from batchyard_agent.runtimes.host_access import Allowed, Granted, NotAllowedError, grant, unprivileged
from batchyard_agent.runtimes.job_user import JobUser
from batchyard_agent.runtimes.process_launch import CannotLaunchError
from batchyard_agent.runtimes.process_output import OutputCopy
from batchyard_agent.runtimes.protocol import (
    Exited,
    LaunchSpec,
    Observe,
    Started,
    StartFailed,
    StopSignal,
    Vanished,
)
from batchyard_agent.runtimes.queue_networks import FenceError, QueueNetworks
from batchyard_agent.runtimes.secret_files import SecretFiles, SecretFilesError, owner_of

STOPPED_EARLY_REASON = "Stopped before it started"
ENGINE_STOPPED_REASON = "The Docker Engine was stopped or restarted under the container"
VANISHED_REASON = "The container was removed by somebody else"

CREATE_BACKOFF_S = (1, 2, 4, 8)
"""Waits while the engine cannot be reached, as when it is being restarted."""

FOLLOW_AFTER_S = 0.5
"""A container that ends sooner is not worth a thread: its output is read at its end."""

MEND_LOG_EVERY_S = 30
END_EVENT_WAIT_S = 2
OUT_OF_MEMORY_EVENT_WAIT_S = 3
"""The kernel's word comes by another way than the exit, and may come after it (cgroup v1)."""

LAUNCHES_MAX = 16
"""Containers created and started at the same time."""

_TAIL_BYTES = 1024

_log = structlog.get_logger(__name__)


class NeverRanError(Exception):
    """The attempt's command did not run and will not; the text is the reason."""

    def __init__(self, reason_text: str, exit_code: int | None = None, *, host_failed: bool = False) -> None:
        super().__init__(reason_text)
        self.exit_code = exit_code
        # Where the engine could not call the command it repeats the job's own words.
        self.host_failed = host_failed or (exit_code is None and is_shortage(reason_text))
        self.image_missing = False


class NoImageError(NeverRanError):
    """The image could not be had on this host."""

    def __init__(self, reason_text: str) -> None:
        super().__init__(reason_text)
        self.image_missing = not is_malformed_image(reason_text)


class ImageSource(Protocol):
    """Where images that are missing come from."""

    async def pull(self, image: str) -> str:
        """Get *image*; return why that failed, empty if it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Yard:
    """What the attempts of one runtime share."""

    engine: Engine
    was_away: Callable[[int], bool]
    calls: Calls
    images: ImageSource
    launch_slots: asyncio.Semaphore
    scope: str
    home: str
    network: str
    isolation: Isolation
    node_network: str
    allowed: Allowed
    mounts: HeldMounts | None
    networks: QueueNetworks | None
    secret_files: SecretFiles
    writer: Callable[[LaunchSpec], JobUser | None]
    now_ms: Callable[[], int]
    observe: Observe


class Phase(enum.Enum):
    """How far an attempt is, as far as signals go."""

    PREPARING = "preparing"
    STARTING = "starting"
    STARTED = "started"


class ContainerAttempt:
    """One attempt. ``launch`` or ``watch`` is its whole life, to be run as a task."""

    def __init__(self, spec: LaunchSpec, yard: Yard) -> None:
        self._spec = spec
        self._yard = yard
        self._phase = Phase.PREPARING
        self._granted = Granted(spec)
        self._container = ""
        self._pump: Pump | None = None
        self._usage: UsageWatch | None = None
        self._copy: OutputCopy | None = None
        self._died: ContainerDied | None = None
        self._may_have_ended = asyncio.Event()
        self._out_of_memory = asyncio.Event()
        self._early_stop = asyncio.Event()
        self._last_signal: StopSignal | None = None

    # What happens to it.

    def on_event(self, event: ContainerEvent) -> None:
        """Take an event of the engine."""
        match event:
            case ContainerDied():
                self._died = event
                self._may_have_ended.set()
            case ContainerOutOfMemory():
                self._out_of_memory.set()

    def look_again(self, running: Container[str]) -> None:
        """Take which of its containers the engine's list says are running."""
        if self._spec.part not in running:
            self._may_have_ended.set()

    async def signal(self, signal: StopSignal) -> None:
        """
        Signal the container, or end the attempt before it starts.

        Raises:
            EngineSilentError: the engine does not answer.
        """
        self._last_signal = signal
        match self._phase:
            case Phase.PREPARING | Phase.STARTING:
                self._early_stop.set()
            case Phase.STARTED:
                await self._kill(signal)

    async def release(self) -> None:
        """Stop following the log; the container goes on."""
        if self._usage is not None:
            self._usage.close()
        if self._copy is not None:
            await self._copy.close()
        if self._pump is not None:
            await self._yard.calls.once(self._pump.stop)

    # Its life.

    async def start(self) -> str:
        """
        Create and start the container, if that was not done before; return its id.

        Raises:
            NeverRanError: it did not run and will not.
        """
        try:
            self._container, was_started = await self._create()
            if not was_started:
                await self._start()
        finally:
            self._granted.close()
        return self._container

    async def launch(self) -> None:
        """Create and start the container, then watch it to its end."""
        try:
            await self.start()
        except NeverRanError as failure:
            self._yard.observe(
                StartFailed(
                    attempt_id=self._spec.attempt_id,
                    reason=str(failure),
                    exit_code=failure.exit_code,
                    host_failed=failure.host_failed,
                    image_missing=failure.image_missing,
                )
            )
            return
        await self._deliver_early_stop()
        await self.watch(self._container)

    async def watch(self, container: str) -> None:
        """Tell of a container that was started, and of its end."""
        self._container = container
        self._phase = Phase.STARTED
        facts = await self._look()
        if facts is not None and facts.pid:
            self._usage = UsageWatch(facts.pid, container)
        self._tell_started(facts, await self._digest(facts))
        if self._spec.container.output_path:
            self._begin_copy(self._spec.container.output_path)
        while facts is not None and facts.is_running:
            await self._wait_for_end()
            facts = await self._look()
        if facts is not None:
            await self._finish_log()
        if self._copy is not None:
            await self._copy.finish()
        await self._tell_end(facts)

    # Create and start.

    async def _create(self) -> tuple[str, bool]:
        """Create the container; return its id, and whether it was already started once."""
        yard = self._yard
        name = container_name(self._spec.attempt_id, self._spec.part)
        is_pulled = False
        waits_s = iter(CREATE_BACKOFF_S)
        while True:
            self._refuse_if_stopped()
            try:
                body = await self._body()
                async with yard.launch_slots:
                    return await yard.calls.once(yard.engine.create, name, body), False
            except MissingError as error:
                if is_pulled:
                    raise NoImageError(reason("CannotCreateContainerError", error.message)) from error
                await self._pull()
                is_pulled = True
            except ConflictError:
                if former := await self._clear_name(name):
                    return former, True
            except EngineTimeoutError as error:
                raise NeverRanError(_timed_out("created"), host_failed=True) from error
            except EngineSilentError as error:
                wait_s = next(waits_s, None)
                if wait_s is None:
                    raise NeverRanError(reason("CannotCreateContainerError", str(error)), host_failed=True) from error
                await asyncio.sleep(wait_s)
            except EngineError as error:
                raise NeverRanError(reason("CannotCreateContainerError", error.message)) from error

    async def _body(self) -> dict[str, Any]:
        """
        Say what is asked of the engine, with what was granted of the host just now.

        Raises:
            MissingError: its image is needed for that, and is not on this machine.
            NeverRanError: it asks for what it may not have.
        """
        yard, spec = self._yard, self._spec
        cpu_count = yard.engine.info.cpu_count
        try:
            await self._grant()
            spec = self._granted.spec
            if spec.security_level.forbids_root and not spec.container.user:
                image_user = await yard.calls.once(yard.engine.image_user, spec.container.image)
                spec = replace(spec, container=replace(spec.container, user=unprivileged(image_user)))
            if spec.secret_files:
                user = spec.container.user or await yard.calls.once(yard.engine.image_user, spec.container.image)
                folder = await yard.calls.once(yard.secret_files.write, spec, owner_of(user))
                spec = replace(spec, secrets_folder=str(folder))
        except SecretFilesError as error:
            raise NeverRanError(
                reason("CannotStartContainerError", str(error)), host_failed=error.host_failed
            ) from error
        except NotAllowedError as error:
            raise NeverRanError(reason("CannotStartContainerError", str(error))) from error
        if spec.security_level.is_secured and not spec.holder and yard.network != NONE:
            await self._make_network()
        return container_body(
            spec,
            scope=yard.scope,
            home=yard.home,
            cpu_count=cpu_count,
            network=yard.network,
            isolation=yard.isolation,
            node_network=yard.node_network,
        )

    async def _grant(self) -> None:
        """
        Check and open what the attempt asks of the host, in a thread: a disk may hang.

        Raises:
            NotAllowedError: it may not have that.
        """
        yard, spec = self._yard, self._spec
        self._granted.close()
        if spec.container.privileged or spec.mounts or spec.devices or spec.security_level.is_secured:
            self._granted = await yard.calls.once(grant, spec, yard.allowed, yard.mounts)

    async def _refuse_if_moved(self) -> None:
        """
        Look once more at what will be mounted where it cannot be held, since the engine mounts at the start.

        A link put in the way between this look and the engine's mount would pass.
        """
        yard, granted = self._yard, self._granted.spec
        if yard.mounts is not None or not (granted.mounts or granted.devices):
            return
        try:
            is_moved = (await yard.calls.once(grant, granted, yard.allowed, None)).spec != granted
        except NotAllowedError as error:
            raise NeverRanError(reason("CannotStartContainerError", str(error))) from error
        if is_moved:
            raise NeverRanError(reason("CannotStartContainerError", "a path to mount was moved during the launch"))

    async def _make_network(self) -> None:
        """
        Make sure of the network of its queue.

        Raises:
            NeverRanError: there is none, or it would reach what it must not.
        """
        yard = self._yard
        if yard.networks is None or not yard.isolation.is_fenced:
            text = f"security level {self._spec.security_level} takes an agent of root, and the machine's iptables"
            raise NeverRanError(reason("CannotStartContainerError", text), host_failed=True)
        try:
            await yard.calls.once(yard.networks.require, yard.engine, self._spec.job_queue, yard.now_ms())
        except FenceError as error:
            raise NeverRanError(reason("CannotStartContainerError", str(error)), host_failed=True) from error

    async def _pull(self) -> None:
        pull = asyncio.ensure_future(self._yard.images.pull(self._spec.container.image))
        stop = asyncio.ensure_future(self._early_stop.wait())
        try:
            await asyncio.wait({pull, stop}, return_when=asyncio.FIRST_COMPLETED)
            self._refuse_if_stopped()
            if failure := pull.result():
                raise NoImageError(failure)
        finally:
            pull.cancel()
            stop.cancel()

    async def _clear_name(self, name: str) -> str:
        """Make room for our container; return the one that has the name if it is ours and was started."""
        yard = self._yard
        try:
            facts = await yard.calls.until_answered(yard.engine.inspect, name)
            if (facts.scope, facts.attempt_id) != (yard.scope, self._spec.attempt_id):
                raise NeverRanError(reason("CannotCreateContainerError", f"another container is named {name}"))
            if facts.started_at_ms is not None:
                return facts.container_id
            await yard.calls.until_answered(yard.engine.remove, facts.container_id)
        except MissingError:
            _log.debug("the name is free again", container=name)
        except ConflictError:
            # It has just been started, or is just being removed: look again.
            await asyncio.sleep(0.1)
        return ""

    async def _start(self) -> None:
        yard = self._yard
        await self._refuse_if_moved()
        self._refuse_if_stopped()
        self._phase = Phase.STARTING
        try:
            # The marker of the second law; adopt reads it.
            self._spec.log_path.touch(mode=0o640)
        except OSError as error:
            text = reason("CannotStartContainerError", f"its log cannot be written: {error}")
            raise NeverRanError(text, host_failed=True) from error
        try:
            async with yard.launch_slots:
                await yard.calls.once(yard.engine.start, self._container, self._spec.container.stdin)
        except EngineSilentError as error:
            if not await self._has_started():
                is_timeout = isinstance(error, EngineTimeoutError)
                text = _timed_out("started") if is_timeout else reason("CannotStartContainerError", str(error))
                raise NeverRanError(text, host_failed=True) from error
        except EngineError as error:
            exit_code = exit_code_of_start_failure(error.message)
            raise NeverRanError(reason("CannotStartContainerError", error.message), exit_code) from error
        self._phase = Phase.STARTED

    async def _has_started(self) -> bool:
        """Find out what became of a start that was not answered; if nothing, make sure it stays so."""
        yard = self._yard
        while True:
            try:
                facts = await yard.calls.until_answered(yard.engine.inspect, self._container)
                if facts.started_at_ms is not None:
                    return True
                await yard.calls.until_answered(yard.engine.remove, self._container)
            except MissingError:
                # We removed it, or somebody else did; then it may have run, and watch says so.
                return False
            except ConflictError:
                await asyncio.sleep(0.1)

    def _refuse_if_stopped(self) -> None:
        if self._early_stop.is_set():
            raise NeverRanError(STOPPED_EARLY_REASON)

    async def _deliver_early_stop(self) -> None:
        if not self._early_stop.is_set() or self._last_signal is None:
            return
        try:
            await self._kill(self._last_signal)
        except EngineSilentError as error:
            # Whoever wants it stopped signals again.
            _log.warning("a signal was not delivered", attempt=self._spec.attempt_id, error=str(error))

    async def _kill(self, signal: StopSignal) -> None:
        try:
            await self._yard.calls.once(self._yard.engine.kill, self._container, signal.value)
        except (MissingError, ConflictError) as error:
            _log.debug("nothing left to signal", attempt=self._spec.attempt_id, error=str(error))

    # Watch.

    async def _look(self) -> ContainerFacts | None:
        """Look at the container; None if it is gone."""
        self._may_have_ended.clear()
        try:
            return await self._yard.calls.until_answered(self._yard.engine.inspect, self._container)
        except MissingError:
            return None

    async def _wait_for_end(self) -> None:
        """Wait until the container may have ended, keeping its log followed meanwhile."""
        wait_s = FOLLOW_AFTER_S
        while True:
            try:
                # An end was told, but the engine still said "running": ask soon.
                async with asyncio.timeout(1 if self._died else wait_s):
                    await self._may_have_ended.wait()
            except TimeoutError:
                if self._died:
                    return
            else:
                return
            if self._usage is not None:
                self._usage.look()
            if self._pump is None or self._pump.is_broken:
                self._pump = Pump(self._yard.engine, self._container, self._spec.log_path, self._spec.log_bytes_max)
            wait_s = MEND_LOG_EVERY_S

    def _begin_copy(self, path: str) -> None:
        """Copy the log as whoever the job's plain processes would be, which is nowhere that these could not write."""
        try:
            user = self._yard.writer(self._spec)
        except CannotLaunchError as error:
            _log.warning("no copy of a log", attempt=self._spec.attempt_id, path=path, error=str(error))
            return
        self._copy = OutputCopy(path, ("/", "/"), self._spec.log_path, user)

    async def _finish_log(self) -> None:
        """Bring what is missing into the log. A log that cannot be written does not hold up the end."""
        yard, spec = self._yard, self._spec
        try:
            # After a lost connection a stream may have ended too soon, and cleanly.
            is_followed = self._pump is not None and await yard.calls.once(self._pump.finish)
            is_told = is_followed and self._died is not None
            if is_told and await yard.calls.until_answered(has_end, yard.engine, self._container, spec.log_path):
                return
            await yard.calls.until_answered(read_rest, yard.engine, self._container, spec.log_path, spec.log_bytes_max)
        except (EngineError, OSError) as error:
            _log.warning("a log is not whole", attempt=spec.attempt_id, error=str(error))

    # Tell.

    async def _digest(self, facts: ContainerFacts | None) -> str:
        """Return which image it runs; nothing where the engine does not say, as that holds up no start."""
        if facts is None or not facts.image_id:
            return ""
        try:
            return await self._yard.calls.once(self._yard.engine.image_digest, facts.image_id)
        except (EngineError, EngineSilentError) as error:
            _log.warning("an image's digest is not known", attempt=self._spec.attempt_id, error=str(error))
            return ""

    def _tell_started(self, facts: ContainerFacts | None, digest: str) -> None:
        started_at_ms = self._died.at_ms if self._died else None
        if facts is not None:
            started_at_ms = facts.started_at_ms
        if started_at_ms is not None:
            self._yard.observe(
                Started(attempt_id=self._spec.attempt_id, started_at_ms=started_at_ms, image_digest=digest)
            )

    async def _tell_end(self, facts: ContainerFacts | None) -> None:
        attempt_id, died = self._spec.attempt_id, self._died
        if facts is not None:
            exit_code = facts.exit_code
            # The engine notes the start when it gets to it; a short command has ended by then.
            stopped_at_ms = max(facts.finished_at_ms or 0, facts.started_at_ms or 0)
        elif died is not None:
            exit_code, stopped_at_ms = died.exit_code, died.at_ms
        else:
            self._yard.observe(Vanished(attempt_id=attempt_id, reason=VANISHED_REASON))
            return
        if text := init_failure(exit_code, read_tail(self._spec.log_path, _TAIL_BYTES)):
            # The init ran, the command never did.
            self._yard.observe(
                StartFailed(attempt_id=attempt_id, reason=text, exit_code=exit_code, stopped_at_ms=stopped_at_ms)
            )
            return
        out_of_memory = await self._ran_out_of_memory(facts, exit_code)
        host_failed = not out_of_memory and await self._went_with_the_engine(exit_code, stopped_at_ms)
        self._yard.observe(
            Exited(
                attempt_id=attempt_id,
                exit_code=exit_code,
                stopped_at_ms=stopped_at_ms,
                out_of_memory=out_of_memory,
                reason=ENGINE_STOPPED_REASON if host_failed else "",
                host_failed=host_failed,
                usage=self._used(),
            )
        )

    def _used(self) -> Usage:
        if self._usage is None:
            return NO_USAGE
        self._usage.close()
        return self._usage.usage

    async def _went_with_the_engine(self, exit_code: int, stopped_at_ms: int) -> bool:
        """
        Say whether the engine ended the container as it was stopped or restarted itself.

        It stops listening first, then sends SIGTERM, and later SIGKILL. One that went on all
        the time still knows the end and tells it after the next connect; one that was
        started anew does not. What nobody signalled and ended with 0 is believed. Where no
        agent looked on either, what a signal has ended shortly before the engine's start counts.
        """
        yard = self._yard
        if exit_code == 0 or self._last_signal is not None or yard.engine.info.live_restore:
            return False
        by_signal = exit_code in {EXIT_TERMINATED, EXIT_KILLED}
        if not yard.was_away(stopped_at_ms):
            return by_signal and yard.engine.info.was_restarting(stopped_at_ms)
        if self._died is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_EVENT_WAIT_S):
                    await self._may_have_ended.wait()
        return self._died is None or by_signal

    async def _ran_out_of_memory(self, facts: ContainerFacts | None, exit_code: int) -> bool:
        if facts is not None and facts.out_of_memory:
            return True
        if exit_code == EXIT_KILLED and self._last_signal is None and not self._out_of_memory.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OUT_OF_MEMORY_EVENT_WAIT_S):
                    await self._out_of_memory.wait()
        return self._out_of_memory.is_set()


def _timed_out(state: str) -> str:
    return reason("DockerTimeoutError", f"Could not transition to {state}; timed out after waiting {LAUNCH_TIMEOUT_S}s")
