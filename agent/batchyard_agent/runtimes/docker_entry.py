"""
A command in a container that runs: the engine's exec, over a connection that is its streams.

The engine ends it with the container. When this side goes, a terminal is hung up on; a
command without one goes on until it reads or writes, or its container ends. It decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from batchyard_agent.runtimes.descriptor import END_OF_INPUT, Descriptor
from batchyard_agent.runtimes.docker_calls import Calls
from batchyard_agent.runtimes.docker_engine import Engine, EngineError, EngineSilentError
from batchyard_agent.runtimes.engine_words import EXIT_NOT_EXECUTABLE, exit_code_of_start_failure
from batchyard_agent.runtimes.protocol import EntryEnd, EntryRefusedError, Take, Wanted, Window

_HEAD = struct.Struct(">BxxxI")
"""Of a piece of output without a terminal: which stream, and how long (Docker Engine API, ContainerAttach)."""
_STDERR = 2
_BEGUN_BYTES = 1024
CODE_LIMIT_S = 10.0
"""How long the engine may take to say how a command has ended whose output has."""
_CODE_PAUSE_S = 0.02


class ContainerEntry:
    """One command. ``enter`` makes it."""

    def __init__(
        self, engine: Engine, calls: Calls, entry: str, connection: socket.socket, came: bytes, wanted: Wanted
    ) -> None:
        self._engine = engine
        self._calls = calls
        self._entry = entry
        self._stream = Descriptor(connection.detach())
        self._wanted = wanted
        self._came = came
        self._begun = b""
        """The first that it wrote: why it could not be started the engine says there."""

    @classmethod
    async def enter(cls, engine: Engine, calls: Calls, container: str, wanted: Wanted) -> ContainerEntry | EntryEnd:
        """
        Have a command run in a container.

        Returns:
            How it ended, if it could not be started.

        Raises:
            EntryRefusedError: the engine does not.
            EngineSilentError: the engine does not answer.
        """
        try:
            entry, connection, came = await calls.once(engine.enter, container, wanted)
        except EngineError as error:
            code = exit_code_of_start_failure(error.message)
            if code is None:
                raise EntryRefusedError(error.message) from error
            return EntryEnd(exit_code=code, error=error.message)
        made = cls(engine, calls, entry, connection, came, wanted)
        await made.resize(wanted.window)
        return made

    async def pour(self, take: Take) -> EntryEnd:
        """See ``Entry``."""
        if self._wanted.terminal:
            while data := await self._read():
                self._begun = self._begun or data[:_BEGUN_BYTES]
                await take(data, False)
        else:
            await self._pour_apart(take)
        return await self._end()

    async def _read(self) -> bytes:
        came, self._came = self._came, b""
        return came or await self._stream.read()

    async def _pour_apart(self, take: Take) -> None:
        """Hand on output whose pieces say which stream they are of."""
        held = b""
        while data := await self._read():
            held += data
            while len(held) >= _HEAD.size:
                stream, size = _HEAD.unpack_from(held)
                piece = held[_HEAD.size : _HEAD.size + size]
                if piece:
                    self._begun = self._begun or piece[:_BEGUN_BYTES]
                    await take(piece, stream == _STDERR)
                held = held[_HEAD.size + len(piece) :]
                if len(piece) < size:  # its rest is yet to come
                    held = _HEAD.pack(stream, size - len(piece)) + held
                    break

    async def _end(self) -> EntryEnd:
        try:
            async with asyncio.timeout(CODE_LIMIT_S):
                while (ended := await self._calls.once(self._engine.entry_end, self._entry)) is None:  # noqa: ASYNC110  # the engine tells nobody
                    await asyncio.sleep(_CODE_PAUSE_S)
                code, has_run = ended
        except (EngineError, EngineSilentError, TimeoutError) as error:
            return EntryEnd(error=f"the engine does not say how it ended: {error}")
        if code == EXIT_NOT_EXECUTABLE and not has_run:  # which the engine says of whatever cannot be started
            code = exit_code_of_start_failure(self._begun.decode(errors="replace")) or code
        return EntryEnd(exit_code=code)

    async def write(self, data: bytes) -> None:
        """See ``Entry``."""
        with contextlib.suppress(OSError):
            await self._stream.write(data)

    async def end_input(self) -> None:
        """See ``Entry``."""
        if self._wanted.terminal:
            await self.write(END_OF_INPUT)
        else:
            self._stream.end_writing()

    async def resize(self, window: Window) -> None:
        """See ``Entry``."""
        if self._wanted.terminal and window.rows and window.columns:
            with contextlib.suppress(EngineError, EngineSilentError):  # it has just ended
                await self._calls.once(self._engine.resize_entry, self._entry, window)

    async def close(self) -> None:
        """See ``Entry``."""
        self._stream.close()
