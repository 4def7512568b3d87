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
from typing import Any

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


class _Stream:
    """A call to the controller, to which several may write."""

    def __init__(self, call: grpc.aio.StreamStreamCall) -> None:  # type: ignore[type-arg]
        self._call = call
        self._writing = asyncio.Lock()

    async def say(self, **message: Any) -> None:
        """Write a message, after those that are under way: two writes at once break a call."""
        async with self._writing:
            await self._call.write(agent_pb2.CarryEntryRequest(**message))

    async def put(self, data: bytes, is_error: bool) -> None:
        """Write a piece of output."""
        await self.say(output=entry_pb2.EntryOutput(stderr=data) if is_error else entry_pb2.EntryOutput(stdout=data))

    async def hear(self) -> entry_pb2.EntryInput | None:
        """Return what comes next of what goes in; None: its user went."""
        response = await self._call.read()
        return response.input if isinstance(response, agent_pb2.CarryEntryResponse) else None

    async def end(self, end: EntryEnd) -> None:
        """Tell how the command has ended."""
        told = entry_pb2.EntryEnd(exit_code=end.exit_code, error=end.error)
        await self.say(output=entry_pb2.EntryOutput(end=told))
        await self.leave()

    async def leave(self) -> None:
        """Wait until the other side has all that was said."""
        await self._call.done_writing()
        with contextlib.suppress(TimeoutError, grpc.aio.AioRpcError):
            async with asyncio.timeout(LEAVE_S):
                await self._call.code()


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
                stream = _Stream(call)
                await stream.say(key=request.key)
                await self._carry(stream, request)
        except grpc.aio.AioRpcError as error:
            log.debug("an entry's stream broke", attempt=request.attempt_id, error=error.details())
        except Exception:
            log.warning("an entry broke", attempt=request.attempt_id, exc_info=True)

    async def _carry(self, stream: _Stream, request: agent_pb2.OpenEntry) -> None:
        try:
            if request.attach:
                await self._attach(stream, request)
            else:
                await self._run(stream, await self._enter(request))
        except (EntryRefusedError, RuntimeUnavailableError) as error:
            told = agent_pb2.EntryRefusal(reason=NOT_POSSIBLE, message=str(error))
            await stream.say(refusal=told)
            await stream.leave()

    async def _attach(self, stream: _Stream, request: agent_pb2.OpenEntry) -> None:
        is_told = False

        async def tell_start() -> None:
            nonlocal is_told
            if not is_told:
                is_told = True
                await stream.say(started=True)

        async def feed(entry: Entry) -> None:
            await tell_start()
            size = request.command.size
            await entry.resize(Window(rows=size.rows, columns=size.columns))
            await _feed(stream, entry)

        async def take(data: bytes, is_error: bool) -> None:
            await tell_start()
            await stream.put(data, is_error)

        async def tell_end(end: EntryEnd) -> None:
            await tell_start()
            await stream.end(end)

        attempt_id = AttemptId(request.attempt_id)
        await self._terminals.join(attempt_id, lambda: self._enter(request), take, feed, tell_end)

    async def _run(self, stream: _Stream, entry: Entry | EntryEnd) -> None:
        await stream.say(started=True)
        if isinstance(entry, EntryEnd):
            await stream.end(entry)
            return
        feeding = asyncio.create_task(_feed(stream, entry))
        pouring = asyncio.create_task(entry.pour(stream.put))
        try:
            await asyncio.wait({feeding, pouring}, return_when=asyncio.FIRST_COMPLETED)
            if pouring.done():
                await stream.end(pouring.result())
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


async def _feed(stream: _Stream, entry: Entry) -> None:
    """Hand on what comes from the user, until they go."""
    while (piece := await stream.hear()) is not None:
        match piece.WhichOneof("message"):
            case "data":
                await entry.write(piece.data)
            case "end":
                await entry.end_input()
            case "size":
                await entry.resize(Window(rows=piece.size.rows, columns=piece.size.columns))
