"""
Trail: what became of jobs, hosts, queues and the yard, with its causes, for as long as it is kept.

It is kept in the store, written with what it tells of, and all of it in memory, encoded, so that it outlives a
controller and costs no reading. Who watches, who asks and who passes events on read it from a place on. A cursor is
``<epoch>-<number>-<moment>``: a place, and until when all was seen, in milliseconds of the controller's clock. One
whose place is no longer kept cannot be resumed: a watcher is then shown present states, and by the moment, what may
have ended since.
"""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from batchyard.errors import Reason, UnavailableError
from batchyard_controller.core.commands import Published
from batchyard_controller.core.model.values import Instant

from .store.moves import LOST_KEY, PREFIX, START, Batch, Place, join, read_batch, told_by
from .store.protocol import Atom, Change, Delete, Put, Store

MOVES_MAX = 100_000
AGE_MS = 7 * 24 * 3600 * 1000
BACKLOG_MAX = 1_000_000
_FRESH = 256
"""Records of which what they tell is kept decoded, for those who follow closely."""
_TRIM_MIN, _TRIM_MAX = 32, 90
"""Records that are deleted together."""
_TRIMS_MAX = 4
"""Atoms of deletions in one commit."""
LOOK_MAX = 2_000
"""Records that are decoded in one look, so that none keeps the loop for long."""

_CURSOR = re.compile(r"(\d{1,19})-(\d{1,18})-(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailBounds:
    """
    How much is kept.

    Attributes:
        moves_max: Moves and notices; older ones go.
        age_ms: For how long.
        backlog_max: Moves and notices that wait for the slowest of those to whom events are passed on; beyond it
            they are lost to it, and it is told so.
    """

    moves_max: int = MOVES_MAX
    age_ms: int = AGE_MS
    backlog_max: int = BACKLOG_MAX


class Part(NamedTuple):
    """What follows a place: each with its own place; *end* is how far was looked."""

    told: list[tuple[Place, Published]]
    end: Place


def parts_of(cursor: str) -> tuple[int, int, int] | None:
    """Return a cursor's epoch, number and moment; None if it is none."""
    match = _CURSOR.fullmatch(cursor)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def seen_at_ms(cursor: str) -> int | None:
    """Return until when the holder of a cursor has seen all changes; None if it is none."""
    parts = parts_of(cursor)
    return None if parts is None else parts[2]


def write_cursor(place: Place, at_ms: int) -> str:
    """Return the cursor after a place, at the moment *at_ms*."""
    return f"{place[0]}-{place[1]}-{at_ms}"


class Trail:
    """What is kept of all terms, as the leader of one has it and adds to it."""

    def __init__(self, epoch: int, bounds: TrailBounds | None = None) -> None:
        self._epoch = epoch
        self._bounds = bounds or TrailBounds()
        self._batches: list[Batch] = []
        self._fresh: OrderedDict[Place, tuple[Published, ...]] = OrderedDict()
        self._count = 0
        self._end: Place = (epoch, 0)
        self._lost: Place = START
        """Up to where it was trimmed."""
        self._pending: list[Batch] = []
        self._is_recalled = False
        self._news = asyncio.Event()
        self._closed = False

    # Writing ------------------------------------------------------------------

    async def recall(self, store: Store) -> None:
        """
        Read what former terms left; until then nobody resumes from there.

        Raises:
            StoreError: the store cannot be reached.
        """
        found: list[Batch] = []
        async for page in store.load(PREFIX):
            for key, raw in page:
                if key == LOST_KEY:
                    epoch, number = msgspec.json.decode(raw)
                    self._lost = (epoch, number)
                elif (batch := read_batch(key, raw)).epoch < self._epoch:
                    found.append(batch)
            await asyncio.sleep(0)
        self._batches[:0] = found
        self._count += sum(batch.size for batch in found)
        self._is_recalled = True
        self._wake()

    def join(
        self, groups: Sequence[tuple[str, Atom]], published: Sequence[Published], now: Instant, needed: Place | None
    ) -> list[Atom]:
        """
        Return what is to be committed of a turn, what is told of it and what is trimmed included.

        Args:
            groups: What changes, by groups of the ledger.
            published: What is told of it.
            now: The present moment.
            needed: The place of the slowest of those to whom events are passed on; None: there are none.
        """
        if not published:
            return [atom for _, atom in groups]
        atoms, self._pending = join(groups, published, self._epoch, self._end[1] + 1)
        atoms += self._trim(now.wall_ms, needed)
        return atoms

    def publish(self) -> None:
        """Let everybody know what was stored."""
        if not self._pending:
            return
        self._batches += self._pending
        self._count += sum(batch.size for batch in self._pending)
        self._end = self._pending[-1].end
        self._pending = []
        self._wake()

    def _trim(self, now_ms: int, needed: Place | None) -> Iterator[Atom]:
        """Drop the oldest records where there are more than are kept, some at once."""
        if not self._is_recalled:
            return
        for _ in range(_TRIMS_MAX):
            number = self._droppable(now_ms, needed)
            if number < _TRIM_MIN:
                return
            dropped = self._batches[:number]
            del self._batches[:number]
            self._count -= sum(batch.size for batch in dropped)
            self._lost = dropped[-1].end
            changes: list[Change] = [Delete(batch.key) for batch in dropped]
            yield (*changes, Put(LOST_KEY, msgspec.json.encode(self._lost)))

    def _droppable(self, now_ms: int, needed: Place | None) -> int:
        count, bounds = self._count + sum(batch.size for batch in self._pending), self._bounds
        for number, batch in enumerate(self._batches[:_TRIM_MAX]):
            count -= batch.size
            is_needed = needed is not None and batch.end > needed and count < bounds.backlog_max
            is_over = count >= bounds.moves_max or batch.at_ms < now_ms - bounds.age_ms
            if is_needed or not is_over:
                return number
        return min(len(self._batches), _TRIM_MAX)

    # Reading ------------------------------------------------------------------

    @property
    def end(self) -> Place:
        """Where the latest is."""
        return self._end

    @property
    def lost(self) -> Place:
        """Up to where it is no longer kept."""
        return self._lost

    def resume(self, cursor: str) -> Place | None:
        """Return the place that a cursor names, or None if what follows it is not known, or not all of it."""
        parts = parts_of(cursor)
        if parts is None:
            return None
        place = parts[:2]
        return place if self.knows(place) else None

    def knows(self, place: Place) -> bool:
        """Say whether all that followed a place is kept."""
        if place[0] == self._epoch and place[1] <= self._end[1]:
            return place >= self._lost
        if place < self._lost or place > self._end:
            return False
        at = bisect_right(self._batches, place, key=lambda batch: batch.start) - 1
        is_kept = at >= 0 and self._batches[at].start <= place <= self._batches[at].end
        return is_kept or place[1] == 0 or place == self._lost

    def since(self, place: Place, limit: int) -> Part | None:
        """Return at most some more than *limit* of what followed a place, whole records; None if some is gone."""
        if place < self._lost:
            return None
        return self.look(place, limit)

    def look(self, place: Place, limit: int, needle: bytes = b"", since_ms: int = 0) -> Part:
        """
        Return about *limit* of what followed a place and is kept.

        Args:
            place: From where on.
            limit: Of how many at most it begins another record.
            needle: Records that do not hold it are passed over.
            since_ms: So are those that are older.
        """
        told: list[tuple[Place, Published]] = []
        looked = 0
        at = bisect_left(self._batches, place, key=lambda batch: batch.end)
        for i in range(at, len(self._batches)):
            batch = self._batches[i]
            if batch.at_ms >= since_ms and (not needle or needle in batch.raw):
                looked += 1
                for number, each in enumerate(self._told_by(batch), batch.first):
                    if (batch.epoch, number) > place:
                        told.append(((batch.epoch, number), each))
            if len(told) >= limit or looked >= LOOK_MAX:
                return Part(told, batch.end)
        return Part(told, max(place, self._end))

    def look_back(self, place: Place | None, limit: int, needle: bytes = b"", since_ms: int = 0) -> Part:
        """
        Return about *limit* of what came before a place and is kept, the latest first; its end is ``START`` if that is all.

        Args:
            place: Before which; None: of all.
            limit: As for ``look``, as the others.
            needle: Records that do not hold it are passed over.
            since_ms: So are those that are older.
        """
        told: list[tuple[Place, Published]] = []
        looked = 0
        at = len(self._batches) if place is None else bisect_left(self._batches, place, key=lambda batch: batch.start)
        for i in range(at - 1, -1, -1):
            batch = self._batches[i]
            if batch.at_ms < since_ms or (needle and needle not in batch.raw):
                continue
            looked += 1
            each_told = zip(range(batch.first, batch.first + batch.size), self._told_by(batch), strict=True)
            for number, each in reversed(list(each_told)):
                if place is None or (batch.epoch, number) < place:
                    told.append(((batch.epoch, number), each))
            if len(told) >= limit or looked >= LOOK_MAX:
                return Part(told, batch.start if i else START)
        return Part(told, START)

    def behind(self, place: Place) -> tuple[int, int]:
        """Return how much there is after a place, and when the oldest of it happened, about."""
        at = bisect_right(self._batches, place, key=lambda batch: batch.end)
        if at == len(self._batches):
            return 0, 0
        number = sum(batch.size for batch in self._batches[at:])
        first = self._batches[at]
        passed = place[1] - first.first + 1 if first.epoch == place[0] else 0
        return number - max(0, passed), first.at_ms

    def _told_by(self, batch: Batch) -> tuple[Published, ...]:
        told = self._fresh.get(batch.start)
        if told is None:
            told = self._fresh[batch.start] = told_by(batch)
            if len(self._fresh) > _FRESH:
                self._fresh.popitem(last=False)
        return told

    async def recalled(self) -> None:
        """
        Return once what former terms left is known.

        Raises:
            UnavailableError: the term ended.
        """
        while not self._is_recalled:
            await self._wait_for_news()

    async def wait(self, place: Place) -> None:
        """
        Return once there is something after *place*.

        Raises:
            UnavailableError: the term ended.
        """
        while self._end <= place:
            await self._wait_for_news()

    async def _wait_for_news(self) -> None:
        if self._closed:
            raise UnavailableError("this controller stopped leading; try again", reason=Reason.LEADERSHIP_LOST)
        await self._news.wait()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def close(self) -> None:
        """End the term for all who wait."""
        self._closed = True
        self._wake()
