"""Every RPC that is served, found in the descriptors, so that a new one is swept as well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from batchyard_controller.app import SERVICES

from .controller import Controller


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """One call of the contract."""

    path: str
    name: str
    request: type[Message]
    response: type[Message]
    streams_in: bool
    streams_out: bool

    def method(self, yard: Controller) -> Any:
        """Return how to call it."""
        return self.over(yard.channel)

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


def find_method(yard: Controller, name: str) -> Any:
    """Return how to call the RPC of this name."""
    return RPCS[name].method(yard)
