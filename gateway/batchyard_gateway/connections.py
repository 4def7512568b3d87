"""
Connections: which wait for a request, so that silent ones neither pile up nor shut others out.

`Waiting` counts and decides, `Door` is the HTTP server's protocol that asks it. It must
never know services. Law: a connection that has not sent its whole request in time is
closed, and beyond a number the one that has waited longest makes room; one whose request
is being answered is never closed for another's sake.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict
from typing import Any, Generic, Protocol, TypeVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
"""How long a head may take, from the connection or from its first byte on a kept one."""

BODY_S = 30.0
"""How long a body may take."""

WAITING_MAX = 512
"""Connections that wait, over all sources; with those at work far below the usual 1024 open files."""

WAITING_PER_SOURCE_MAX = 128


def source_of(address: str) -> str:
    """Return whom an address belongs to: itself, or of IPv6 its network of 64 bits, which is one customer's."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


class Closable(Protocol):
    """A connection, as far as it is counted here."""

    def close_unheard(self) -> None:
        """Close it; its request has not come."""


C = TypeVar("C", bound=Closable)


class Waiting(Generic[C]):
    """Connections that wait for a request, those that have waited longest first."""

    def __init__(self, *, total_max: int = WAITING_MAX, per_source_max: int = WAITING_PER_SOURCE_MAX) -> None:
        self._total_max = total_max
        self._per_source_max = per_source_max
        self._all: OrderedDict[C, str] = OrderedDict()
        self._of: dict[str, OrderedDict[C, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: C, source: str) -> None:
        """Let a connection wait; where there are too many, that of its source, then of all, which waits longest goes."""
        self.discard(connection)
        own = self._of.setdefault(source, OrderedDict())
        self._all[connection] = source
        own[connection] = None
        if len(own) > self._per_source_max:
            self._close(next(iter(own)))
        elif len(self._all) > self._total_max:
            self._close(next(iter(self._all)))

    def discard(self, connection: C) -> None:
        """Forget a connection, which has sent a request or is gone."""
        source = self._all.pop(connection, None)
        if source is not None:
            own = self._of[source]
            del own[connection]
            if not own:
                del self._of[source]

    def _close(self, connection: C) -> None:
        self.discard(connection)
        connection.close_unheard()


class Door(H11Protocol):
    """One connection of the server: uvicorn's, with deadlines and a place among those that wait."""

    waiting: Waiting[Door]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._phase = ""
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._enter("head")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._enter("gone")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come, then wait for what is still missing."""
        super().data_received(data)
        self._look(idle="head")

    def on_response_complete(self) -> None:
        """Wait for the next request, for as long as kept connections are."""
        super().on_response_complete()
        self._look(idle="idle")

    def close_unheard(self) -> None:
        """Close at once; nobody is told, as nobody has asked."""
        self._enter("gone")
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.abort()

    def _look(self, *, idle: str) -> None:
        if self._phase == "gone":
            return
        their = self.conn.their_state
        self._enter(idle if their is h11.IDLE else "body" if their is h11.SEND_BODY else "work")

    def _enter(self, phase: str) -> None:
        if phase == self._phase:
            return
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._phase = phase
        limits_s = {"head": HEAD_S, "body": BODY_S}
        if phase in limits_s:
            self._deadline = self.loop.call_later(limits_s[phase], self.close_unheard)
        if phase in ("head", "body", "idle"):
            self.waiting.add(self, source_of(self.client[0] if self.client else ""))
        else:
            self.waiting.discard(self)


def door(waiting: Waiting[Door]) -> type[Door]:
    """Make the protocol of one server, whose connections wait in *waiting*."""
    return type("Door", (Door,), {"waiting": waiting})
