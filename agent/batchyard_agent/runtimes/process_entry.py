"""
A command in an attempt of the process runtime: its streams, made here, and the keeper's word on it.

The keeper lets it in (``keeper.entering``); what it reads and writes is this agent's to hand on, so it is hung
up on when the agent goes. It decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from collections.abc import Awaitable, Callable

from batchyard_agent.keeper_link import KeeperLink
from batchyard_agent.runtimes.descriptor import END_OF_INPUT, Descriptor, pour_until
from batchyard_agent.runtimes.process_launch import failure
from batchyard_agent.runtimes.protocol import EntryEnd, EntryRefusedError, Take, Wanted, Window

_WINSIZE = struct.Struct("HHHH")


class ProcessEntry:
    """One command. ``enter`` makes it."""

    def __init__(self, link: KeeperLink, number: bytes, left: asyncio.Future[int | None]) -> None:
        self._link = link
        self._number = number
        self._left = left
        self._given: Descriptor | None = None
        self._out: Descriptor | None = None
        self._err: Descriptor | None = None
        self._terminal = -1

    @classmethod
    async def enter(cls, link: KeeperLink, order: tuple[bytes, ...], wanted: Wanted) -> ProcessEntry | EntryEnd:
        """
        Have a command run by an order as of a start.

        Returns:
            How it ended, if it could not be started.

        Raises:
            EntryRefusedError: nothing can be run there.
        """
        if not link.is_open:
            raise EntryRefusedError("the host's keeper is just being replaced; try again")
        ours, theirs = _terminal(wanted.window) if wanted.terminal else _pipes(is_read=wanted.stdin)
        number, begun, left = link.expect_entry()
        entry = cls(link, number, left)
        try:
            entry._take_streams(ours, is_terminal=wanted.terminal)
            streams = [str(each).encode() if each >= 0 else b"" for each in theirs]
            link.send(b"enter", number, b"1" if wanted.terminal else b"", *streams, *order[1:])
            stage, errno = await begun
        except BaseException:
            await entry.close()
            raise
        finally:
            for each in set(theirs) - {-1}:
                os.close(each)
        if not stage:
            return entry
        await entry.close()
        if stage == "gone":
            raise EntryRefusedError("the attempt does not run any more")
        error = failure(stage, errno, wanted.command, "")
        if error.exit_code is None:
            raise EntryRefusedError(str(error))
        return EntryEnd(exit_code=error.exit_code, error=str(error))

    def _take_streams(self, ours: tuple[int, int, int], *, is_terminal: bool) -> None:
        given, out, err = ours
        self._given = Descriptor(given) if given >= 0 else None
        self._out = Descriptor(out)
        self._err = Descriptor(err) if err >= 0 else None
        self._terminal = out if is_terminal else -1

    async def pour(self, take: Take) -> EntryEnd:
        """See ``Entry``."""
        assert self._out is not None, "it was closed"
        pours = [_pour(self._out, lambda data: take(data, False))]
        if self._err is not None:
            pours.append(_pour(self._err, lambda data: take(data, True)))
        return await pour_until(asyncio.ensure_future(self._end()), *pours)

    async def _end(self) -> EntryEnd:
        code = await asyncio.shield(self._left)
        if code is None:
            return EntryEnd(error="the host's keeper was replaced, the exit code is lost")
        return EntryEnd(exit_code=code)

    async def write(self, data: bytes) -> None:
        """See ``Entry``."""
        if self._given is not None:
            with contextlib.suppress(OSError):
                await self._given.write(data)

    async def end_input(self) -> None:
        """See ``Entry``."""
        if self._terminal >= 0:
            await self.write(END_OF_INPUT)
        elif self._given is not None:
            self._given.close()

    async def resize(self, window: Window) -> None:
        """See ``Entry``."""
        if self._terminal >= 0 and window.rows and window.columns:
            with contextlib.suppress(OSError):
                _set_size(self._terminal, window)

    async def close(self) -> None:
        """See ``Entry``."""
        if not self._left.done():
            self._link.send(b"hangup", self._number)
        self._terminal = -1
        for each in (self._given, self._out, self._err):
            if each is not None:
                each.close()


def _terminal(window: Window) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return the ends of a new terminal: this side's, to write and to read, and the command's."""
    master, slave = os.openpty()
    if window.rows and window.columns:
        _set_size(master, window)
    return (os.dup(master), master, -1), (slave, slave, slave)


def _pipes(*, is_read: bool) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    out, out_end = os.pipe()
    err, err_end = os.pipe()
    given_end, given = os.pipe() if is_read else (-1, -1)
    return (given, out, err), (given_end, out_end, err_end)


def _set_size(terminal: int, window: Window) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, _WINSIZE.pack(window.rows, window.columns, 0, 0))


async def _pour(source: Descriptor, take: Callable[[bytes], Awaitable[None]]) -> None:
    while data := await source.read():
        await take(data)
