"""
Feed: state changes for those who watch, kept for a while so that they can resume.

A cursor is ``<epoch>-<number>``. A cursor of another term, or one that is older
than what is kept, cannot be resumed; the watcher then begins with present states.
"""

from __future__ import annotations

import asyncio
from collections import deque

from batchyard.errors import UnavailableError

from .core.commands import PublishMove

KEPT_MAX = 100_000
"""Changes kept for resuming."""


class Feed:
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

    def cursor(self, number: int) -> str:
        """Return the cursor after change *number*."""
        return f"{self._epoch}-{number}"

    def resume(self, cursor: str) -> int | None:
        """Return the number that a cursor names, or None if it cannot be resumed."""
        epoch, _, number = cursor.partition("-")
        if epoch != str(self._epoch) or not (number.isascii() and number.isdigit() and len(number) < 19):
            return None
        place = int(number)
        return place if self._last - len(self._moves) <= place <= self._last else None

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
                raise UnavailableError("this controller stopped leading; try again")
            await self._news.wait()

    def close(self) -> None:
        """End the term for all who wait."""
        self._closed = True
        self._news.set()
