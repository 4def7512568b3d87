"""A job's terminal on its host: one command, whoever comes and goes, and one at a time who is there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from batchyard.ids import AttemptId
from batchyard_agent.core.attempts import Meta, Table
from batchyard_agent.core.events import Event, Now, TerminalEnded
from batchyard_agent.driver import Driver
from batchyard_agent.journal import Journal
from batchyard_agent.runtimes.protocol import EntryEnd, Take, Window
from batchyard_agent.terminals import TAKEN, Terminals

A = AttemptId("job#1")


class Command:
    """A command whose output and end a test says."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[bytes | EntryEnd] = asyncio.Queue()
        self.is_closed = False

    async def pour(self, take: Take) -> EntryEnd:
        while isinstance(said := await self.says.get(), bytes):
            await take(said, False)
        return said

    async def write(self, data: bytes) -> None: ...

    async def end_input(self) -> None: ...

    async def resize(self, window: Window) -> None: ...

    async def close(self) -> None:
        self.is_closed = True


class User:
    """Somebody at the terminal, until they go."""

    def __init__(self, terminals: Terminals, command: Command) -> None:
        self.seen: asyncio.Queue[bytes] = asyncio.Queue()
        self.ended: list[EntryEnd] = []
        self.goes = asyncio.Event()
        self.starts = 0
        self._command = command
        self.visit = asyncio.create_task(terminals.join(A, self._enter, self._take, self._feed, self._tell_end))

    async def _enter(self) -> Any:
        self.starts += 1
        return self._command

    async def _take(self, data: bytes, _is_error: bool) -> None:
        if self.goes.is_set():
            raise ConnectionError("its stream broke")
        self.seen.put_nowait(data)

    async def _feed(self, _entry: Any) -> None:
        await self.goes.wait()

    async def _tell_end(self, end: EntryEnd) -> None:
        self.ended.append(end)


@pytest.fixture
def told(tmp_path: Path) -> Any:
    """Terminals, and what their driver was told."""
    journal = Journal.open(tmp_path / "state", "host-1")
    events: list[Event] = []
    driver = Driver(
        table=Table(meta=Meta(host_id="host-1")), journal=journal, read_now=lambda: Now(boot_ms=0, wall_ms=0)
    )
    driver.observe = events.append  # type: ignore[method-assign]  # where they go is not asked here
    yield Terminals(driver, lambda: Now(boot_ms=0, wall_ms=0)), events
    journal.close()


async def test_a_command_goes_on_while_nobody_is_there_and_nothing_it_writes_is_lost(told: Any) -> None:
    terminals, events = told
    command = Command()
    first = User(terminals, command)
    command.says.put_nowait(b"one")
    assert await first.seen.get() == b"one"
    first.goes.set()
    await first.visit
    command.says.put_nowait(b"two")
    await asyncio.sleep(0)
    second = User(terminals, command)
    assert await second.seen.get() == b"two"
    command.says.put_nowait(EntryEnd(exit_code=6))
    await second.visit
    assert (first.starts, second.starts, first.ended, second.ended) == (1, 0, [], [EntryEnd(exit_code=6)])
    assert events == [TerminalEnded(attempt_id=A, exit_code=6)]
    assert command.is_closed


async def test_who_comes_takes_the_place_of_who_was_there(told: Any) -> None:
    terminals, _ = told
    command = Command()
    first = User(terminals, command)
    command.says.put_nowait(b"one")
    await first.seen.get()
    second = User(terminals, command)
    await first.visit
    assert first.ended == [EntryEnd(error=TAKEN)], "it does not come again by itself"
    command.says.put_nowait(b"two")
    assert await second.seen.get() == b"two"
    second.goes.set()
    await second.visit
    await terminals.close()
    assert command.is_closed


async def test_what_cannot_be_started_ends_its_attempt(told: Any) -> None:
    terminals, events = told
    user = User(terminals, EntryEnd(exit_code=127, error="no such program"))  # type: ignore[arg-type]
    await user.visit
    assert user.ended == [EntryEnd(exit_code=127, error="no such program")]
    assert events == [TerminalEnded(attempt_id=A, exit_code=127, reason="no such program")]
