"""
The life of an attempt of several containers: a holder, and its parts.

The holder owns what they share, bears the attempt's name, and lives from before the first
part until after the last. Who starts when and what follows, its `Course` says; each part
is a `ContainerAttempt` of its own, so that the law "launched once at most" holds of each by
its name and its log. It must never judge an end itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from functools import partial

import structlog

from batchyard.resources import Resources
from batchyard.tasks import Container as ContainerRecord
from batchyard.tasks import LinuxParameters
from batchyard_agent.core.containers import Kill, Order, Seen, Start
from batchyard_agent.runtimes import docker_holder
from batchyard_agent.runtimes.docker_attempt import VANISHED_REASON, ContainerAttempt, NeverRanError, Yard
from batchyard_agent.runtimes.docker_engine import EngineError, EngineSilentError
from batchyard_agent.runtimes.docker_facts import ContainerEvent, ListedContainer
from batchyard_agent.runtimes.docker_spec import MEMORY_MIB_MIN, container_name
from batchyard_agent.runtimes.engine_words import reason
from batchyard_agent.runtimes.protocol import (
    ContainersChanged,
    LaunchSpec,
    Observation,
    StartFailed,
    StopSignal,
    Vanished,
)
from batchyard_agent.runtimes.task_course import Course

HOLDER_REASON = "the container that holds the others together"

_log = structlog.get_logger(__name__)


class TaskAttempt:
    """One attempt of several. ``launch`` or ``resume`` is its whole life, to be run as a task."""

    def __init__(self, spec: LaunchSpec, yard: Yard) -> None:
        self._spec, self._yard = spec, yard
        self._parts: dict[str, ContainerAttempt] = {}
        self._holder: ContainerAttempt | None = None
        self._course = Course(spec, yard.observe)
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
        self._course.see(signal)

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
        ended = await asyncio.gather(*(self._end_of(name, found.get(name)) for name in names if name not in running))
        self._course.restore(running, ended)
        # Without one the engine refuses those that are still to be started.
        holder = found[""].container_id if "" in found else container_name(self._spec.attempt_id)
        await self._live(holder, [found[name] for name in running])

    async def _end_of(self, name: str, found: ListedContainer | None) -> list[Seen]:
        """Learn when a part that does not run any more began, and how it ended."""
        if found is None:
            return [Vanished(attempt_id=name, reason=VANISHED_REASON)]
        seen: list[Seen] = []
        part = self._part(name, "", seen.append)
        await part.watch(found.container_id)
        return seen

    async def _live(self, holder: str, running: list[ListedContainer]) -> None:
        async with asyncio.TaskGroup() as self._life:
            for found in running:
                part = self._part(found.part, holder, self._course.see)
                self._life.create_task(part.watch(found.container_id))
            await self._course.run(partial(self._carry_out, holder))
        await self._let_go(holder)
        self._course.tell_end()

    async def _carry_out(self, holder: str, orders: list[Order]) -> None:
        for order in orders:
            match order:
                case Start(name):
                    self._life.create_task(self._part(name, holder, self._course.see).launch())
                case Kill(name, signal):
                    try:
                        await self._parts[name].signal(signal)
                    except EngineSilentError as error:
                        # SIGKILL follows SIGTERM, and is itself repeated.
                        _log.warning("a signal was not delivered", attempt=self._spec.attempt_id, error=str(error))

    def _part(self, name: str, holder: str, observe: Callable[[Seen], None]) -> ContainerAttempt:
        spec = replace(next(part for part in self._spec.parts if part.part == name), holder=holder)

        def tell(seen: Observation) -> None:
            assert not isinstance(seen, ContainersChanged), seen  # that is told of all together
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
