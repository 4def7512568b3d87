"""
A model of etcd for the real client: keys with revisions, transactions, leases; and its faults.

It says no more than the store asks: ranges at a revision, transactions that compare create
revisions, leases with keys on them, watches from a revision on, and what a janitor needs. Its data are
durable, its leases begin anew when it was away (as after an election of etcd's own). Law: a transaction
takes effect as a whole at one revision.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
from grpc.aio import AioRpcError, Metadata

from batchyard_controller.store.etcd_wire.v3 import etcd_pb2 as wire

from .calls import Server
from .loop import Handle, Program
from .network import Network
from .space import DEFRAGMENT_S, MEMBER, Space

ADDRESS = "etcd"
VERSION = "3.5.30"
COMPACTED = "etcdserver: mvcc: required revision has been compacted"
FULL = "etcdserver: mvcc: database space exceeded"
LEASE_ROUND_S = 0.5
"""How often etcd looks which leases have run out."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One key's value, when it was made and the lease that it hangs on."""

    value: bytes
    create_revision: int
    lease: int
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Event:
    """What became of one key at one revision; None: it was deleted."""

    revision: int
    key: bytes
    pair: Pair | None


@dataclass(slots=True)
class Lease:
    ttl_s: float
    ends_at: float = 0.0
    keys: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Commit:
    """What one transaction changed: values by key, None for what was deleted."""

    revision: int
    compared: int | None
    changes: dict[str, bytes | None]
    leader_revision: int
    """The leader's key's create revision at that moment; 0: there is none."""


class Etcd:
    """The data, and the program that serves them."""

    def __init__(self, network: Network, dice: Random, prefix: str, on_commit: Callable[[Commit], None]) -> None:
        self.pairs: dict[bytes, Pair] = {}
        self.revision = 1
        self.slow_s = 0.0
        self.faults: list[str] = []
        """What befalls the next transactions that write records: ``unsaid``, ``undone``, ``late``, ``full``."""
        self._network, self._dice, self._loop = network, dice, network.loop
        self._prefix = prefix.encode()
        self._on_commit = on_commit
        self._leases: dict[int, Lease] = {}
        self._lease_ids = 0
        self.space = Space()
        self._compacted = 0
        """Of what was before that revision nothing is known but what is still so then."""
        self._pinned: dict[int, dict[bytes, Pair]] = {}
        self._events: list[Event] = []
        self._counts: dict[int, int] = {}
        """How many keys there were at each revision."""
        self._moved = asyncio.Event()
        self._lease_check: Handle | None = None
        self.compacts_behind = False
        """Who asks next what comes is heard late, and what came until then is forgotten."""
        self._still_until = 0.0
        """Until then it writes its file anew, and answers nothing."""
        self.program: Program | None = None

    def serve_by(self, program: Program) -> None:
        """Let *program* be the server from now on."""
        self.program = program
        self._moved = asyncio.Event()  # who waited for the last one died with its server
        server = Server((), lambda error: self._loop.call_exception_handler({"exception": error}))
        for path, answer, kind in (
            ("KV/Range", self._range, wire.RangeRequest),
            ("KV/Txn", self._txn, wire.TxnRequest),
            ("Lease/LeaseGrant", self._grant, wire.LeaseGrantRequest),
            ("Lease/LeaseRevoke", self._revoke, wire.LeaseRevokeRequest),
            ("KV/Compact", self._compact, wire.CompactionRequest),
            ("Maintenance/Status", self._status, wire.StatusRequest),
            ("Maintenance/Alarm", self._alarm, wire.AlarmRequest),
            ("Maintenance/Defragment", self._defragment, wire.DefragmentRequest),
        ):
            handler = grpc.unary_unary_rpc_method_handler(answer, kind.FromString, _bytes)
            server.add(f"/etcdserverpb.{path}", handler)
        keep = grpc.stream_stream_rpc_method_handler(self._keep_alive, wire.LeaseKeepAliveRequest.FromString, _bytes)
        server.add("/etcdserverpb.Lease/LeaseKeepAlive", keep)
        watch = grpc.stream_stream_rpc_method_handler(self._watch, wire.WatchRequest.FromString, _bytes)
        server.add("/etcdserverpb.Watch/Watch", watch)
        self._network.site(ADDRESS, program).server = server
        self._lease_check = None
        for lease in self._leases.values():
            lease.ends_at = self._loop.time() + lease.ttl_s
        self._check_leases()

    # Faults -------------------------------------------------------------------

    def lose_lease(self) -> None:
        """Revoke the leader's lease, as an etcd leader with a slow disk once did (etcd issue 15247)."""
        for lease_id in list(self._leases):
            self._end_lease(lease_id)

    def compact(self, revision: int = 0) -> None:
        """Forget what was before a revision, by default the newest."""
        self._compacted = max(self._compacted, revision or self.revision)
        del self._events[: self._first_after(self._compacted - 1)]
        for forgotten in [each for each in self._pinned if each < self._compacted]:
            del self._pinned[forgotten]
        kept = [event for event in self._events if self.pairs.get(event.key) is not event.pair]
        self.space.compact(sum(map(_size, self.pairs.items())) + sum(_size((each.key, each.pair)) for each in kept))
        self._move()  # who is behind hears of it

    def backup(self) -> tuple[dict[bytes, Pair], int]:
        return dict(self.pairs), self.revision

    def restore(self, backup: tuple[dict[bytes, Pair], int]) -> None:
        """Go back to what a backup holds, revisions too; leases are not in it."""
        pairs, self.revision = backup
        self.pairs = {key: pair for key, pair in pairs.items() if not pair.lease}
        self._leases.clear()
        self._events = [event for event in self._events if event.revision <= self.revision]
        self._counts[self.revision] = len(self.pairs)
        self._compacted = min(self._compacted, self.revision)

    # Calls --------------------------------------------------------------------

    async def _status(self, request: wire.StatusRequest, _: object) -> wire.StatusResponse:
        answer = wire.StatusResponse(version=VERSION, leader=MEMBER)
        answer.db_size, answer.db_size_in_use = self.space.file_bytes, self.space.used_bytes
        answer.header.revision, answer.header.member_id = self.revision, MEMBER
        return answer

    async def _compact(self, request: wire.CompactionRequest, _: object) -> wire.CompactionResponse:
        await self._work()
        if request.revision <= self._compacted:
            raise _error(grpc.StatusCode.OUT_OF_RANGE, COMPACTED)
        self.compact(request.revision)
        return wire.CompactionResponse()

    async def _defragment(self, request: wire.DefragmentRequest, _: object) -> wire.DefragmentResponse:
        self._still_until = self._loop.time() + DEFRAGMENT_S
        await self._work()
        self.space.defragment()
        return wire.DefragmentResponse()

    async def _alarm(self, request: wire.AlarmRequest, _: object) -> wire.AlarmResponse:
        await self._work()
        if request.action == wire.ALARM_ACTION_DEACTIVATE:
            self.space.is_full = False
        answer = wire.AlarmResponse()
        if self.space.is_full:
            answer.alarms.add(member_id=MEMBER, alarm=wire.ALARM_TYPE_NOSPACE)
        return answer

    async def _range(self, request: wire.RangeRequest, _: object) -> wire.RangeResponse:
        await self._work()
        if 0 < request.revision < self._compacted:
            raise _error(grpc.StatusCode.OUT_OF_RANGE, COMPACTED)
        if request.count_only:
            return self._count(request)
        pairs = self._pinned.get(request.revision, self.pairs)
        if request.range_end:
            keys = sorted(key for key in pairs if request.key <= key < request.range_end)
        else:
            keys = [request.key] if request.key in pairs else []
        limit = request.limit or len(keys)
        if len(keys) > limit and not request.revision:
            self._pinned[self.revision] = dict(self.pairs)
        answer = wire.RangeResponse(more=len(keys) > limit, count=len(keys))
        answer.header.revision = request.revision or self.revision
        for key in keys[:limit]:
            answer.kvs.append(_key_value(key, pairs[key]))
        return answer

    def _count(self, request: wire.RangeRequest) -> wire.RangeResponse:
        answer = wire.RangeResponse(count=self._counts[request.revision])
        answer.header.revision = self.revision
        return answer

    async def _watch(self, requests: Any, _: object) -> Any:
        """Tell all events from a revision on: of what happens meanwhile, those of several in one message."""
        told = (await anext(requests)).create_request.start_revision - 1
        if self.compacts_behind:
            self.compacts_behind = False
            while self.revision < told + 3:
                await self._moved.wait()
            self.compact()
        yield self._news([])
        while True:
            moved = self._moved
            if self.revision <= told:
                await moved.wait()
            await self._work()
            if told < self._compacted - 1:
                gone = wire.WatchResponse(canceled=True, compact_revision=self._compacted)
                gone.header.revision = self.revision
                yield gone
                return
            first = self._first_after(told)
            told = max(told, self.revision)
            if events := self._events[first:]:
                yield self._news(events)

    def _first_after(self, revision: int) -> int:
        return bisect_right(self._events, revision, key=lambda event: event.revision)

    def _news(self, events: list[Event]) -> wire.WatchResponse:
        answer = wire.WatchResponse()
        answer.header.revision = self.revision
        for event in events:
            if event.pair is not None:
                answer.events.add(kv=_key_value(event.key, event.pair))
            else:
                kv = wire.KeyValue(key=event.key, mod_revision=event.revision)
                answer.events.add(type=wire.EVENT_TYPE_DELETE, kv=kv)
        return answer

    async def _txn(self, request: wire.TxnRequest, _: object) -> wire.TxnResponse:
        fault = self.faults.pop(0) if self.faults and self._writes_records(request) else ""
        takes_room = any(op.HasField("request_put") for op in request.success)
        if fault == "full" or (takes_room and not self.space.admits()):
            raise _error(grpc.StatusCode.RESOURCE_EXHAUSTED, FULL)
        if fault == "undone":
            await asyncio.sleep(3600)
        if fault == "late":
            # The client gives up meanwhile, and so cancels this: it is carried out all the same.
            assert self.program is not None
            self._loop.call_later(self._dice.uniform(3, 12), self._apply, request, context=self.program._context)
            await asyncio.sleep(3600)
        await self._work()
        succeeded = self._apply(request)
        if fault == "unsaid":
            await asyncio.sleep(3600)
        return wire.TxnResponse(succeeded=succeeded)

    def _writes_records(self, request: wire.TxnRequest) -> bool:
        return any(each.request_put.key != self._prefix + b"leader" for each in request.success)

    def _apply(self, request: wire.TxnRequest) -> bool:
        compared = None
        for compare in request.compare:
            assert compare.target == wire.COMPARE_TARGET_CREATE_REVISION
            pair = self.pairs.get(compare.key)
            if (pair.create_revision if pair is not None else 0) != compare.create_revision:
                return False
            compared = compare.create_revision
        if any(op.request_put.lease and op.request_put.lease not in self._leases for op in request.success):
            raise _error(grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found")
        leader = self.pairs.get(self._prefix + b"leader")
        changes: dict[str, bytes | None] = {}
        if request.success:
            self.revision += 1
        for op in request.success:
            if op.HasField("request_put"):
                put = op.request_put
                self._put(put.key, put.value, put.lease)
                changes[self._name(put.key)] = put.value
            else:
                self._delete(op.request_delete_range.key)
                changes[self._name(op.request_delete_range.key)] = None
        self._move()
        revision = leader.create_revision if leader is not None else 0
        self._on_commit(Commit(self.revision, compared, changes, revision))
        return True

    def _name(self, key: bytes) -> str:
        return key.removeprefix(self._prefix).decode()

    def _put(self, key: bytes, value: bytes, lease: int) -> None:
        former = self.pairs.get(key)
        created = former.create_revision if former is not None else self.revision
        self.pairs[key] = Pair(value, created, lease, self.revision)
        self._events.append(Event(self.revision, key, self.pairs[key]))
        self.space.take(_size((key, self.pairs[key])))
        if lease:
            self._leases[lease].keys.add(key)

    def _delete(self, key: bytes) -> None:
        if self.pairs.pop(key, None) is not None:
            self._events.append(Event(self.revision, key, None))
            self.space.take(len(key))

    def _move(self) -> None:
        """End a revision: let those know who watch."""
        self._counts[self.revision] = len(self.pairs)
        self._moved.set()
        self._moved = asyncio.Event()

    async def _grant(self, request: wire.LeaseGrantRequest, _: object) -> wire.LeaseGrantResponse:
        await self._work()
        if not self.space.admits():
            raise _error(grpc.StatusCode.RESOURCE_EXHAUSTED, FULL)
        self._lease_ids += 1
        lease = self._leases[self._lease_ids] = Lease(request.ttl)
        self._extend(lease)
        return wire.LeaseGrantResponse(id=self._lease_ids, ttl=request.ttl)

    async def _revoke(self, request: wire.LeaseRevokeRequest, _: object) -> wire.LeaseRevokeResponse:
        await self._work()
        if request.id not in self._leases:
            raise _error(grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found")
        self._end_lease(request.id)
        return wire.LeaseRevokeResponse()

    async def _keep_alive(self, requests: Any, _: object) -> Any:
        async for request in requests:
            await self._work()
            lease = self._leases.get(request.id)
            if lease is not None:
                self._extend(lease)
            yield wire.LeaseKeepAliveResponse(id=request.id, ttl=int(lease.ttl_s) if lease is not None else 0)

    async def _work(self) -> None:
        still_s = max(0.0, self._still_until - self._loop.time())
        await asyncio.sleep(still_s + self._dice.uniform(0.0005, 0.004) + self._dice.random() * self.slow_s)

    def _extend(self, lease: Lease) -> None:
        """Let a lease begin anew; what has run out is found by one look at the time, which is put off as often."""
        lease.ends_at = self._loop.time() + lease.ttl_s
        if self._lease_check is None:
            self._check_leases()

    def _check_leases(self) -> None:
        assert self.program is not None
        for lease_id in [lease_id for lease_id, lease in self._leases.items() if lease.ends_at < self._loop.time()]:
            self._end_lease(lease_id)
        first = min((lease.ends_at for lease in self._leases.values()), default=None)
        self._lease_check = None
        if first is not None:
            at = (int(first / LEASE_ROUND_S) + 1) * LEASE_ROUND_S
            self._lease_check = self._loop.call_at(at, self._check_leases, context=self.program._context)

    def _end_lease(self, lease_id: int) -> None:
        lease = self._leases.pop(lease_id)
        gone = [key for key in sorted(lease.keys) if key in self.pairs and self.pairs[key].lease == lease_id]
        if gone:
            self.revision += 1
        for key in gone:
            self._delete(key)
        self._move()


def _key_value(key: bytes, pair: Pair) -> wire.KeyValue:
    return wire.KeyValue(
        key=key,
        value=pair.value,
        create_revision=pair.create_revision,
        mod_revision=pair.mod_revision,
        lease=pair.lease,
    )


def _size(item: tuple[bytes, Pair | None]) -> int:
    key, pair = item
    return len(key) + (len(pair.value) if pair is not None else 0)


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _error(code: grpc.StatusCode, text: str) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(), text)
