"""
Renewing etcd's lease of the leader over a connection of its own, from a thread that may wait.

The event loop's connection is not the thread's to use, and a loop that is busy would
read no answer from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from batchyard_controller.store.etcd_client import (
    OPTIONS,
    Login,
    Tls,
    check_version,
    describe,
)
from batchyard_controller.store.etcd_wire.v3 import etcd_pb2 as wire
from batchyard_controller.store.lease import now
from batchyard_controller.store.protocol import StoreUnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The lease, and what hangs on it: the leader's key, made at revision *epoch*."""

    lease: int
    key: bytes
    epoch: int


class EtcdLine:
    """A ``lease.Line`` to one of *endpoints* at a time, and to the next when that one fails."""

    def __init__(self, held: Held, endpoints: Sequence[str], tls: Tls | None, login: Login | None) -> None:
        self._held = held
        self._endpoints = tuple(endpoints)
        self._tls = tls
        self._login = login
        self._turn = 0
        self._channel: grpc.Channel | None = None
        self._metadata: tuple[tuple[str, str], ...] = ()

    def renew(self, timeout_s: float) -> bool:
        """See ``lease.Line``."""
        give_up_at = now() + timeout_s
        # Once more than there are servers: the first failure may be a connection that died while idle.
        for tries_left in reversed(range(len(self._endpoints) + 1)):
            try:
                # Of what is left half, where another server can be tried in the rest.
                left_s = give_up_at - now()
                return self._try_to_renew(left_s if len(self._endpoints) == 1 else left_s / 2)
            except StoreUnavailableError:
                if not tries_left or now() >= give_up_at:
                    raise
        raise AssertionError("the last try returns or raises")

    def _try_to_renew(self, timeout_s: float) -> bool:
        endpoint = self._endpoints[self._turn % len(self._endpoints)]
        try:
            if self._channel is None:
                self._channel = self._connect(endpoint, timeout_s)
            # Before 3.4.38 etcd can say "renewed" of a lease that was revoked, so look at the key too.
            return self._renew(self._channel, timeout_s) and self._has_key(self._channel, timeout_s)
        except grpc.RpcError as err:
            self.close()
            self._turn += 1
            raise StoreUnavailableError(describe(endpoint, err)) from err

    def close(self) -> None:
        """See ``lease.Line``."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _connect(self, endpoint: str, timeout_s: float) -> grpc.Channel:
        if self._tls is None:
            channel = grpc.insecure_channel(endpoint, options=OPTIONS)
        else:
            try:
                channel = grpc.secure_channel(endpoint, self._tls.read(), options=OPTIONS)
            except OSError as err:
                raise StoreUnavailableError(f"cannot read a TLS file for etcd: {err}") from err
        try:
            self._metadata = self._log_in(channel, timeout_s)
            status = channel.unary_unary(
                "/etcdserverpb.Maintenance/Status",
                request_serializer=wire.StatusRequest.SerializeToString,
                response_deserializer=wire.StatusResponse.FromString,
            )
            answer = status(wire.StatusRequest(), timeout=timeout_s, metadata=self._metadata)
            check_version(answer.version, endpoint)
        except BaseException:
            channel.close()
            raise
        return channel

    def _log_in(self, channel: grpc.Channel, timeout_s: float) -> tuple[tuple[str, str], ...]:
        if self._login is None:
            return ()
        authenticate = channel.unary_unary(
            "/etcdserverpb.Auth/Authenticate",
            request_serializer=wire.AuthenticateRequest.SerializeToString,
            response_deserializer=wire.AuthenticateResponse.FromString,
        )
        request = wire.AuthenticateRequest(name=self._login.user, password=self._login.password)
        return (("token", authenticate(request, timeout=timeout_s).token),)

    def _renew(self, channel: grpc.Channel, timeout_s: float) -> bool:
        keep_alive = channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=wire.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=wire.LeaseKeepAliveResponse.FromString,
        )
        requests = iter([wire.LeaseKeepAliveRequest(id=self._held.lease)])
        # Without hasleader, a server cut off from its cluster leaves us waiting.
        metadata = (*self._metadata, ("hasleader", "true"))
        answers = list(keep_alive(requests, timeout=timeout_s, metadata=metadata))
        return bool(answers) and answers[0].ttl > 0

    def _has_key(self, channel: grpc.Channel, timeout_s: float) -> bool:
        read = channel.unary_unary(
            "/etcdserverpb.KV/Range",
            request_serializer=wire.RangeRequest.SerializeToString,
            response_deserializer=wire.RangeResponse.FromString,
        )
        answer = read(wire.RangeRequest(key=self._held.key), timeout=timeout_s, metadata=self._metadata)
        return bool(answer.kvs) and answer.kvs[0].create_revision == self._held.epoch
