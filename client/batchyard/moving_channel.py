"""
Several controllers of one yard as one channel: calls go to the one that is believed to lead.

It looks to stubs as a gRPC channel does. Which controller that is, whoever calls finds
out by its refusals; see `connection`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc.aio


class MovingChannel:
    """
    One channel at a time, opened when it is first used.

    Args:
        addresses: At least one.
        connect: Opens a channel to an address.
    """

    def __init__(self, addresses: Sequence[str], connect: Callable[[str], grpc.aio.Channel]) -> None:
        self.addresses = tuple(addresses)
        self._connect = connect
        self._turn = 0
        self._channels: dict[str, grpc.aio.Channel] = {}

    @property
    def address(self) -> str:
        """Where calls go now."""
        return self.addresses[self._turn]

    def move(self, former: str, hint: str = "") -> None:
        """Go on from *former* to *hint* if that is one of the addresses, else to the next; nothing if that was done."""
        if self.address == former:
            known = hint in self.addresses and hint != former
            self._turn = self.addresses.index(hint) if known else (self._turn + 1) % len(self.addresses)

    async def close(self) -> None:
        """Close all channels; calls under way are cancelled."""
        for channel in self._channels.values():
            await channel.close()

    def unary_unary(self, *args: Any, **more: Any) -> Callable[..., Any]:
        """Return a method of whichever channel is the one when it is called."""
        return self._late("unary_unary", args, more)

    def unary_stream(self, *args: Any, **more: Any) -> Callable[..., Any]:
        """As ``unary_unary``."""
        return self._late("unary_stream", args, more)

    def stream_unary(self, *args: Any, **more: Any) -> Callable[..., Any]:
        """As ``unary_unary``."""
        return self._late("stream_unary", args, more)

    def stream_stream(self, *args: Any, **more: Any) -> Callable[..., Any]:
        """As ``unary_unary``."""
        return self._late("stream_stream", args, more)

    def _late(self, kind: str, args: Sequence[Any], more: dict[str, Any]) -> Callable[..., Any]:
        methods: dict[str, Callable[..., Any]] = {}

        def call(*request: Any, **options: Any) -> Any:
            address = self.address
            if address not in methods:
                methods[address] = getattr(self._channel(address), kind)(*args, **more)
            return methods[address](*request, **options)

        return call

    def _channel(self, address: str) -> grpc.aio.Channel:
        if address not in self._channels:
            self._channels[address] = self._connect(address)
        return self._channels[address]
