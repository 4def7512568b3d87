"""
A thin client of the etcd v3 API: the calls that the etcd store makes.

It knows connections, deadlines and versions, and nothing of leaders, epochs or
records. Laws: a transaction is sent once and never again, whatever happens;
only calls that do no harm twice go on to the next server; no call goes to a
server whose version has not been checked. Errors leave here as those of
``protocol.py``, never as gRPC's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import grpc
from google.protobuf.message import Message

from batchyard_controller.store.etcd_wire.v3 import etcd_pb2 as wire
from batchyard_controller.store.protocol import (
    StoreError,
    StoreUnavailableError,
    UnknownOutcomeError,
    UnsupportedServerError,
)

READ_TIMEOUT_S = 2.0
TXN_TIMEOUT_S = 5.0

RECEIVE_BYTES_MAX = 64 << 20

_TOKEN_S = 60.0
"""Age at which a login's token is renewed; etcd lets them live for 300 s if not told otherwise."""

_RETIRE_S = TXN_TIMEOUT_S
"""A connection given up is closed only when transactions on it had their time."""

OPTIONS = (
    ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.enable_http_proxy", 0),
    # Stores in one process must not share, and so break, each other's connections.
    ("grpc.use_local_subchannel_pool", 1),
    # The default waits up to two minutes after a server has come back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A watch waits for ever on a connection that died without a word.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)
_ANOTHER_SERVER_MAY_ANSWER = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNAUTHENTICATED,  # the token ran out; a new connection asks for a new one
    }
)
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_LAST_UNSAFE_34 = (3, 4, 20)
_UNSAFE_35 = ((3, 5, 0), (3, 5, 4))

T = TypeVar("T")
M = TypeVar("M", bound=Message)
M_co = TypeVar("M_co", bound=Message, covariant=True)


class AnswerTooLargeError(StoreUnavailableError):
    """The answer is larger than ``RECEIVE_BYTES_MAX``; ask for less at a time."""


class FullError(StoreUnavailableError):
    """A member's file has reached its quota, so that the cluster takes no writes (etcd's alarm NOSPACE)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """
    PEM files for a connection with TLS.

    Attributes:
        ca: Certificates to trust; None trusts those of the system.
        cert: Our own certificate, where the server asks for one; goes with *key*.
        key: Private key of *cert*.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def read(self) -> grpc.ChannelCredentials:
        """Read the files. Raises OSError where that fails."""
        ca, key, cert = (path.read_bytes() if path is not None else None for path in (self.ca, self.key, self.cert))
        return grpc.ssl_channel_credentials(ca, key, cert)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """An etcd user."""

    user: str
    password: str = field(repr=False)


class _Answers(Protocol[M_co]):
    """A class of messages that can be parsed."""

    def FromString(self, data: bytes, /) -> M_co: ...  # noqa: N802  (protobuf's name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Connection:
    endpoint: str
    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...] = ()
    logged_in_at: float = 0.0

    async def call(self, method: str, request: Message, answers: _Answers[M], timeout_s: float) -> M:
        call = self.channel.unary_unary(
            f"/etcdserverpb.{method}",
            request_serializer=_serialise,
            response_deserializer=answers.FromString,
        )
        answer: M = await call(request, timeout=timeout_s, metadata=self.metadata)
        return answer


class EtcdClient:
    """
    Speaks to one of *endpoints* at a time, and to the next when that one fails.

    Args:
        endpoints: ``host:port`` of each member of the cluster.
        tls: None speaks without TLS.
        login: None speaks as nobody.
    """

    def __init__(self, endpoints: Sequence[str], *, tls: Tls | None = None, login: Login | None = None) -> None:
        assert endpoints, "an etcd client needs an endpoint"
        self._endpoints = tuple(endpoints)
        self._tls = tls
        self._login = login
        self._turn = 0
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    async def range(self, request: wire.RangeRequest, timeout_s: float = READ_TIMEOUT_S) -> wire.RangeResponse:
        """
        Read pairs.

        Args:
            request: Which.
            timeout_s: For each server that is tried.

        Raises:
            AnswerTooLargeError: see there.
            StoreUnavailableError: no server answered.
            UnsupportedServerError: see there.
        """
        return await self.ask("KV/Range", request, wire.RangeResponse, timeout_s)

    async def ask(self, method: str, request: Message, answers: _Answers[M], timeout_s: float = READ_TIMEOUT_S) -> M:
        """
        Make a call of the API that does no harm twice.

        Args:
            method: Its service and name, without the package.
            request: Of the type that it takes.
            answers: The type of its answer.
            timeout_s: For each server that is tried.

        Raises:
            StoreUnavailableError: no server answered, or it was refused.
            UnsupportedServerError: see there.
        """
        return await self._repeat(lambda there: there.call(method, request, answers, timeout_s))

    async def txn(self, request: wire.TxnRequest) -> bool:
        """
        Send a transaction, once, and return whether its compares held.

        Raises:
            UnknownOutcomeError: no good answer came; it may have been carried out, or still be.
        """
        try:
            there = await self._connect()
        except StoreError as err:
            raise UnknownOutcomeError(str(err)) from err
        try:
            answer = await there.call("KV/Txn", request, wire.TxnResponse, TXN_TIMEOUT_S)
        except grpc.aio.AioRpcError as err:
            raise UnknownOutcomeError(describe(there.endpoint, err)) from err
        return answer.succeeded

    async def watch(self, request: wire.WatchCreateRequest) -> AsyncGenerator[wire.WatchResponse, None]:
        """
        Tell what becomes of keys, until the server ends it. Raises as ``range`` does.

        Never sent twice: who watches knows where to go on.
        """
        there = await self._connect()
        watch = there.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=_serialise,
            response_deserializer=wire.WatchResponse.FromString,
        )
        # Without hasleader, a server cut off from its cluster leaves us waiting.
        call = watch(metadata=(*there.metadata, ("hasleader", "true")))
        try:
            await call.write(wire.WatchRequest(create_request=request))
            while (answer := await call.read()) is not grpc.aio.EOF:
                yield cast("wire.WatchResponse", answer)
            raise StoreUnavailableError(f"etcd at {there.endpoint} ended the watch")
        except grpc.aio.AioRpcError as err:
            self._leave(there)
            raise _unavailable(there.endpoint, err) from err
        except asyncio.InvalidStateError as err:  # grpc.aio's word for a call that is over
            self._leave(there)
            raise StoreUnavailableError(f"etcd at {there.endpoint} ended the watch") from err
        except asyncio.CancelledError as err:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]  # a coroutine runs in a task
                raise
            # The connection was given up by another call, not we by our task.
            raise StoreUnavailableError(f"the connection to etcd at {there.endpoint} was given up") from err
        finally:
            call.cancel()

    async def grant(self, ttl_s: int) -> int:
        """
        Ask for a lease and return its id. Raises as ``range`` does.

        A lease whose id got lost on the way runs out by itself.

        Raises:
            FullError: see there.
        """
        answer = await self.ask("Lease/LeaseGrant", wire.LeaseGrantRequest(ttl=ttl_s), wire.LeaseGrantResponse)
        return answer.id

    async def revoke(self, lease: int) -> None:
        """End *lease*, and with it the keys that hang on it; no error if it is gone. Raises as ``range`` does."""

        async def send(there: _Connection) -> None:
            request = wire.LeaseRevokeRequest(id=lease)
            try:
                await there.call("Lease/LeaseRevoke", request, wire.LeaseRevokeResponse, READ_TIMEOUT_S)
            except grpc.aio.AioRpcError as err:
                if err.code() is not grpc.StatusCode.NOT_FOUND:
                    raise

        await self._repeat(send)

    def avoid(self, endpoint: str) -> None:
        """Let the next call go to another server than *endpoint*, where there are several."""
        if self._connection is not None and self._connection.endpoint == endpoint and len(self._endpoints) > 1:
            self._leave(self._connection)

    async def close(self) -> None:
        """Close all connections. Idempotent; a later call connects again."""
        if self._connection is not None:
            self._retire(self._connection, grace_s=0.0)
        if self._retiring:
            await asyncio.wait(self._retiring)

    async def _repeat(self, send: Callable[[_Connection], Awaitable[T]]) -> T:
        """Make a call that does no harm twice, at one server after the other."""
        # Once more than there are servers: the first failure may be a connection that died while idle.
        for tries_left in reversed(range(len(self._endpoints) + 1)):
            try:
                there = await self._connect()
            except StoreUnavailableError:
                if tries_left:
                    continue
                raise
            try:
                return await send(there)
            except grpc.aio.AioRpcError as err:
                may_help = err.code() in _ANOTHER_SERVER_MAY_ANSWER
                if may_help:
                    self._leave(there)
                if not (may_help and tries_left):
                    raise _unavailable(there.endpoint, err) from err
        raise AssertionError("the last try returns or raises")

    async def _connect(self) -> _Connection:
        """Return the connection, made and checked if there is none."""
        async with self._connecting:
            there = self._connection
            if there is None:
                there = await self._connect_to(self._endpoints[self._turn % len(self._endpoints)])
            elif self._login is not None and asyncio.get_running_loop().time() - there.logged_in_at >= _TOKEN_S:
                there = await self._log_in_again(there)
            self._connection = there
            return there

    async def _connect_to(self, endpoint: str) -> _Connection:
        there = _Connection(endpoint=endpoint, channel=self._open_channel(endpoint))
        try:
            there = await self._log_in(there)
            answer = await there.call("Maintenance/Status", wire.StatusRequest(), wire.StatusResponse, READ_TIMEOUT_S)
            check_version(answer.version, endpoint)
        except grpc.aio.AioRpcError as err:
            await there.channel.close()
            self._turn += 1
            raise _unavailable(endpoint, err) from err
        except BaseException:
            await there.channel.close()
            raise
        return there

    async def _log_in(self, there: _Connection) -> _Connection:
        if self._login is None:
            return there
        request = wire.AuthenticateRequest(name=self._login.user, password=self._login.password)
        answer = await there.call("Auth/Authenticate", request, wire.AuthenticateResponse, READ_TIMEOUT_S)
        now = asyncio.get_running_loop().time()
        return replace(there, metadata=(("token", answer.token),), logged_in_at=now)

    async def _log_in_again(self, there: _Connection) -> _Connection:
        """Renew the token before it runs out, which would look like an unknown outcome to a transaction."""
        try:
            return await self._log_in(there)
        except grpc.aio.AioRpcError as err:
            self._leave(there)
            raise _unavailable(there.endpoint, err) from err

    def _open_channel(self, endpoint: str) -> grpc.aio.Channel:
        if self._tls is None:
            return grpc.aio.insecure_channel(endpoint, options=OPTIONS)
        try:
            credentials = self._tls.read()
        except OSError as err:
            raise StoreUnavailableError(f"cannot read a TLS file for etcd: {err}") from err
        return grpc.aio.secure_channel(endpoint, credentials, options=OPTIONS)

    def _leave(self, there: _Connection) -> None:
        """Let the next call go to the next server, unless another call has seen to it."""
        if self._connection is not None and self._connection.channel is there.channel:
            self._turn += 1
            self._retire(there, grace_s=_RETIRE_S)

    def _retire(self, there: _Connection, grace_s: float) -> None:
        self._connection = None
        task = asyncio.create_task(there.channel.close(grace_s))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


def check_version(version: str, endpoint: str) -> None:
    """
    Refuse a server that can lose writes it has acknowledged.

    Those are 3.5.0 to 3.5.2 (etcd issue 13766), and all before 3.4.21 and
    3.5.5 where one member is the whole cluster (etcd issue 14370).

    Args:
        version: As in the server's status, such as ``3.5.21``.
        endpoint: For the error's text.

    Raises:
        UnsupportedServerError: *version* is one of them, or cannot be read.
    """
    found = _VERSION.match(version)
    if found is None:
        raise UnsupportedServerError(f"the server at {endpoint} says its version is {version!r}, which is not etcd's")
    number = tuple(int(part) for part in found.groups())
    if number <= _LAST_UNSAFE_34 or _UNSAFE_35[0] <= number <= _UNSAFE_35[1]:
        raise UnsupportedServerError(
            f"etcd {version} at {endpoint} can lose acknowledged writes; use 3.4.21 or later, or 3.5.5 or later"
        )


def _serialise(message: Message) -> bytes:
    return message.SerializeToString()


def _unavailable(endpoint: str, err: grpc.aio.AioRpcError) -> StoreUnavailableError:
    kind = StoreUnavailableError
    if err.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        details = err.details() or ""
        kind = AnswerTooLargeError if "larger than max" in details else kind
        kind = FullError if "database space exceeded" in details else kind
    return kind(describe(endpoint, err))


def describe(endpoint: str, err: Any) -> str:
    """Say what a gRPC error of either kind means."""
    return f"etcd at {endpoint}: {err.code().name}: {err.details()}"
