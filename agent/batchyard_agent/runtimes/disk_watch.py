"""
Holds attempts to the disk that they asked for, by looking again and again at what they take.

It knows folders and amounts; what is done about one that takes more is its owner's. Law: what
breaks on one folder is told in the log and holds up no other, and what breaks the watch
itself ends the agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from batchyard_agent.runtimes import scratch

INTERVAL_S = 5.0
"""Time between looks."""

_log = structlog.get_logger(__name__)


class DiskWatch:
    """
    Looks while there is something to be watched.

    Args:
        limits_mib: Returns what may be taken by the attempts' folders.
        on_over: Told of a folder that takes more, at every look.
    """

    def __init__(self, limits_mib: Callable[[], Mapping[Path, int]], on_over: Callable[[Path], None]) -> None:
        self._limits_mib = limits_mib
        self._on_over = on_over
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There is something to be watched."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._on_done)

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._limits_mib():
            await asyncio.sleep(INTERVAL_S)
            for folder, limit_mib in self._limits_mib().items():
                try:
                    used_mib = await asyncio.to_thread(scratch.used_mib, folder)
                except Exception as error:  # noqa: BLE001  # whatever a job makes of its folder, others are held to theirs
                    _log.warning("a working folder cannot be measured", folder=folder.name, error=repr(error))
                else:
                    if used_mib > limit_mib:
                        self._on_over(folder)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()):
            # A bug. The loop's handler decides; the app ends the agent, whose next life adopts.
            task.get_loop().call_exception_handler({"message": "the disk watch broke", "exception": error})
