"""The ends of calls as grpc.aio has them: channels, streams, servers and their contexts, over such a network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Self

import grpc
from grpc.aio import AbortError, AioRpcError

from .network import Connection, Network, Site

CLOSING_S = 0.25
"""How often a channel that closes with grace looks whether its calls are over."""


class Channel:
    """What ``grpc.aio.insecure_channel`` gives."""

    def __init__(self, network: Network, site: Site, address: str) -> None:
        self._network, self._site, self._address = network, site, address
        self._calls: list[Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        ends_at = self._network.loop.time() + (grace or 0.0)
        while self._network.loop.time() < ends_at and any(call.status is None for call in self._calls):
            await asyncio.sleep(CLOSING_S)
        for call in self._calls:
            call.cancel()
        self._calls.clear()

    def _begin(self, path: str, request: bytes | None = None, timeout: float | None = None) -> Connection:
        self._calls = [call for call in self._calls if call.status is None]
        call = Connection(self._network, self._site, self._address, path, request, timeout)
        self._calls.append(call)
        return call

    def unary_unary(self, path: str, request_serializer: Any, response_deserializer: Any, **_: Any) -> Any:
        async def call(request: Any, timeout: float | None = None, metadata: Any = None) -> Any:
            connection = self._begin(path, request_serializer(request), timeout)
            try:
                answer = await connection.read()
            finally:
                connection.cancel()
            return response_deserializer(answer)

        return call

    def stream_stream(self, path: str, request_serializer: Any, response_deserializer: Any, **_: Any) -> Any:
        def call(requests: Any = None, timeout: float | None = None, metadata: Any = None) -> StreamCall:
            stream = StreamCall(self._begin(path, timeout=timeout), request_serializer, response_deserializer)
            if requests is not None:
                stream.send_all(requests)
            return stream

        return call

    def unary_stream(self, path: str, *_: Any, **__: Any) -> Any:
        """Give nothing: nobody here watches or reads logs."""

    stream_unary = unary_stream


class StreamCall:
    """A call of two streams, as grpc.aio's."""

    def __init__(self, connection: Connection, serialize: Any, deserialize: Any) -> None:
        self._connection = connection
        self._serialize, self._deserialize = serialize, deserialize

    def send_all(self, requests: Any) -> None:
        for request in requests:
            self._connection.send_up("message", self._serialize(request))
        self._connection.send_up("closed")

    async def read(self) -> Any:
        answer = await self._connection.read()
        return grpc.aio.EOF if answer is None else self._deserialize(answer)

    async def write(self, message: Any) -> None:
        if self._connection.status is not None:
            self._connection.raise_status()
            raise asyncio.InvalidStateError("RPC already finished.")
        self._connection.send_up("message", self._serialize(message))

    async def __aiter__(self) -> Any:
        try:
            while (answer := await self._connection.read()) is not None:
                yield self._deserialize(answer)
        finally:
            self._connection.cancel()

    async def code(self) -> grpc.StatusCode:
        while self._connection.status is None:
            await self._connection.read()
        return self._connection.status[0]

    async def details(self) -> str:
        await self.code()
        assert self._connection.status is not None
        return self._connection.status[1]

    def cancel(self) -> None:
        self._connection.cancel()


class Context:
    """As much of a servicer's context as ours ask for."""

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        error = AbortError(details)
        error.status = (code, details, tuple(trailing_metadata))  # type: ignore[attr-defined]
        raise error


class Server:
    """What generated code registers servicers with; serves calls one task each."""

    def __init__(
        self, interceptors: Sequence[grpc.aio.ServerInterceptor], on_error: Callable[[BaseException], None]
    ) -> None:
        self._handlers: dict[str, Any] = {}
        self._found: dict[str, Any] = {}
        self._interceptors = tuple(interceptors)
        self._on_error = on_error

    def add_generic_rpc_handlers(self, _: object) -> None:
        """Do nothing: the same come by the other call."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self._handlers.update({f"/{service}/{name}": handler for name, handler in handlers.items()})

    def add(self, path: str, handler: Any) -> None:
        self._handlers[path] = handler

    async def serve(self, connection: Connection) -> None:
        """Answer one call."""
        try:
            handler = self._found.get(connection.path) or await self._find(connection.path)
            if handler.unary_unary is not None:
                request = handler.request_deserializer(connection.request)
                answer = await handler.unary_unary(request, Context())
                connection.send_down("answer", handler.response_serializer(answer))
            else:
                await self._stream(connection, handler)
                connection.send_down("status", (grpc.StatusCode.OK, "", None))
        except AbortError as error:
            connection.send_down("status", error.status)  # type: ignore[attr-defined]
        except AioRpcError as error:
            connection.send_down("status", (error.code(), error.details(), None))
        except Exception as error:  # noqa: BLE001  # as a real server; the world notes it
            self._on_error(error)
            connection.send_down("status", (grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}", None))
        connection.leave_server()

    async def _find(self, path: str) -> Any:
        """Ask the interceptors, once a path: they tell calls apart by metadata, of which there are none here."""

        async def found(_: object) -> Any:
            return self._handlers[path]

        for interceptor in reversed(self._interceptors):
            found = partial(interceptor.intercept_service, found)
        handler = self._found[path] = await found(SimpleNamespace(method=path, invocation_metadata=()))
        return handler

    async def _stream(self, connection: Connection, handler: Any) -> None:
        async def read() -> Any:
            while (request := await connection.read_request()) is not None:
                yield handler.request_deserializer(request)

        answers = handler.stream_stream(read(), Context())
        try:
            async for answer in answers:
                connection.send_down("message", handler.response_serializer(answer))
        finally:
            await answers.aclose()
