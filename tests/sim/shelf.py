"""
The shelf: a file system that both controllers have their archive on, and what befalls it.

The archive is the real one, with real SQLite files in a folder of this world. What is a thread
there is a part of its controller's program here: it stands still and dies with it, and goes on
where nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from batchyard_controller.core.model.jobs import Job
from batchyard_controller.store import archive

from .loop import _PROGRAM, Program, VirtualLoop

MEMORY = Path("/dev/shm")


class Shelf:
    """Of one world."""

    def __init__(self, loop: VirtualLoop, dice: Random) -> None:
        self.loop, self.dice = loop, dice
        self.is_away = False
        self.slow_s = 0.0
        self.crash = ""
        """When who archives next dies: see ``Faults.crash_archiving``; nothing: it lives."""
        self.on_crash: Callable[[Program], None] = lambda _: None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def folder(self) -> Path:
        """Where the files are."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        return Path(self._folder.name)

    def crashes(self, program: Program, when: str) -> bool:
        """Say whether who archives dies now, by a crash that was to come then; it does."""
        if self.crash != when:
            return False
        self.crash = ""
        self.on_crash(program)
        return True

    def try_to(self, work: Callable[..., Any], *args: Any) -> Any:
        """Do something with the files. Raises OSError while they cannot be reached."""
        if self.is_away:
            raise OSError("stale file handle")
        return work(*args)

    def jobs(self) -> dict[str, Job]:
        """Read all that is there, as whoever looks into the files; of a job that is there twice what the later term wrote."""
        found: dict[str, bytes] = {}
        for path in sorted(self.folder.glob("jobs-*.db")):
            file = sqlite3.connect(path)
            found.update(file.execute("SELECT id, records FROM jobs"))
            file.close()
        return {job.id: job for job in archive._unpack(found.values())}

    def clear(self) -> None:
        """Remove the files; who has them open may write on, and nobody reads it."""
        if self._folder is not None:
            shutil.rmtree(self._folder.name, ignore_errors=True)
            self._folder.cleanup()
            self._folder = None


class Worker:
    """As much of a ``ThreadPoolExecutor`` of one thread as the archive asks for."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._queue: deque[tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._is_busy = False

    def submit(self, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Have something done behind all that was asked before, of which what is wanted no longer is not begun."""
        program = _PROGRAM.get()
        assert program is not None, "a controller asks"
        done = self._shelf.loop.create_future()
        self._queue.append((done, work, args))
        if not self._is_busy:
            self._begin(program)
        return done

    def _begin(self, program: Program) -> None:
        shelf = self._shelf
        while self._queue and self._queue[0][0].cancelled():
            self._queue.popleft()
        self._is_busy = bool(self._queue)
        if self._is_busy:
            took_s = shelf.dice.uniform(0.001, 0.02) + shelf.dice.random() * shelf.slow_s
            shelf.loop.call_later(took_s, self._end, program, *self._queue.popleft(), context=program._context)

    def _end(self, program: Program, *what: Any) -> None:
        self._do(program, *what)
        self._begin(program)

    def _do(self, program: Program, done: asyncio.Future[Any], work: Callable[..., Any], args: tuple[Any, ...]) -> None:
        shelf = self._shelf
        adds = work.__name__ == "_add"
        if adds and shelf.crashes(program, "before"):
            return
        try:
            result = shelf.try_to(work, *args)
        except (sqlite3.Error, OSError) as error:
            if not done.done():
                done.set_exception(error)
            return
        if not (adds and shelf.crashes(program, "after")) and not done.done():
            done.set_result(result)
