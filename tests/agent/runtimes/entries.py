"""What tests of entries share: a command in an attempt, and all that it writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from batchyard_agent.runtimes.protocol import Entry, EntryEnd, LaunchSpec, Runtime, Wanted

LIMIT_S = 45.0


class Visit:
    """A command in an attempt; its output is read all the time."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.out, self.err = b"", b""
        self._more = asyncio.Event()
        self._pouring = asyncio.create_task(entry.pour(self._take))

    async def _take(self, data: bytes, is_error: bool) -> None:
        if is_error:
            self.err += data
        else:
            self.out += data
        self._more.set()

    async def until(self, holds: Callable[[bytes], bool]) -> None:
        """Wait until what it has written is so."""
        async with asyncio.timeout(LIMIT_S):
            while not holds(self.out):
                self._more.clear()
                await self._more.wait()

    async def end(self) -> EntryEnd:
        """Return how it ended."""
        async with asyncio.timeout(LIMIT_S):
            return await self._pouring

    async def close(self) -> None:
        self._pouring.cancel()
        await asyncio.gather(self._pouring, return_exceptions=True)
        await self.entry.close()


async def visit(runtime: Runtime, spec: LaunchSpec, *command: str, part: str = "", **wanted: Any) -> Visit:
    """Let a command in that can be started."""
    entry = await runtime.enter(spec, part, Wanted(command=command, **wanted))
    assert not isinstance(entry, EntryEnd), entry
    return Visit(entry)


async def run(
    runtime: Runtime, spec: LaunchSpec, *command: str, data: bytes = b"", part: str = ""
) -> tuple[int | None, bytes, bytes]:
    """Run a command to its end; return its code, and what it wrote."""
    entry = await runtime.enter(spec, part, Wanted(command=command, stdin=bool(data)))
    if isinstance(entry, EntryEnd):
        return entry.exit_code, b"", entry.error.encode()
    visiting = Visit(entry)
    if data:
        await entry.write(data)
        await entry.end_input()
    end = await visiting.end()
    await visiting.close()
    return end.exit_code, visiting.out, visiting.err or end.error.encode()
