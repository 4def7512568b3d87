"""
Descriptors: open files that are read and written from the event loop, a piece at a time.

Of entries, whose other end may be slow: it then makes this side wait. It must never know whose
they are. Law: nothing is held but the piece under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine

from batchyard_agent.runtimes.protocol import EntryEnd

END_OF_INPUT = b"\x04"
"""What a terminal takes for it (termios(3), VEOF)."""
PIECE_BYTES = 32 * 1024
REST_S = 0.5
"""How long output is waited for once the command has ended: what it has left behind may never close it."""


class Descriptor:
    """
    An open file, pipe, terminal or socket, without blocking.

    Args:
        number: Of it; it belongs to this from now on.
    """

    def __init__(self, number: int) -> None:
        os.set_blocking(number, False)
        self._number = number
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()

    async def read(self) -> bytes:
        """Return what comes next; nothing at the end, also that of a terminal that nobody has open any more."""
        while self._number >= 0:
            try:
                return os.read(self._number, PIECE_BYTES)
            except BlockingIOError:
                await self._ready(self._loop.add_reader, self._loop.remove_reader)
            except OSError:
                return b""
        return b""

    async def write(self, data: bytes) -> None:
        """
        Write all of it.

        Raises:
            OSError: nobody reads it.
        """
        while data and self._number >= 0:
            try:
                data = data[os.write(self._number, data) :]
            except BlockingIOError:
                await self._ready(self._loop.add_writer, self._loop.remove_writer)

    async def _ready(self, add: Callable[..., object], remove: Callable[[int], object]) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(ready)
        add(self._number, _settle, ready)
        try:
            await ready
        finally:
            self._waiting.discard(ready)
            if self._number >= 0:
                remove(self._number)

    def end_writing(self) -> None:
        """Let the other end of a socket find the end."""
        if self._number >= 0:
            held = socket.socket(fileno=os.dup(self._number))
            with contextlib.closing(held), contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close it; who reads finds the end. Idempotent."""
        if self._number >= 0:
            number, self._number = self._number, -1
            self._loop.remove_reader(number)
            self._loop.remove_writer(number)
            os.close(number)
            for ready in self._waiting:
                _settle(ready)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def pour_until(ended: asyncio.Future[EntryEnd], *pours: Coroutine[None, None, None]) -> EntryEnd:
    """Let all pours go on until each is done, or the command has ended and its rest was waited for."""
    tasks = [asyncio.create_task(pour) for pour in pours]
    try:
        end = await ended
        await asyncio.wait(tasks, timeout=REST_S)
        for task in tasks:
            if task.done():
                task.result()
        return end
    finally:
        for task in tasks:
            task.cancel()
