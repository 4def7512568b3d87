"""
Logs of attempts: one file each, written by the runtimes, read and swept here.

Files may have holes, where ``log_limit`` dropped what was too much: nobody is ever shown
one, and what a log takes is what it takes of the disk. A slice is in one piece: its
first byte has the offset ``next_offset - len(data)``, behind a hole if it was asked for there.

It knows files, not attempts: how far an attempt has come is asked of whoever
knows. Logs outlive their attempt until they are too old or too many.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from batchyard.ids import AttemptId
from batchyard_agent.core.attempts import OVER, Phase
from batchyard_agent.runtimes import log_limit

POLL_S = 0.05
BYTES_MAX = 10 << 20
"""What is kept of an attempt's output when its job says nothing else."""
LIMIT_BYTES_DEFAULT = 64 << 10
LIMIT_BYTES_MAX = 1 << 20
WAIT_MS_MAX = 60_000
AGE_MAX_S = 7 * 24 * 3600
"""How long a log is kept after its last byte."""
TOTAL_BYTES_MAX = 1 << 30
"""Bytes of all logs of ended attempts and living ones together; the oldest ended ones go first."""

_BLOCK = 64 << 10
_SUFFIX = ".log"
_QUOTED = {code: quote(chr(code), safe="") for code in range(128)}
"""All that there is in most ids, by its code: ``quote`` looks at letter by letter."""
_PART_LENGTH_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """
    Part of a log.

    Attributes:
        end: No more will come: the attempt has ended and all was read.
    """

    data: bytes
    next_offset: int
    end: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """One log on disk, as the sweep sees it; ``changed_at_s`` is wall-clock time."""

    attempt_id: AttemptId
    used_bytes: int
    changed_at_s: float
    name: str = ""


class LogNotFoundError(Exception):
    """This host has no log of that attempt."""


class Logs:
    """
    The logs in one folder.

    Attributes:
        bytes_max: What is kept of an attempt's output when its job says nothing else.
    """

    def __init__(
        self,
        folder: Path,
        *,
        phase_of: Callable[[AttemptId], Phase | None],
        bytes_max: int = BYTES_MAX,
        age_max_s: int = AGE_MAX_S,
        total_bytes_max: int = TOTAL_BYTES_MAX,
    ) -> None:
        self._folder = folder
        self._phase_of = phase_of
        self.bytes_max = bytes_max
        self._age_max_s = age_max_s
        self._total_bytes_max = total_bytes_max
        self._date_s: float | None = None
        self._swept_boot_s = 0.0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, attempt_id: AttemptId, part: str = "") -> Path:
        """Return the file of an attempt's log, of several containers that of one; any id gives a safe name."""
        if len(part) > _PART_LENGTH_MAX:  # a file's name has 255 bytes at most
            part = part[:_PART_LENGTH_MAX] + hashlib.sha256(part.encode()).hexdigest()[:16]
        # No quoted text holds the comma.
        name = attempt_id.translate(_QUOTED) if attempt_id.isascii() else quote(attempt_id, safe="")
        return self._folder / (name + (f",{quote(part, safe='')}" if part else "") + _SUFFIX)

    async def read(
        self,
        attempt_id: AttemptId,
        part: str = "",
        *,
        offset: int = 0,
        tail_lines: int | None = None,
        limit_bytes: int = 0,
        wait_ms: int = 0,
    ) -> Slice:
        """
        Read part of a log, waiting for the first byte if there is none yet.

        Args:
            attempt_id: Whose log.
            part: Of several containers: of which.
            offset: Where to start; beyond the end means at the end.
            tail_lines: Start so many lines before the end instead.
            limit_bytes: At most so many; 0 means 64 KiB; never more than 1 MiB.
            wait_ms: Wait so long at most; a minute is the most. The attempt's end ends the wait.

        Raises:
            LogNotFoundError: the attempt is over and left no log.
            OSError: the file cannot be read.
        """
        limit = min(limit_bytes or LIMIT_BYTES_DEFAULT, LIMIT_BYTES_MAX)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(wait_ms, WAIT_MS_MAX) / 1000
        while True:
            # Asked before reading: all output of an attempt that is over is in its file.
            phase = self._phase_of(attempt_id)
            over = self._is_over(attempt_id)
            found = await asyncio.to_thread(_read, self.path(attempt_id, part), offset, tail_lines, limit)
            if found is None and phase is None:
                raise LogNotFoundError(f"this host has no log of attempt {attempt_id}")
            data, start, size = found or (b"", 0, 0)
            end = over and start + len(data) >= size
            if data or end or loop.time() >= deadline:
                return Slice(data=data, next_offset=start + len(data), end=end)
            offset, tail_lines = start, None
            await asyncio.sleep(POLL_S)

    def sweep(self, wall_s: float, boot_s: float) -> list[AttemptId]:
        """
        Delete old and surplus logs of attempts that are over; return whose. Blocks.

        No step of the wall clock makes a log old: days count from the newest byte that was
        there at the first sweep, and pass as time does (boottime).
        """
        files = _scan(self._folder)
        if self._date_s is None:
            self._date_s = max((file.changed_at_s for file in files), default=wall_s)
            self._swept_boot_s = boot_s
        now_s = self._date_s = min(wall_s, self._date_s + boot_s - self._swept_boot_s)
        self._swept_boot_s = boot_s
        total_bytes = sum(file.used_bytes for file in files)
        ended = [file for file in files if self._is_over(file.attempt_id)]
        doomed = doomed_logs(ended, total_bytes, now_s, self._age_max_s, self._total_bytes_max)
        for file in doomed:
            (self._folder / file.name).unlink(missing_ok=True)
        return [file.attempt_id for file in doomed]

    def _is_over(self, attempt_id: AttemptId) -> bool:
        phase = self._phase_of(attempt_id)
        return phase is None or phase in OVER


def doomed_logs(
    files: Iterable[LogFile], total_bytes: int, now_s: float, age_max_s: int, total_bytes_max: int
) -> list[LogFile]:
    """Choose which of *files* to delete: the too old, then the oldest until the rest fits."""
    doomed = []
    for file in sorted(files, key=lambda f: f.changed_at_s):
        if file.changed_at_s + age_max_s > now_s and total_bytes <= total_bytes_max:
            break
        doomed.append(file)
        total_bytes -= file.used_bytes
    return doomed


def _scan(folder: Path) -> list[LogFile]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(_SUFFIX):
                attempt_id = AttemptId(unquote(entry.name.removesuffix(_SUFFIX).partition(",")[0]))
                used_bytes, changed_at_s = log_limit.used_bytes(Path(entry.path)), entry.stat().st_mtime
                found.append(
                    LogFile(attempt_id=attempt_id, used_bytes=used_bytes, changed_at_s=changed_at_s, name=entry.name)
                )
    return found


def _read(path: Path, offset: int, tail_lines: int | None, limit: int) -> tuple[bytes, int, int] | None:
    """Return data, where it starts, and the file's size; None when there is no file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(fd).st_size
        start = min(max(offset, 0), size) if tail_lines is None else _tail_offset(fd, size, tail_lines)
        while True:
            start, stop = next(log_limit.stretches(fd, start, size), (size, size))
            data = os.pread(fd, min(limit, stop - start), start)
            # What was dropped meanwhile reads as zeros.
            if next(log_limit.stretches(fd, start, start + len(data)), (start, start)) == (start, start + len(data)):
                return data, start, size
    finally:
        os.close(fd)


def _tail_offset(fd: int, size: int, lines: int) -> int:
    """Find where the last *lines* lines start; an unfinished last line counts as one, and a hole ends a line."""
    if lines <= 0:
        return size
    for first, stop in reversed(list(log_limit.stretches(fd, 0, size))):
        position = stop - 1 if os.pread(fd, 1, stop - 1) == b"\n" else stop
        while position > first:
            start = max(first, position - _BLOCK)
            block = os.pread(fd, position - start, start)
            newline = len(block)
            while (newline := block.rfind(b"\n", 0, newline)) >= 0:
                lines -= 1
                if lines == 0:
                    return start + newline + 1
            position = start
        lines -= 1
        if lines == 0:
            return first
    return 0
