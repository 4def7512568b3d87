"""
The terminals of this host's jobs that have one: their commands, and the streams that are at them.

A command is started for the first who comes, and goes on while nobody is there: what it writes then
waits, and so does it once its terminal is full. It decides nothing (``core.terminals``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NoReturn

from batchyard.ids import AttemptId
from batchyard_agent.core.events import Now, TerminalEnded
from batchyard_agent.core.terminals import Terminals as Presence
from batchyard_agent.driver import Driver
from batchyard_agent.runtimes.protocol import Entry, EntryEnd, Take

LOOK_S = 1.0
"""Time between looks for terminals at which nobody has been for too long."""


class _Terminal:
    """One command, and who is at it."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.pouring = asyncio.create_task(entry.pour(self._hand_on))
        self._take: Take | None = None
        self._is_taken = asyncio.Event()
        self.left = asyncio.Event()

    async def _hand_on(self, data: bytes, is_error: bool) -> None:
        while True:
            await self._is_taken.wait()
            assert self._take is not None, "somebody is there"
            try:
                await self._take(data, is_error)
            except Exception:  # noqa: BLE001  # its stream broke, whatever of it: the next who comes gets it
                self.go()
            else:
                return

    def come(self, take: Take) -> asyncio.Event:
        """Let somebody be at it, and who was there leave; return what is set when they are to."""
        self.left.set()
        self.left = asyncio.Event()
        self._take = take
        self._is_taken.set()
        return self.left

    def go(self) -> None:
        """Let nobody be at it."""
        self._is_taken.clear()
        self.left.set()


class Terminals:
    """
    All of this host.

    Args:
        driver: Is told of ends.
        read_now: The clock.
    """

    def __init__(self, driver: Driver, read_now: Callable[[], Now]) -> None:
        self._driver = driver
        self._read_now = read_now
        self._presence = Presence()
        self._found: dict[AttemptId, _Terminal] = {}
        self._opening: dict[AttemptId, asyncio.Lock] = {}

    async def run(self) -> NoReturn:
        """End attempts at whose terminals nobody has been for too long, for ever."""
        while True:
            for event in self._presence.look(self._driver.table, self._read_now().boot_ms):
                self._driver.observe(event)
                await self._close(event.attempt_id)
            for attempt_id in self._found.keys() - self._driver.table.attempts.keys():
                await self._close(attempt_id)
            await asyncio.sleep(LOOK_S)

    async def join(
        self,
        attempt_id: AttemptId,
        enter: Callable[[], Awaitable[Entry | EntryEnd]],
        take: Take,
        feed: Callable[[Entry], Awaitable[None]],
        tell_end: Callable[[EntryEnd], Awaitable[None]],
    ) -> None:
        """
        Be at the terminal of an attempt until its command ends or its user goes.

        Args:
            attempt_id: The attempt.
            enter: Starts its command, if it was not.
            take: Takes what it writes.
            feed: Hands on what its user types, until they go.
            tell_end: Tells them how it has ended.

        Raises:
            EntryRefusedError, RuntimeUnavailableError: it cannot be started now.
        """
        async with self._opening.setdefault(attempt_id, asyncio.Lock()):
            terminal = self._found.get(attempt_id)
            if terminal is None:
                entry = await enter()
                if isinstance(entry, EntryEnd):
                    self._end(attempt_id, entry)
                    await tell_end(entry)
                    return
                terminal = self._found[attempt_id] = _Terminal(entry)
        self._presence.come(attempt_id)
        left = terminal.come(take)
        feeding = asyncio.ensure_future(feed(terminal.entry))
        leaving = asyncio.ensure_future(left.wait())
        try:
            await asyncio.wait({feeding, leaving, terminal.pouring}, return_when=asyncio.FIRST_COMPLETED)
            if terminal.pouring.done() and not terminal.pouring.cancelled():
                end = terminal.pouring.result()
                self._end(attempt_id, end)
                await tell_end(end)
                await self._close(attempt_id)
        finally:
            feeding.cancel()
            leaving.cancel()
            await asyncio.gather(feeding, leaving, return_exceptions=True)
            if not left.is_set() or terminal.left is left:  # nobody has come in their place
                terminal.go()
                self._presence.go(attempt_id, self._read_now().boot_ms)

    def _end(self, attempt_id: AttemptId, end: EntryEnd) -> None:
        code = 1 if end.exit_code is None else end.exit_code
        self._driver.observe(TerminalEnded(attempt_id=attempt_id, exit_code=code, reason=end.error))

    async def _close(self, attempt_id: AttemptId) -> None:
        terminal = self._found.pop(attempt_id, None)
        self._opening.pop(attempt_id, None)
        if terminal is not None:
            terminal.go()
            terminal.pouring.cancel()
            with contextlib.suppress(Exception):
                await terminal.entry.close()

    async def close(self) -> None:
        """Let go of all: their commands are hung up on."""
        for attempt_id in list(self._found):
            await self._close(attempt_id)
