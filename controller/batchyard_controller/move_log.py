"""
Move log: state changes for those who watch, kept for a while so that they can resume.

A cursor is ``<epoch>-<number>-<moment>``: of the term, of the last change seen in it,
and until when all changes were seen, in milliseconds of the controller's clock. One
of another term, or older than what is kept, cannot be resumed: the watcher is then
shown present states, and by the moment, what may have ended since.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque

from batchyard.errors import Reason, UnavailableError
from batchyard_controller.core.commands import PublishMove

KEPT_MAX = 100_000
"""Changes kept for resuming."""


_CURSOR = re.compile(r"(\d{1,18})-(\d{1,18})-(\d{1,18})", re.ASCII)


def seen_at_ms(cursor: str) -> int | None:
    """Return until when the holder of a cursor, of whatever term, has seen all changes; None if it is none."""
    parts = _parts_of(cursor)
    return None if parts is None else parts[2]


def _parts_of(cursor: str) -> tuple[int, int, int] | None:
    match = _CURSOR.fullmatch(cursor)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


class MoveLog:
    """All changes of one term, numbered from 1."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._moves: deque[PublishMove] = deque(maxlen=KEPT_MAX)
        self._last = 0
        self._news = asyncio.Event()
        self._closed = False

    def publish(self, moves: list[PublishMove]) -> None:
        """Append changes and wake those who wait."""
        if moves:
            self._moves.extend(moves)
            self._last += len(moves)
            self._news.set()
            self._news = asyncio.Event()

    @property
    def end(self) -> int:
        """Number of the latest change."""
        return self._last

    def cursor(self, number: int, at_ms: int) -> str:
        """Return the cursor after change *number*, at the moment *at_ms*."""
        return f"{self._epoch}-{number}-{at_ms}"

    def resume(self, cursor: str) -> int | None:
        """Return the number that a cursor names, or None if it cannot be resumed."""
        parts = _parts_of(cursor)
        if parts is None or parts[0] != self._epoch:
            return None
        return parts[1] if self._last - len(self._moves) <= parts[1] <= self._last else None

    def since(self, number: int, limit: int) -> list[PublishMove] | None:
        """Return up to *limit* changes after *number*, or None if some are gone."""
        first_kept = self._last - len(self._moves)
        if number < first_kept:
            return None
        skip = number - first_kept
        return [self._moves[i] for i in range(skip, min(skip + limit, len(self._moves)))]

    async def wait(self, number: int) -> None:
        """
        Return once there is a change after *number*.

        Raises:
            UnavailableError: the term ended.
        """
        while self._last <= number:
            if self._closed:
                raise UnavailableError("this controller stopped leading; try again", reason=Reason.LEADERSHIP_LOST)
            await self._news.wait()

    def close(self) -> None:
        """End the term for all who wait."""
        self._closed = True
        self._news.set()
