"""
The Docker runtime: attempts as containers of a Docker Engine.

Every container carries the labels ``batchyard.host``, ``batchyard.attempt`` and
``batchyard.job``, and its name comes from the attempt's id. The engine gives a
name to one container only, so an attempt is launched once at most, whoever asks
how often. The ends of containers come by the engine's event stream; a look at
the engine's list, after each connect and every 30 s, finds what that missed. The
runtime writes nothing but logs: the engine remembers containers and exit codes.

``signal``, ``adopt``, ``remove`` and ``launched`` raise ``RuntimeUnavailableError``
if the engine does not answer; the caller asks again later.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote

import structlog

from batchyard_agent import clock
from batchyard_agent.runtimes.docker_attempt import LAUNCHES_MAX, VANISHED_REASON, ContainerAttempt, Yard
from batchyard_agent.runtimes.docker_calls import Calls
from batchyard_agent.runtimes.docker_engine import (
    ConflictError,
    Engine,
    EngineError,
    EngineSilentError,
    MissingError,
    socket_path,
)
from batchyard_agent.runtimes.docker_entry import ContainerEntry
from batchyard_agent.runtimes.docker_events import EventWatch
from batchyard_agent.runtimes.docker_facts import ContainerEvent, ListedContainer
from batchyard_agent.runtimes.docker_images import Images
from batchyard_agent.runtimes.docker_spec import (
    ATTEMPT_LABEL,
    BRIDGE,
    HOME_LABEL,
    HOST,
    HOST_LABEL,
    Isolation,
    container_name,
)
from batchyard_agent.runtimes.docker_task import TaskAttempt
from batchyard_agent.runtimes.held_mounts import HeldMounts
from batchyard_agent.runtimes.host_access import Allowed
from batchyard_agent.runtimes.job_user import JobUser
from batchyard_agent.runtimes.process_launch import CannotLaunchError
from batchyard_agent.runtimes.protocol import (
    Adoption,
    Entry,
    EntryEnd,
    EntryRefusedError,
    LaunchSpec,
    Observe,
    RuntimeUnavailableError,
    StopSignal,
    Vanished,
    Wanted,
)
from batchyard_agent.runtimes.queue_networks import FenceError, QueueNetworks
from batchyard_agent.runtimes.removals import all_at_once
from batchyard_agent.runtimes.secret_files import SecretFiles

LOOK_EVERY_S = 30
LOOK_AGAIN_S = 0.1
PING_EVERY_S = 3
FAILURES_MAX = 2
"""Pings in a row without an answer, of 5 s each, after which the engine is offered no work: within 20 s in all."""

FAULT = "the Docker Engine does not answer"

_log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def nobody_writes(_spec: LaunchSpec) -> JobUser | None:
    """Have no copies of logs."""
    raise CannotLaunchError("this host runs no plain processes, as whose user it would be written")


class DockerRuntime:
    """
    Runs attempts in containers.

    Args:
        scope: Marks this agent's containers; the host's id. Two agents may use
            one engine under different scopes.
        home: Marks what agents of one state folder launched, whatever their scope; empty:
            the scope.
        address: The engine, such as ``unix:///run/docker.sock``; empty: as the
            docker command finds it.
        network: Which network containers are on.
        node_network: Which one those of nodes are on.
        sandbox: The engine's runtime for jobs of Fargate; empty: its usual one.
        allowed: What jobs may reach of the host. The engine has to see the same
            file system as this process.
        mounts: Where volumes are held while they are mounted; None: they are not.
        networks: Those of queues; None: containers cannot be kept to a security level.
        secret_files: Where secrets that are files are kept; None: nowhere.
        writer: As whom a copy of an attempt's log is written, None being this process's own
            user; raises ``CannotLaunchError`` where it is not.
        now_ms: Wall clock.

    Attributes:
        fault: See ``Runtime``.
        isolation: What jobs are kept to; what the engine can do is known when it is open.
    """

    name = "docker"

    def __init__(
        self,
        scope: str,
        *,
        home: str = "",
        address: str = "",
        network: str = BRIDGE,
        sandbox: str = "",
        node_network: str = HOST,
        allowed: Allowed | None = None,
        mounts: HeldMounts | None = None,
        networks: QueueNetworks | None = None,
        secret_files: SecretFiles | None = None,
        writer: Callable[[LaunchSpec], JobUser | None] = nobody_writes,
        now_ms: Callable[[], int] = clock.read_wall_ms,
    ) -> None:
        self._scope = scope
        self._home = home or scope
        self._address = address
        self._network = network
        self.isolation = Isolation(sandbox=sandbox)
        self._node_network = node_network
        self._allowed = allowed or Allowed()
        self._mounts = mounts
        self._networks = networks
        self._secret_files = secret_files or SecretFiles(None)
        self._writer = writer
        self._now_ms = now_ms
        self.fault = ""
        self._calls = Calls()
        self._attempts: dict[str, ContainerAttempt | TaskAttempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._look_now = asyncio.Event()
        self._events: EventWatch | None = None

    def guarded(self) -> tuple[str, str]:
        """Return where the keeper finds the engine, a socket's path, and by which query this agent's containers."""
        filters = json.dumps({"label": [f"{HOME_LABEL}={self._home}"]})
        return socket_path(self._address), f"/containers/json?filters={quote(filters)}"

    async def open(self, observe: Observe) -> None:
        """
        Connect to the engine; *observe* is called from now on.

        Raises:
            RuntimeUnavailableError: no engine answered within 3 s, or it has not the sandbox.
        """
        try:
            engine = await self._calls.once(Engine, self._address)
        except EngineSilentError as error:
            raise RuntimeUnavailableError(f"no Docker Engine answers: {error}") from error
        sandbox, runtimes = self.isolation.sandbox, engine.info.runtimes
        if sandbox and sandbox not in runtimes:
            engine.close()
            text = f"the engine has no runtime {sandbox!r} for --sandbox; it has {', '.join(runtimes)}"
            raise RuntimeUnavailableError(text)
        is_fenced = await self._calls.once(self._fence)
        self.isolation = replace(self.isolation, bounds_disk=engine.info.bounds_disk, is_fenced=is_fenced)
        self._engine = engine
        self._images = Images(engine)
        self._events = EventWatch(
            engine, self._scope, engine.info.clock_s, self._on_event, self._look_now.set, self._now_ms
        )
        self._yard = Yard(
            engine=engine,
            was_away=self._events.was_away,
            calls=self._calls,
            images=self._images,
            launch_slots=asyncio.Semaphore(LAUNCHES_MAX),
            scope=self._scope,
            home=self._home,
            network=self._network,
            isolation=self.isolation,
            node_network=self._node_network,
            allowed=self._allowed,
            mounts=await self._calls.once(self._hold, engine),
            networks=self._networks,
            secret_files=self._secret_files,
            writer=self._writer,
            now_ms=self._now_ms,
            observe=observe,
        )
        self._spawn(self._run_looks())
        self._spawn(self._run_health())

    def launch(self, spec: LaunchSpec) -> None:
        """Start an attempt that was never launched; all that follows is told by observations."""
        assert spec.attempt_id not in self._attempts, spec.attempt_id
        self._spawn(self._take(spec).launch())

    async def adopt(self, spec: LaunchSpec) -> Adoption:
        """
        Find an attempt again that a former agent may have launched.

        A container that was created but never started is removed, and the attempt
        counts as not launched. Without a container the log file decides: it is
        made just before the start, so with it the attempt may have run, and
        ``Vanished`` is observed; without it the attempt certainly did not run.
        """
        if spec.attempt_id in self._attempts:
            return Adoption.KNOWN
        if spec.parts:
            return await self._adopt_task(spec)
        while True:
            try:
                facts = await self._answered(self._engine.inspect, container_name(spec.attempt_id))
                if (facts.scope, facts.attempt_id) != (self._scope, spec.attempt_id):
                    return self._adopt_without_container(spec)
                if facts.started_at_ms is not None:
                    attempt = self._attempts[spec.attempt_id] = ContainerAttempt(spec, self._yard)
                    self._spawn(attempt.watch(facts.container_id))
                    return Adoption.KNOWN
                await self._answered(self._engine.remove, facts.container_id)
            except MissingError:
                return self._adopt_without_container(spec)
            except ConflictError:
                # The former agent's start is just taking effect: look again.
                await asyncio.sleep(LOOK_AGAIN_S)
            else:
                spec.log_path.unlink(missing_ok=True)
                return Adoption.NOT_LAUNCHED

    async def signal(self, attempt_id: str, signal: StopSignal) -> None:
        """Signal the attempt's first process, or end the attempt before it starts."""
        attempt = self._attempts.get(attempt_id)
        if attempt is None:
            return
        try:
            await attempt.signal(signal)
        except EngineSilentError as error:
            raise RuntimeUnavailableError(str(error)) from error

    async def enter(self, spec: LaunchSpec, part: str, wanted: Wanted) -> Entry | EntryEnd:
        """See ``Runtime``. It has the container's user, rights and surroundings; secrets that are variables too."""
        try:
            facts = await self._answered(self._engine.inspect, container_name(spec.attempt_id, part))
        except MissingError as error:
            raise EntryRefusedError("the container is gone") from error
        if (facts.scope, facts.attempt_id) != (self._scope, spec.attempt_id) or not facts.is_running:
            raise EntryRefusedError("the container does not run now")
        try:
            return await ContainerEntry.enter(self._engine, self._calls, facts.container_id, wanted)
        except EngineSilentError as error:
            raise RuntimeUnavailableError(str(error)) from error

    async def remove(self, attempt_ids: Sequence[str]) -> Mapping[str, Exception]:
        """Remove the containers of ended attempts; their logs stay."""
        return await all_at_once(attempt_ids, self._remove)

    async def _remove(self, attempt_id: str) -> None:
        """
        Remove what there is of one.

        Raises:
            ConflictError: its only container runs.
        """
        if not isinstance(self._attempts.get(attempt_id), ContainerAttempt):
            # Of several; or of a former agent, which may have had several.
            await self.discard(attempt_id)
            self._attempts.pop(attempt_id, None)
            return
        try:
            await self._answered(self._engine.remove, container_name(attempt_id))
        except MissingError:
            _log.debug("nothing left to remove", attempt=attempt_id)
        except ConflictError as error:
            if "already in progress" not in error.message:
                raise
        self._attempts.pop(attempt_id, None)

    async def launched(self) -> list[str]:
        """Return ids of all attempts that agents of this state folder launched and that have a container."""
        listed = await self._answered(self._engine.listing, HOME_LABEL, self._home)
        ours = await self._answered(self._engine.listing, HOST_LABEL, self._scope)
        listed += [container for container in ours if not container.home]  # as of before an upgrade
        return list(dict.fromkeys(container.attempt_id for container in listed if container.attempt_id))

    async def discard(self, attempt_id: str) -> None:
        """Kill and remove all containers of an attempt, and what they shared."""
        while listed := await self._answered(self._engine.listing, ATTEMPT_LABEL, attempt_id):
            for container in listed:
                try:
                    with contextlib.suppress(ConflictError):  # it has ended
                        await self._answered(self._engine.kill, container.container_id, StopSignal.KILL)
                    await self._answered(self._engine.remove, container.container_id)
                except MissingError:
                    _log.debug("nothing left to remove", attempt=attempt_id)
                except ConflictError:
                    await asyncio.sleep(LOOK_AGAIN_S)  # it is just ending, or being removed
        await self._answered(self._engine.remove_volumes, ATTEMPT_LABEL, attempt_id)

    async def close(self) -> None:
        """Stop observing. Containers go on."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._events is not None:
            await self._images.close()
            await self._calls.once(self._events.close)
            await asyncio.gather(*(attempt.release() for attempt in self._attempts.values()))
            self._engine.close()
        await self._calls.close()

    def _hold(self, engine: Engine) -> HeldMounts | None:
        if self._mounts is None or not engine.info.shares_mounts:
            return None
        try:
            self._mounts.open()
        except OSError as error:
            _log.info("volumes are mounted by their paths", reason=str(error))
            return None
        return self._mounts

    def _fence(self) -> bool:
        if self._networks is None:
            return False
        try:
            self._networks.check()
        except FenceError as error:
            _log.info("containers cannot be kept to a security level here", reason=str(error))
            return False
        return True

    def _take(self, spec: LaunchSpec) -> ContainerAttempt | TaskAttempt:
        attempt = TaskAttempt(spec, self._yard) if spec.parts else ContainerAttempt(spec, self._yard)
        self._attempts[spec.attempt_id] = attempt
        return attempt

    async def _adopt_task(self, spec: LaunchSpec) -> Adoption:
        """
        Find an attempt of several containers again.

        Each part that was started, by its container or its log, stays so. Where none was,
        the attempt counts as not launched, and what holds them together is removed.
        """
        listed = await self._answered(self._engine.listing, ATTEMPT_LABEL, spec.attempt_id)
        found = {container.part: container for container in listed}
        ran = {part.part for part in spec.parts if part.log_path.exists() or part.part in found}
        for part in spec.parts:
            container = found.get(part.part)
            if container is not None and not await self._was_started(container):
                del found[part.part]
                part.log_path.unlink(missing_ok=True)
                ran.discard(part.part)
        if ran:
            attempt = self._attempts[spec.attempt_id] = TaskAttempt(spec, self._yard)
            self._spawn(attempt.resume(found, ran))
            return Adoption.KNOWN
        await self.discard(spec.attempt_id)
        spec.log_path.unlink(missing_ok=True)
        return Adoption.NOT_LAUNCHED

    async def _was_started(self, container: ListedContainer) -> bool:
        """Say whether a container was ever started; if not, it is removed."""
        while not container.is_running:
            try:
                facts = await self._answered(self._engine.inspect, container.container_id)
                if facts.started_at_ms is not None:
                    break
                await self._answered(self._engine.remove, container.container_id)
            except MissingError:
                return False
            except ConflictError:
                # The former agent's start is just taking effect: look again.
                await asyncio.sleep(LOOK_AGAIN_S)
            else:
                return False
        return True

    def _adopt_without_container(self, spec: LaunchSpec) -> Adoption:
        if not spec.log_path.exists():
            return Adoption.NOT_LAUNCHED
        vanished = Vanished(attempt_id=spec.attempt_id, reason=VANISHED_REASON)
        asyncio.get_running_loop().call_soon(self._yard.observe, vanished)
        return Adoption.KNOWN

    def _on_event(self, event: ContainerEvent) -> None:
        if attempt := self._attempts.get(event.attempt_id):
            attempt.on_event(event)

    async def _run_looks(self) -> None:
        """Find ends that the event stream did not tell of."""
        while True:
            # Not wait_for: before Python 3.12 it can swallow a cancellation (bpo-37658).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._look_now.wait()
            self._look_now.clear()
            running: dict[str, set[str]] = {}
            for container in await self._calls.until_answered(self._engine.listing, HOST_LABEL, self._scope):
                if container.is_running:
                    running.setdefault(container.attempt_id, set()).add(container.part)
            for attempt_id, attempt in self._attempts.items():
                attempt.look_again(running.get(attempt_id, ()))

    async def _run_health(self) -> None:
        """Ask the engine whether it is there, for whoever might send it work."""
        failures = 0
        while True:
            try:
                await self._calls.once(self._engine.ping)
                failures = 0
            except (EngineError, EngineSilentError):
                failures += 1
            fault = FAULT if failures >= FAILURES_MAX else ""
            if fault != self.fault:
                _log.warning("the Docker Engine does not answer" if fault else "the Docker Engine answers again")
            self.fault = fault
            await asyncio.sleep(PING_EVERY_S)

    async def _answered(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await self._calls.once(function, *args, **kwargs)
        except EngineSilentError as error:
            raise RuntimeUnavailableError(str(error)) from error

    def _spawn(self, life: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(life)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # A bug. The loop's handler decides; the app ends the agent, whose next life adopts.
            task.get_loop().call_exception_handler({"message": "the Docker runtime broke", "exception": error})
