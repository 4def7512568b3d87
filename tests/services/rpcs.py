"""Every RPC that is served, found in the descriptors, so that a new one is swept as well."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from batchyard_controller.app import SERVICES

from .controller import PATIENCE_S

Metadata = tuple[tuple[str, str], ...]
UNTOLD = "Internal error from Core"
"""What grpc.aio makes of a stream that the server ended just as something was written; why is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """One call of the contract."""

    path: str
    name: str
    request: type[Message]
    response: type[Message]
    streams_in: bool
    streams_out: bool

    def over(self, channel: grpc.aio.Channel) -> Any:
        """Return how to call it over a channel."""
        opens: dict[tuple[bool, bool], Any] = {
            (False, False): channel.unary_unary,
            (False, True): channel.unary_stream,
            (True, True): channel.stream_stream,
        }
        serializer, deserializer = self.request.SerializeToString, self.response.FromString
        return opens[self.streams_in, self.streams_out](
            self.path, request_serializer=serializer, response_deserializer=deserializer
        )

    async def ask(self, channel: grpc.aio.Channel, request: Message, metadata: Metadata = ()) -> Any:
        """
        Call, and return the answer; of a stream its first message, or EOF where none comes.

        Raises grpc.aio.AioRpcError with what the server said.
        """
        method = self.over(channel)
        async with asyncio.timeout(PATIENCE_S):
            if not self.streams_out:
                return await method(request, metadata=metadata)
            if not self.streams_in:
                return await _first(method(request, metadata=metadata))
            while True:
                stream = method(metadata=metadata)
                # One that the server ended meanwhile fails without saying so: reading tells.
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await stream.write(request)
                try:
                    return await _first(stream)
                except grpc.aio.AioRpcError as error:
                    if error.details() != UNTOLD and error.code() is not grpc.StatusCode.CANCELLED:
                        raise


async def _first(stream: Any) -> Any:
    try:
        answer = await stream.read()
        if answer is grpc.aio.EOF and await stream.code() is not grpc.StatusCode.OK:
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(await stream.code(), nothing, nothing, await stream.details())
        return answer
    finally:
        stream.cancel()


def _rpc(method: MethodDescriptor) -> Rpc:
    return Rpc(
        path=f"/{method.containing_service.full_name}/{method.name}",
        name=method.name,
        request=message_factory.GetMessageClass(method.input_type),
        response=message_factory.GetMessageClass(method.output_type),
        streams_in=method.client_streaming,
        streams_out=method.server_streaming,
    )


def every_rpc() -> dict[str, Rpc]:
    """Return all calls of all services by name."""
    pool = descriptor_pool.Default()
    methods = [method for name in SERVICES for method in pool.FindServiceByName(name).methods]
    rpcs = {method.name: _rpc(method) for method in methods}
    assert len(rpcs) == len(methods), "two services have a call of one name"
    return rpcs


RPCS = every_rpc()
