"""
Standby: what a candidate that waits for its turn knows of the store, read and decoded already.

Where a store can be followed (etcd), a leader's death costs its standby no load: it has
decoded each record as it was written, and builds the world from these. Law: it is
believed only if it has caught up with the epoch it is to lead; whatever goes wrong with
following costs a load, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

import structlog

from .core.reactor.recovery import Records
from .metrics import Metrics
from .store.codec import CorruptRecordError, Decoder, load_records
from .store.protocol import Delete, News, Put, Store, StoreError

CATCH_UP_S = 5.0
"""How long a new leader waits for further news of what it followed to reach its own epoch, before it loads."""

PAUSE_S = 0.5
"""Between a failure and following anew."""

SLICE = 500
"""Changes that are decoded in one go; a few milliseconds."""

log = structlog.get_logger()


class Standby:
    """
    Follows *store* while it is open as an asynchronous context manager.

    Attributes:
        leader: What the leader calls itself; empty where that is not known.
    """

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self.leader = ""
        self._metrics = metrics
        self._store = store
        self._decoder: Decoder | None = None
        """None where what was decoded is not to be believed."""
        self._epoch = 0
        self._moved = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._following is not None
        self._following.cancel()
        await asyncio.wait({self._following})

    async def records(self, epoch: int) -> Records:
        """
        Return all that was committed before *epoch*, which leads now; they are the caller's.

        Raises:
            StoreError: the store had to be loaded, and cannot be reached.
            CorruptRecordError: a record cannot be read.
        """
        with contextlib.suppress(TimeoutError):
            while self._is_following and self._epoch < epoch:
                async with asyncio.timeout(CATCH_UP_S):
                    await self._moved.wait()
        self._metrics.note_followed(0)
        decoder, self._decoder = self._decoder, None
        if decoder is not None and self._epoch == epoch:
            return decoder.finish()
        log.info("loads the store", epoch=epoch, followed_to=self._epoch)
        return await load_records(self._store)

    @property
    def _is_following(self) -> bool:
        return self._following is not None and not self._following.done()

    async def _follow(self) -> None:
        """Keep up with the store; return where it cannot be followed."""
        while (following := self._store.follow()) is not None:
            try:
                async for news in following:
                    await self._take(news)
            except StoreError as err:
                log.debug("does not follow the store", reason=str(err))
            except CorruptRecordError as err:
                # Perhaps of a later version, which leads; who has to lead here says so when it loads.
                log.warning("does not follow the store", reason=str(err))
                self._decoder = None
                break
            self._decoder = None
            await asyncio.sleep(PAUSE_S)
        self._wake()

    async def _take(self, news: News) -> None:
        if news.is_anew:
            self._decoder, self._epoch = Decoder(), 0
        decoder = self._decoder
        if decoder is None:
            return
        for start in range(0, len(news.changes), SLICE):
            for change in news.changes[start : start + SLICE]:
                match change:
                    case Put(key, value):
                        decoder.take(((key, value),))
                    case Delete(key):
                        decoder.drop((key,))
            await asyncio.sleep(0)
        if news.epoch:
            self._epoch, self.leader = news.epoch, news.leader
        if self._epoch:  # all was read that there was when it began
            self._metrics.note_followed(len(decoder))
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
