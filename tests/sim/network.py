"""
A network for gRPC's own stubs and servicers: calls between programs, over links that fail.

Messages of one stream keep their order, as TCP has it, and each takes a time of its own, so that
streams overtake each other. A link that is cut loses nothing at first: what was sent arrives when
it heals, unless the ends have given each other up by then, as gRPC's keepalive has them do. What
is sent twice or lost for good is so by its senders' doing: they try again.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import grpc
from grpc.aio import AioRpcError, Metadata

from .loop import Handle, Program, VirtualLoop

if TYPE_CHECKING:
    from .calls import Server

KEEPALIVE_CLIENT_S, KEEPALIVE_SERVER_S = (40.0, 90.0), (30.0, 90.0)
"""
After so long a silence of the machine or program at the other end a stream is given up.

The shorter ones are those of CHANNEL_OPTIONS and app.py; a proxy between may answer for the other end for longer.
"""
CONNECT_S = 20.0
"""gRPC's least time for a connection to be made."""
DELAY_S = (0.0002, 0.003)
"""A message takes as long as the first, and up to the second more."""
SPIKE = 0.02
"""One message in so many is sent again by TCP, and takes as much longer."""


@dataclass(slots=True)
class Link:
    """One direction between two machines."""

    is_cut: bool = False
    slow_s: float = 0.0
    held: list[tuple[Pipe, Any]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Site:
    """A program that can be reached, or reaches others."""

    machine: str
    program: Program
    server: Server | None = None
    connections: list[Connection] = field(default_factory=list)


class Network:
    """All machines' links, and who listens where."""

    def __init__(self, loop: VirtualLoop, dice: Random) -> None:
        self.loop = loop
        self._dice = dice
        self._links: dict[tuple[str, str], Link] = {}
        self._sites: dict[int, Site] = {}
        self.resolve: Callable[[str], Site | None] = lambda _: None
        """Which program now listens at an address."""
        self.context = contextvars.copy_context()

    def later(self, delay_s: float, what: Callable[..., Any], *args: Any) -> Handle:
        """Call something later that is no part of any program: what was sent arrives though its sender has died."""
        return self.loop.call_later(delay_s, what, *args, context=self.context)

    def link(self, source: str, target: str) -> Link:
        link = self._links.get((source, target))
        if link is None:
            link = self._links[source, target] = Link()
        return link

    def site(self, machine: str, program: Program) -> Site:
        """Put a program on the network."""
        site = Site(machine=machine, program=program)
        self._sites[id(program)] = site
        program.on_death.append(lambda: self._die(site))
        program.on_stop.append(lambda: self._stop(site))
        return site

    def delay_s(self, link: Link) -> float:
        draw = self._dice.random()
        delay_s = DELAY_S[0] + draw * DELAY_S[1]
        if draw < SPIKE:
            delay_s += self._dice.uniform(0.05, 0.4)
        return delay_s + self._dice.random() * link.slow_s if link.slow_s else delay_s

    def keepalive_s(self, limits_s: tuple[float, float]) -> float:
        return self._dice.choice(limits_s)

    def cut(self, source: str, target: str) -> None:
        """Let nothing pass in one direction."""
        link = self.link(source, target)
        if link.is_cut:
            return
        link.is_cut = True
        pair = {source, target}
        there = [c for site in self._sites.values() for c in site.connections if c.machines == pair]
        self.later(self.keepalive_s(KEEPALIVE_SERVER_S), self._give_up, link, there, Connection.break_server)
        self.later(self.keepalive_s(KEEPALIVE_CLIENT_S), self._give_up, link, there, Connection.break_client)

    def break_between(self, one: str, other: str) -> None:
        """Break all connections of two machines, as a firewall that forgets them does."""
        pair = {one, other}
        for connection in [c for site in self._sites.values() for c in site.connections if c.machines == pair]:
            connection.break_server()
            connection.break_client()

    def _give_up(self, link: Link, there: list[Connection], break_end: Callable[[Connection], None]) -> None:
        if link.is_cut:
            for connection in there:
                break_end(connection)

    def heal(self, source: str, target: str) -> None:
        """Let pass what is sent, and what was held."""
        link = self.link(source, target)
        link.is_cut = False
        held, link.held = link.held, []
        for pipe, item in held:
            pipe.send(item)

    def heal_all(self) -> None:
        for (source, target), link in list(self._links.items()):
            link.slow_s = 0.0
            self.heal(source, target)

    def _die(self, site: Site) -> None:
        """Let the machine of a program that died tell whoever spoke with it."""
        self._sites.pop(id(site.program), None)
        for connection in list(site.connections):
            connection.reset_by(site)

    def _stop(self, site: Site) -> None:
        """Have those give up a program that stands still who hear nothing of it."""
        stopped_at, there = site.program.stopped_at, list(site.connections)

        def look(break_end: Callable[[Connection], None], is_client: bool) -> None:
            if site.program.is_stopped and site.program.stopped_at == stopped_at:
                for connection in there:
                    if (connection.server_site is site) == is_client:
                        break_end(connection)

        self.later(self.keepalive_s(KEEPALIVE_SERVER_S), look, Connection.break_server, False)
        self.later(self.keepalive_s(KEEPALIVE_CLIENT_S), look, Connection.break_client, True)


class Pipe:
    """One direction of one stream: order is kept."""

    __slots__ = ("_deliver", "_last_at", "_link", "_network")

    def __init__(self, network: Network, link: Link, deliver: Callable[[Any], None]) -> None:
        self._network, self._link = network, link
        self._deliver = deliver
        self._last_at = 0.0

    def send(self, item: Any) -> None:
        network, link = self._network, self._link
        if link.is_cut:
            link.held.append((self, item))
            return
        self._last_at = max(self._last_at, network.loop.time() + network.delay_s(link))
        network.loop.call_at(self._last_at, self._deliver, item, context=network.context)


class Connection:
    """
    One call between two programs, from either end.

    One with a *request* is of the kind that has one answer: they travel with the call's begin and end.
    """

    def __init__(
        self,
        network: Network,
        client: Site,
        address: str,
        path: str,
        request: bytes | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.network = network
        self.client_site, self.server_site = client, network.resolve(address)
        self.path, self.request = path, request
        there = self.server_site.machine if self.server_site is not None else address
        self.machines = {client.machine, there}
        self.up = Pipe(network, network.link(client.machine, there), self._arrive_up)
        self.down = Pipe(network, network.link(there, client.machine), self._arrive_down)
        # The client's end.
        self.answers: deque[bytes] = deque()
        self.status: tuple[grpc.StatusCode, str, Any] | None = None
        self.is_open = False
        self._is_cancelled = False
        self._waiter: asyncio.Future[None] | None = None
        # The server's end.
        self._requests: deque[bytes | None] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_broken = False
        client.connections.append(self)
        self.up.send(("open", None))
        self._timers: list[Handle] = []
        self._tells_opened = timeout_s is None or timeout_s > CONNECT_S
        if self._tells_opened:
            self._timers.append(network.later(CONNECT_S, self._connect_in_time))
        if timeout_s is not None:
            self._timers.append(network.loop.call_later(timeout_s, self._expire))

    # The client's end ---------------------------------------------------------

    def send_up(self, kind: str, item: Any = None) -> None:
        if self.client_site.program.is_alive and self.status is None:
            self.up.send((kind, item))

    def cancel(self) -> None:
        """Let go of the call; the server is told if it can be."""
        if self.status is None:
            self._is_cancelled = True
            self.send_up("cancel")
            self._end(grpc.StatusCode.CANCELLED, "Locally cancelled by application!", None)

    def _expire(self) -> None:
        self.send_up("cancel")
        self._end(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", None)

    def _connect_in_time(self) -> None:
        if not self.is_open:
            self._end(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses", None)

    def break_client(self) -> None:
        self._end(grpc.StatusCode.UNAVAILABLE, "keepalive watchdog timeout", None)

    def _end(self, code: grpc.StatusCode, details: str, metadata: Any) -> None:
        if self.status is None:
            self.status = (code, details, metadata)
            for timer in self._timers:
                timer.cancel()
            if self in self.client_site.connections:
                self.client_site.connections.remove(self)
            self._wake()

    def _arrive_down(self, message: tuple[str, Any]) -> None:
        kind, item = message
        if not self.client_site.program.is_alive or self.status is not None:
            return
        if self.client_site.program.puts_off(self._arrive_down, message):
            return
        match kind:
            case "opened":
                self.is_open = True
            case "message":
                self.answers.append(item)
                self._wake()
            case "answer":
                self.answers.append(item)
                self._end(grpc.StatusCode.OK, "", None)
            case "status":
                self._end(*item)
            case "reset":
                self._end(grpc.StatusCode.UNAVAILABLE, "Socket closed", None)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self) -> bytes | None:
        """Return the next answer; None at the end of the stream."""
        while not self.answers:
            if self.status is not None:
                self.raise_status()
                return None
            self._waiter = self.network.loop.create_future()
            await self._waiter
        return self.answers.popleft()

    def raise_status(self) -> None:
        assert self.status is not None
        if self._is_cancelled:
            raise asyncio.CancelledError  # as grpc.aio has it for who still reads
        code, details, metadata = self.status
        if code is not grpc.StatusCode.OK:
            raise AioRpcError(code, Metadata(), Metadata(*(metadata or ())), details)

    # The server's end ---------------------------------------------------------

    def _arrive_up(self, message: tuple[str, Any]) -> None:
        kind, item = message
        site = self.server_site
        if site is not None and site.program.puts_off(self._arrive_up, message):
            return
        if kind == "open":
            if site is None or not site.program.is_alive or site.server is None:
                self.down.send(("reset", None))
                return
            site.connections.append(self)
            if self._tells_opened:
                self.down.send(("opened", None))
            self._task = site.program.spawn(site.server.serve(self))
            return
        if self._task is None or self._is_broken or site is None or not site.program.is_alive:
            return
        match kind:
            case "message":
                self._take(item)
            case "closed":
                self._take(None)
            case "cancel" | "reset":
                self.break_server()

    def _take(self, request: bytes | None) -> None:
        self._requests.append(request)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def read_request(self) -> bytes | None:
        """Return the next request; None at the end of the stream."""
        while not self._requests:
            self._reader = self.network.loop.create_future()
            await self._reader
        return self._requests.popleft()

    def break_server(self) -> None:
        """Let the handler hear that its caller has gone, as grpc.aio does: by cancelling it."""
        if self._task is not None and not self._is_broken:
            self._is_broken = True
            self.leave_server()
            self._task.cancel()

    def leave_server(self) -> None:
        assert self.server_site is not None
        if self in self.server_site.connections:
            self.server_site.connections.remove(self)

    def send_down(self, kind: str, item: Any = None) -> None:
        if self.server_site is not None and self.server_site.program.is_alive and not self._is_broken:
            self.down.send((kind, item))

    def reset_by(self, site: Site) -> None:
        """Hear from a machine that one of its programs has died."""
        if site is self.server_site:
            self.down.send(("reset", None))
            self.network.later(self.network.keepalive_s(KEEPALIVE_CLIENT_S), self.break_client)
        else:
            self.up.send(("reset", None))
            self.network.later(self.network.keepalive_s(KEEPALIVE_SERVER_S), self.break_server)
