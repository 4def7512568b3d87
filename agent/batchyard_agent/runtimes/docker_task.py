"""
The life of an attempt of several containers: a holder, and its parts.

The holder owns what they share, bears the attempt's name, and lives from before the first
part until after the last. Who starts when and what follows, `Containers` decides; each part
is a `ContainerAttempt` of its own, so that the law "launched once at most" holds of each by
its name and its log. It must never judge an end itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from itertools import chain

import structlog

from batchyard.resources import Resources
from batchyard.tasks import Container as ContainerRecord
from batchyard.tasks import LinuxParameters
from batchyard_agent.core.containers import Containers, Kill, Order, Start
from batchyard_agent.runtimes import docker_holder
from batchyard_agent.runtimes.docker_attempt import VANISHED_REASON, ContainerAttempt, NeverRanError, Yard
from batchyard_agent.runtimes.docker_engine import EngineError, EngineSilentError
from batchyard_agent.runtimes.docker_facts import ContainerEvent, ListedContainer
from batchyard_agent.runtimes.docker_spec import MEMORY_MIB_MIN, container_name
from batchyard_agent.runtimes.engine_words import reason
from batchyard_agent.runtimes.protocol import (
    Exited,
    LaunchSpec,
    Observation,
    Started,
    StartFailed,
    StopSignal,
    Vanished,
)

HOLDER_REASON = "the container that holds the others together"

_log = structlog.get_logger(__name__)


class TaskAttempt:
    """One attempt of several. ``launch`` or ``resume`` is its whole life, to be run as a task."""

    def __init__(self, spec: LaunchSpec, yard: Yard, read_boot_ms: Callable[[], int]) -> None:
        self._spec, self._yard, self._read_boot_ms = spec, yard, read_boot_ms
        self._parts: dict[str, ContainerAttempt] = {}
        self._seen: asyncio.Queue[Observation | StopSignal] = asyncio.Queue()
        self._holder: ContainerAttempt | None = None
        self._containers = Containers([part.container for part in spec.parts], read_boot_ms())
        self._told_started = False
        self._life: asyncio.TaskGroup

    # What happens to it.

    def on_event(self, event: ContainerEvent) -> None:
        """Take an event of the engine."""
        if part := self._parts.get(event.part):
            part.on_event(event)

    def look_again(self, running: Container[str]) -> None:
        """Take which of its containers the engine's list says are running."""
        for part in self._parts.values():
            part.look_again(running)

    async def signal(self, signal: StopSignal) -> None:
        """Signal all its containers, or end it before it starts; what is not answered is sent again."""
        if self._holder is not None:
            await self._holder.signal(signal)
        self._seen.put_nowait(signal)

    async def release(self) -> None:
        """Stop following the logs; the containers go on."""
        await asyncio.gather(*(part.release() for part in self._parts.values()))

    # Its life.

    async def launch(self) -> None:
        """Create and start all that may start, and watch it to its end."""
        try:
            holder = await self._hold()
        except NeverRanError as failure:
            host_failed = failure.host_failed or failure.image_missing
            failed = StartFailed(attempt_id=self._spec.attempt_id, reason=str(failure), host_failed=host_failed)
            self._yard.observe(failed)
            return
        await self._live(holder, [])

    async def resume(self, found: Mapping[str, ListedContainer], ran: Container[str]) -> None:
        """
        Take up what a former agent left, and go on with it.

        Args:
            found: Containers of it that the engine has, by part; the holder under no name.
            ran: Parts that were started, whether or not their containers are still there.
        """
        names = [part.part for part in self._spec.parts if part.part in ran]
        running = [name for name in names if name in found and found[name].is_running]
        ends = await asyncio.gather(*(self._end_of(name, found.get(name)) for name in names if name not in running))
        ends.sort(key=lambda seen: _ended_at_ms(seen[-1]))
        self._containers.restore([*chain.from_iterable(ends), *running])
        # Without one the engine refuses those that are still to be started.
        holder = found[""].container_id if "" in found else container_name(self._spec.attempt_id)
        await self._live(holder, [found[name] for name in running])

    async def _end_of(self, name: str, found: ListedContainer | None) -> list[Observation]:
        """Learn when a part that does not run any more began, and how it ended."""
        if found is None:
            return [Vanished(attempt_id=name, reason=VANISHED_REASON)]
        seen: list[Observation] = []
        part = self._part(name, "", seen.append)
        await part.watch(found.container_id)
        return seen

    async def _live(self, holder: str, running: list[ListedContainer]) -> None:
        async with asyncio.TaskGroup() as self._life:
            for found in running:
                part = self._part(found.part, holder, self._seen.put_nowait)
                self._life.create_task(part.watch(found.container_id))
            if self._seen.empty():  # else it was stopped meanwhile, and starts nothing
                await self._carry_out(self._containers.begin(self._read_boot_ms()), holder)
            while not self._containers.is_over:
                await self._carry_out(await self._next(), holder)
                self._tell_started()
        await self._let_go(holder)
        self._tell_end()

    async def _next(self) -> list[Order]:
        """Wait for what happens next, or for what time demands; return what follows from it."""
        due_ms = self._containers.next_due_ms
        try:
            async with asyncio.timeout(None if due_ms is None else max(0, due_ms - self._read_boot_ms()) / 1000):
                seen = await self._seen.get()
        except TimeoutError:
            return self._containers.on_time(self._read_boot_ms())
        if isinstance(seen, StopSignal):
            return self._containers.stop(seen, self._read_boot_ms())
        return self._containers.observe(seen, self._read_boot_ms())

    async def _carry_out(self, orders: list[Order], holder: str) -> None:
        for order in orders:
            match order:
                case Start(name):
                    self._life.create_task(self._part(name, holder, self._seen.put_nowait).launch())
                case Kill(name, signal):
                    try:
                        await self._parts[name].signal(signal)
                    except EngineSilentError as error:
                        # SIGKILL follows SIGTERM, and is itself repeated.
                        _log.warning("a signal was not delivered", attempt=self._spec.attempt_id, error=str(error))

    def _part(self, name: str, holder: str, observe: Callable[[Observation], None]) -> ContainerAttempt:
        spec = replace(next(part for part in self._spec.parts if part.part == name), holder=holder)

        def tell(seen: Observation) -> None:
            observe(replace(seen, attempt_id=name))

        part = self._parts[name] = ContainerAttempt(spec, replace(self._yard, observe=tell))
        return part

    # The holder.

    async def _hold(self) -> str:
        """
        Create and start the holder; return its id.

        Raises:
            NeverRanError: there is none, and will be none.
        """
        architecture = self._yard.engine.info.architecture
        try:
            image = docker_holder.image(architecture)
        except KeyError as error:
            text = f"{HOLDER_REASON} is not made for {architecture}"
            raise NeverRanError(reason("CannotStartContainerError", text), host_failed=True) from error
        shared_mib = max(part.container.linux_parameters.shared_memory_size_mib for part in self._spec.parts)
        container = ContainerRecord(
            image=image,
            command=(docker_holder.PROGRAM,),
            resources=Resources(memory_mib=MEMORY_MIB_MIN),
            linux_parameters=LinuxParameters(
                init_process_enabled=False, shared_memory_size_mib=shared_mib if self._spec.ipc_mode == "task" else 0
            ),
            readonly_root_filesystem=True,
        )
        yard = replace(self._yard, images=_HolderImage(self._yard))
        self._holder = ContainerAttempt(replace(self._spec, container=container), yard)
        try:
            return await self._holder.start()
        finally:
            self._holder = None

    async def _let_go(self, holder: str) -> None:
        """End the holder, which nothing needs any more; that of a silent engine is ended as it is removed."""
        try:
            await self._yard.calls.once(self._yard.engine.kill, holder, StopSignal.KILL)
        except (EngineError, EngineSilentError) as error:
            _log.debug("the holder was not signalled", attempt=self._spec.attempt_id, error=str(error))

    # Tell.

    def _tell_started(self) -> None:
        if not self._told_started and (started_at_ms := self._containers.running_since_ms):
            self._told_started = True
            self._yard.observe(Started(attempt_id=self._spec.attempt_id, started_at_ms=started_at_ms))

    def _tell_end(self) -> None:
        end = self._containers.outcome(self._spec.attempt_id)
        if isinstance(end, Exited) and not self._told_started:
            started_at_ms = max(each.started_at_ms for each in self._containers.ends)
            self._yard.observe(Started(attempt_id=self._spec.attempt_id, started_at_ms=started_at_ms))
        self._yard.observe(end)


class _HolderImage:
    """Where a holder's image comes from: it is made."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard

    async def pull(self, image: str) -> str:
        """See ``ImageSource``."""
        engine = self._yard.engine
        tar = docker_holder.archive(engine.info.architecture)
        try:
            await self._yard.calls.once(engine.import_image, image, tar)
        except (EngineError, EngineSilentError) as error:
            return reason("CannotPullContainerError", f"{HOLDER_REASON}: {error}")
        return ""


def _ended_at_ms(end: Observation) -> int:
    return end.stopped_at_ms if isinstance(end, Exited | StartFailed) else 0
