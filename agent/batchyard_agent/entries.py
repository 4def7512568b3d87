"""
Entries of this host: for each a stream of its own to the controller that asked, and a command in an attempt.

The agent listens on nothing: it is told of an entry over its session, and comes with the key that it
was told. It decides nothing (``core.entries``). Laws: an entry outlives its session, as when a
certificate is renewed, but not its stream; and whatever breaks here is this entry's end alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import grpc.aio
import structlog

from batchyard.ids import AttemptId
from batchyard.v1 import agent_pb2, agent_pb2_grpc, entry_pb2
from batchyard_agent.core.entries import NO_TERMINAL, refusal, spec_of
from batchyard_agent.driver import Driver
from batchyard_agent.runtimes.protocol import (
    Entry,
    EntryEnd,
    EntryRefusedError,
    RuntimeUnavailableError,
    Wanted,
    Window,
)
from batchyard_agent.terminals import Terminals

NOT_POSSIBLE = "ENTRY_NOT_POSSIBLE"
LEAVE_S = 5.0
"""How long the controller may take to hang up once it was told the end."""

log = structlog.get_logger()


class Entries:
    """
    All of this host.

    Args:
        driver: Whose attempts and runtimes.
        terminals: Of jobs that have one.
        connect: Opens a channel to a controller, each entry's own, so that none holds up a session.
    """

    def __init__(self, driver: Driver, terminals: Terminals, connect: Callable[[str], grpc.aio.Channel]) -> None:
        self._driver = driver
        self._terminals = terminals
        self._connect = connect
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, target: str, request: agent_pb2.OpenEntry) -> None:
        """Have one, with the controller at *target*."""
        task = asyncio.get_running_loop().create_task(self._serve(target, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, target: str, request: agent_pb2.OpenEntry) -> None:
        try:
            async with self._connect(target) as channel:
                call = agent_pb2_grpc.AgentServiceStub(channel).CarryEntry()  # type: ignore[no-untyped-call,unused-ignore]  # as the session's
                await call.write(agent_pb2.CarryEntryRequest(key=request.key))
                await self._carry(call, request)
        except grpc.aio.AioRpcError as error:
            log.debug("an entry's stream broke", attempt=request.attempt_id, error=error.details())
        except Exception:
            log.warning("an entry broke", attempt=request.attempt_id, exc_info=True)

    async def _carry(self, call: grpc.aio.StreamStreamCall, request: agent_pb2.OpenEntry) -> None:  # type: ignore[type-arg]
        try:
            if request.attach:
                await self._attach(call, request)
            else:
                await self._run(call, await self._enter(request))
        except (EntryRefusedError, RuntimeUnavailableError) as error:
            told = agent_pb2.EntryRefusal(reason=NOT_POSSIBLE, message=str(error))
            await call.write(agent_pb2.CarryEntryRequest(refusal=told))
            await _leave(call)

    async def _attach(self, call: grpc.aio.StreamStreamCall, request: agent_pb2.OpenEntry) -> None:  # type: ignore[type-arg]
        is_told = False

        async def tell_start() -> None:
            nonlocal is_told
            if not is_told:
                is_told = True
                await call.write(agent_pb2.CarryEntryRequest(started=True))

        async def feed(entry: Entry) -> None:
            await tell_start()
            size = request.command.size
            await entry.resize(Window(rows=size.rows, columns=size.columns))
            await _feed(call, entry)

        async def take(data: bytes, is_error: bool) -> None:
            await tell_start()
            await _tell(call, data, is_error=is_error)

        async def tell_end(end: EntryEnd) -> None:
            await tell_start()
            await _tell_end(call, end)

        attempt_id = AttemptId(request.attempt_id)
        await self._terminals.join(attempt_id, lambda: self._enter(request), take, feed, tell_end)

    async def _run(self, call: grpc.aio.StreamStreamCall, entry: Entry | EntryEnd) -> None:  # type: ignore[type-arg]
        await call.write(agent_pb2.CarryEntryRequest(started=True))
        if isinstance(entry, EntryEnd):
            await _tell_end(call, entry)
            return
        feeding = asyncio.create_task(_feed(call, entry))
        pouring = asyncio.create_task(entry.pour(lambda data, is_error: _tell(call, data, is_error=is_error)))
        try:
            await asyncio.wait({feeding, pouring}, return_when=asyncio.FIRST_COMPLETED)
            if pouring.done():
                await _tell_end(call, pouring.result())
        finally:
            feeding.cancel()
            pouring.cancel()
            await asyncio.gather(feeding, pouring, return_exceptions=True)
            await entry.close()

    async def _enter(self, request: agent_pb2.OpenEntry) -> Entry | EntryEnd:
        attempt_id = AttemptId(request.attempt_id)
        why_not = refusal(self._driver.table, attempt_id, len(self._tasks) - 1)
        if why_not:
            raise EntryRefusedError(why_not)
        spec = spec_of(self._driver.table, attempt_id)
        container = spec.launch.container
        if request.attach and not container.terminal_grace_s:
            raise EntryRefusedError(NO_TERMINAL)
        command, size = request.command, request.command.size
        wanted = Wanted(
            command=container.command if request.attach else tuple(command.command),
            stdin=command.stdin or request.attach,
            terminal=command.terminal or request.attach,
            window=Window(rows=size.rows, columns=size.columns),
            terminal_type=command.terminal_type or "xterm",
        )
        return await self._driver.enter(spec, request.container, wanted, dict(request.secrets))


async def _feed(call: grpc.aio.StreamStreamCall, entry: Entry) -> None:  # type: ignore[type-arg]
    """Hand on what comes from the user, until they go."""
    while isinstance(response := await call.read(), agent_pb2.CarryEntryResponse):
        piece = response.input
        match piece.WhichOneof("message"):
            case "data":
                await entry.write(piece.data)
            case "end":
                await entry.end_input()
            case "size":
                await entry.resize(Window(rows=piece.size.rows, columns=piece.size.columns))


async def _tell(call: grpc.aio.StreamStreamCall, data: bytes, *, is_error: bool) -> None:  # type: ignore[type-arg]
    output = entry_pb2.EntryOutput(stderr=data) if is_error else entry_pb2.EntryOutput(stdout=data)
    await call.write(agent_pb2.CarryEntryRequest(output=output))


async def _tell_end(call: grpc.aio.StreamStreamCall, end: EntryEnd) -> None:  # type: ignore[type-arg]
    told = entry_pb2.EntryEnd(exit_code=end.exit_code, error=end.error)
    await call.write(agent_pb2.CarryEntryRequest(output=entry_pb2.EntryOutput(end=told)))
    await _leave(call)


async def _leave(call: grpc.aio.StreamStreamCall) -> None:  # type: ignore[type-arg]
    """Wait until the other side has all that was said."""
    await call.done_writing()
    with contextlib.suppress(TimeoutError, grpc.aio.AioRpcError):
        async with asyncio.timeout(LEAVE_S):
            await call.code()
