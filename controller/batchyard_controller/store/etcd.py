"""
The etcd store: for production, where another controller takes over.

The leader is whoever made the key ``<prefix>leader``, which lives as long as
one lease. The epoch is that key's create revision, so it rises with every
leader, and every transaction compares it. The lease only decides when another
may lead: what keeps a leader that was overtaken from writing is the compare.
Clocks, pauses and etcd's own "lease renewed" are never trusted for that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import assert_never

from batchyard_controller.core.model.room import Room
from batchyard_controller.store.etcd_client import (
    READ_TIMEOUT_S,
    AnswerTooLargeError,
    EtcdClient,
    FullError,
    Login,
    Tls,
)
from batchyard_controller.store.etcd_janitor import Duty, EtcdJanitor
from batchyard_controller.store.etcd_ranges import Ranges
from batchyard_controller.store.etcd_reading import Reading
from batchyard_controller.store.etcd_renewal import EtcdLine, Held
from batchyard_controller.store.etcd_upkeep import LOOK_S
from batchyard_controller.store.etcd_wire.v3 import etcd_pb2 as wire
from batchyard_controller.store.lease import LeaseKeeper, now
from batchyard_controller.store.packing import LEADER_KEY, check, merge, pack
from batchyard_controller.store.protocol import (
    Atom,
    Change,
    Delete,
    DeposedError,
    News,
    Put,
    StoreError,
    StoreUnavailableError,
    UnknownOutcomeError,
)

PAGE_PAIRS = 500
WIDE_TIMEOUT_S = 10.0
"""For what is about all keys: etcd looks at each of them, at a million on a busy machine for seconds."""
LEASE_TTL_S_MIN = 2
"""etcd grants no shorter lease, with its default timing."""

_LEADER_POLL_S = 0.25
_FULL_POLL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Term:
    epoch: int
    keeper: LeaseKeeper
    tending: asyncio.Task[None]


class EtcdStore:
    """
    A ``Store`` in etcd, below *prefix*.

    Args:
        endpoints: ``host:port`` of each member; one is used at a time.
        prefix: What every key starts with, the leader's included.
        lease_ttl_s: How long a leader that died keeps others waiting. It is
            renewed every third of this, and a leader that could not renew for
            two thirds of it steps down.
        tls: None speaks without TLS.
        login: None speaks as nobody.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        prefix: str = "/batchyard/v1/",
        lease_ttl_s: int = 6,
        tls: Tls | None = None,
        login: Login | None = None,
    ) -> None:
        assert lease_ttl_s >= LEASE_TTL_S_MIN, f"a lease of {lease_ttl_s} s; at least {LEASE_TTL_S_MIN}"
        assert prefix, "an etcd store needs a prefix"
        self._prefix = prefix
        self._leader_key = (prefix + LEADER_KEY).encode()
        self._lease_ttl_s = lease_ttl_s
        self._endpoints, self._tls, self._login = tuple(endpoints), tls, login
        self._client = EtcdClient(endpoints, tls=tls, login=login)
        self._term: _Term | None = None
        self._lease: int | None = None

    async def campaign(self, candidate: str) -> int:
        """See ``Store``."""
        await self.resign()
        while True:
            while await self._read_leader() is not None:  # noqa: ASYNC110  (another machine sets no Event of ours)
                await asyncio.sleep(_LEADER_POLL_S)
            asked_at = now()
            try:
                self._lease = await self._client.grant(self._lease_ttl_s)
            except FullError:  # until the janitor of one that waits, perhaps ours, has made room
                await asyncio.sleep(_FULL_POLL_S)
                continue
            epoch = await self._claim(candidate, self._lease)
            if epoch is not None:
                held = Held(lease=self._lease, key=self._leader_key, epoch=epoch)
                keeper = LeaseKeeper(self._open_line(held), self._lease_ttl_s, asked_at)
                tending = asyncio.create_task(self._tend_connection())
                self._term = _Term(epoch=epoch, keeper=keeper, tending=tending)
                return epoch
            await self.resign()

    def leads(self, epoch: int) -> bool:
        """See ``Store``."""
        return self._term is not None and self._term.epoch == epoch and self._term.keeper.is_held()

    async def deposed(self) -> None:
        """See ``Store``."""
        if self._term is not None:
            await self._term.keeper.over.wait()

    async def resign(self) -> None:
        """See ``Store``."""
        self._end_term()
        lease, self._lease = self._lease, None
        if lease is not None:
            # If etcd cannot be told, the lease runs out by itself.
            with contextlib.suppress(StoreError):
                await self._client.revoke(lease)

    async def load(self, prefix: str = "") -> AsyncIterator[list[tuple[str, bytes]]]:
        """See ``Store``."""
        async for answer in self._read_all(prefix):
            page = [(kv.key.decode()[len(self._prefix) :], kv.value) for kv in answer.kvs if kv.key != self._leader_key]
            if page:
                yield page

    async def follow(self) -> AsyncIterator[News]:
        """See ``Store``."""
        while True:
            reading = Reading(self._prefix)
            yield News(is_anew=True)
            async for answer in self._read_all():
                for news in reading.take_page(answer):
                    yield news
            yield News(epoch=reading.epoch, leader=reading.leader)
            async with aclosing(self._watch(reading)) as watching:
                async for news in watching:
                    yield news

    async def _watch(self, reading: Reading) -> AsyncGenerator[News, None]:
        """Tell what came after *reading*, until it must be read anew."""
        start = self._prefix.encode()
        request = wire.WatchCreateRequest(
            key=start, range_end=after_prefix(start), start_revision=reading.revision + 1, progress_notify=True
        )
        async with aclosing(self._client.watch(request)) as answers:
            async for answer in answers:
                if answer.canceled and not answer.compact_revision:
                    raise StoreUnavailableError(f"etcd ended the watch: {answer.cancel_reason}")
                if answer.canceled or answer.header.revision < reading.revision:
                    return
                for news in reading.take_events(answer):
                    if news.epoch and await self._count(reading.revision) != reading.count:
                        return  # older servers may lose events over a compaction
                    yield news

    async def _count(self, revision: int) -> int:
        start = self._prefix.encode()
        request = wire.RangeRequest(key=start, range_end=after_prefix(start), revision=revision, count_only=True)
        return (await self._client.range(request, WIDE_TIMEOUT_S)).count

    async def _read_all(self, prefix: str = "") -> AsyncIterator[wire.RangeResponse]:
        """Read, page by page, what is below *prefix*."""
        start = (self._prefix + prefix).encode()
        ranges = Ranges(start, after_prefix(start))
        request = wire.RangeRequest(limit=PAGE_PAIRS)
        while True:
            request.key, request.range_end = ranges.start, ranges.end
            try:
                answer = await self._client.range(request, WIDE_TIMEOUT_S if ranges.is_wide else READ_TIMEOUT_S)
            except AnswerTooLargeError:
                if request.limit == 1:
                    raise
                request.limit //= 2
                continue
            if answer.kvs or not request.revision:
                yield answer
            if not ranges.pass_on(answer.kvs[-1].key if answer.kvs else b"", is_more=answer.more):
                return
            # All pages are of the moment of the first; if etcd forgets that moment, the load fails.
            request.revision = request.revision or answer.header.revision

    async def commit(self, atoms: Sequence[Atom], epoch: int) -> None:
        """See ``Store``."""
        check(atoms)
        if self._term is None or self._term.epoch != epoch or not self._term.keeper.is_held():
            raise DeposedError(f"epoch {epoch} is not led by this store")
        leads = wire.Compare(key=self._leader_key, target=wire.COMPARE_TARGET_CREATE_REVISION, create_revision=epoch)
        for group in pack(atoms):
            request = wire.TxnRequest(compare=[leads], success=[self._to_op(change) for change in merge(group)])
            try:
                still_leads = await self._client.txn(request)
            except UnknownOutcomeError:
                # It may yet arrive, behind whatever this epoch would write next.
                self._end_term()
                raise
            if not still_leads:
                self._end_term()
                raise DeposedError(f"epoch {epoch} does not lead")

    async def tend(self, tell: Callable[[Room], None]) -> None:
        """See ``Store``."""
        janitor = EtcdJanitor(self._endpoints, self._tls, self._login, self._client.avoid)
        try:
            while True:
                with contextlib.suppress(StoreError):  # who needs the store says so
                    tell(await janitor.tend(await self._duty()))
                await asyncio.sleep(LOOK_S)
        finally:
            await janitor.close()

    async def _duty(self) -> Duty:
        if self._term is not None and self._term.keeper.is_held():
            return Duty.LEADS
        return Duty.WAITS if await self._read_leader() is not None else Duty.NOBODY_LEADS

    async def close(self) -> None:
        """See ``Store``."""
        await self.resign()
        await self._client.close()

    def _to_op(self, change: Change) -> wire.RequestOp:
        match change:
            case Put(key, value):
                return wire.RequestOp(request_put=wire.PutRequest(key=self._to_wire(key), value=value))
            case Delete(key):
                return wire.RequestOp(request_delete_range=wire.DeleteRangeRequest(key=self._to_wire(key)))
            case _:
                assert_never(change)

    def _to_wire(self, key: str) -> bytes:
        return (self._prefix + key).encode()

    async def _read_leader(self) -> wire.KeyValue | None:
        answer = await self._client.range(wire.RangeRequest(key=self._leader_key))
        return answer.kvs[0] if answer.kvs else None

    async def _claim(self, candidate: str, lease: int) -> int | None:
        """Try to make the leader's key, and return the epoch if it is there and hangs on *lease*."""
        nobody_leads = wire.Compare(key=self._leader_key, target=wire.COMPARE_TARGET_CREATE_REVISION, create_revision=0)
        put = wire.PutRequest(key=self._leader_key, value=candidate.encode(), lease=lease)
        request = wire.TxnRequest(compare=[nobody_leads], success=[wire.RequestOp(request_put=put)])
        # Whatever the answer, if any, what can be read back is what counts.
        with contextlib.suppress(UnknownOutcomeError):
            await self._client.txn(request)
        leader = await self._read_leader()
        return leader.create_revision if leader is not None and leader.lease == lease else None

    async def _tend_connection(self) -> None:
        """Move on from a server that fails before a commit finds it so, and must fail with it."""
        while True:
            await asyncio.sleep(self._lease_ttl_s / 3)
            with contextlib.suppress(StoreError):
                await self._read_leader()

    def _open_line(self, held: Held) -> EtcdLine:
        return EtcdLine(held, self._endpoints, self._tls, self._login)

    def _end_term(self) -> None:
        """Let the epoch never write again, whatever becomes of the lease."""
        if self._term is not None:
            self._term.keeper.stop()
            self._term.tending.cancel()
            self._term = None


def after_prefix(prefix: bytes) -> bytes:
    """
    Return the first key behind all that start with *prefix*.

    No byte of UTF-8 is 0xff, so the last one can always be raised.
    """
    return prefix[:-1] + bytes([prefix[-1] + 1])
