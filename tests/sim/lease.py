"""
The leader's lease in such a world: what is a thread there is a program of its own here, on the one clock.

It stops, goes on and dies with its controller, as threads do with their process, and runs on while
that one computes. When to renew, for how long to wait and when to give up is the real keeper's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from grpc.aio import AioRpcError

from batchyard_controller.store.etcd_client import check_version
from batchyard_controller.store.etcd_renewal import Held
from batchyard_controller.store.etcd_wire.v3 import etcd_pb2 as wire
from batchyard_controller.store.lease import LeaseKeeper
from batchyard_controller.store.protocol import StoreError, StoreUnavailableError

from .loop import _PROGRAM, Program
from .network import Network


class Keeper(LeaseKeeper):
    """See there."""

    is_apart = True
    """False: it is a part of the event loop, as it was before there was a thread (B8)."""

    def __init__(self, network: Network, *of_lease: Any) -> None:
        self._network = network
        owner = _PROGRAM.get()
        assert owner is not None
        self._owner = owner
        super().__init__(*of_lease)

    def _start(self) -> None:
        owner, network = self._owner, self._network
        self._thread = owner
        if self.is_apart:
            self._thread = Program(network.loop, f"lease of {owner.name}", owner._on_error)
            network.site(network._sites[id(owner)].machine, self._thread)
            owner.on_death.append(self._thread.kill)
            owner.on_stop.append(self._thread.stop)
            owner.on_go_on.append(self._thread.go_on)
        self._thread.start(self._renew())

    async def _renew(self) -> None:
        """Do what ``_run`` does."""
        next_at = self._lease.renews_at
        while True:
            await asyncio.sleep(max(0.0, next_at - self._network.loop.time()))
            if self._stopped.is_set() or (timeout_s := self._begin_renewal()) is None:
                break
            try:
                if not await self._line.renew(timeout_s):  # type: ignore[misc]  # this world's line
                    break
            except StoreError:
                next_at = self._end_renewal(is_answered=False)
            else:
                next_at = self._end_renewal(is_answered=True)
        self._line.close()
        self._call(self.stop)
        if self.is_apart:
            self._thread.kill()

    def _call(self, what: Callable[[], None]) -> None:  # type: ignore[override]
        self._owner.call(what)


class Line:
    """As ``EtcdLine``, of which every call waits for its answer without a thread."""

    def __init__(self, held: Held, endpoints: tuple[str, ...], *_: object) -> None:
        self._held, self._endpoint = held, endpoints[0]
        self._channel: Any = None

    async def renew(self, timeout_s: float) -> bool:
        """See ``EtcdLine``."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + timeout_s
        while True:
            is_fresh = self._channel is None
            try:
                return await self._try_to_renew(give_up_at - loop.time())
            except AioRpcError as error:
                self.close()
                # Once more: the first failure may be a connection that died while idle.
                if is_fresh or loop.time() >= give_up_at:
                    raise StoreUnavailableError(str(error.details())) from error

    def close(self) -> None:
        """Let go of the channel, on which no call is under way."""
        self._channel = None

    async def _try_to_renew(self, timeout_s: float) -> bool:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._endpoint)
            status = await self._ask("Maintenance/Status", wire.StatusRequest(), wire.StatusResponse, timeout_s)
            check_version(status.version, self._endpoint)
        keep_alive = self._channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=wire.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=wire.LeaseKeepAliveResponse.FromString,
        )
        requests = [wire.LeaseKeepAliveRequest(id=self._held.lease)]
        answers = [answer async for answer in keep_alive(requests, timeout=timeout_s)]
        if not answers or answers[0].ttl <= 0:
            return False
        request = wire.RangeRequest(key=self._held.key)
        answer = await self._ask("KV/Range", request, wire.RangeResponse, timeout_s)
        return bool(answer.kvs) and answer.kvs[0].create_revision == self._held.epoch

    async def _ask(self, method: str, request: Any, answers: Any, timeout_s: float) -> Any:
        call = self._channel.unary_unary(
            f"/etcdserverpb.{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answers.FromString,
        )
        return await call(request, timeout=timeout_s)
