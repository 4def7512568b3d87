"""A controller's ports with TLS, beside the one without that tests speak to: real listeners, certificates and clients."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
from tests.ports import hold_address

from batchyard.v1 import join_token_pb2 as pb
from batchyard.v1.agent_pb2_grpc import AgentServiceStub
from batchyard.yard_names import controller_name
from batchyard_agent.joining import agents_address, member_channel
from batchyard_agent.membership import Membership
from batchyard_controller.administrator import Administrator
from batchyard_controller.app import Trust, build_server
from batchyard_controller.audit import Audit
from batchyard_controller.authority import HOST_LIFE, Authority, make_authority
from batchyard_controller.doors import Door, PeerKind, listen_with_tls
from batchyard_controller.throttles import Throttles

from .controller import Controller, MemoryController

YARD = "019a0000-0000-7000-8000-0123456789ab"
OTHER_YARD = "019a0000-0000-7000-8000-0123456789ff"
SECRET = "s" * 43
TOKEN = f"by_pat_0123456789abcdef_{SECRET}"


def make_trust(folder: Path, yard: str = YARD, *, agents_port: int = 0, host_life: timedelta = HOST_LIFE) -> Trust:
    """Make a CA in a folder, and an administrator who has `TOKEN`."""
    path = folder / "ca.pem"
    make_authority(path, yard, datetime.now(UTC))
    known = Administrator(
        token_id="0123456789abcdef",
        token_sha256=hashlib.sha256(SECRET.encode()).hexdigest(),
        created_at_ms=0,
        expires_at_ms=time.time_ns() // 1_000_000 + 3_600_000,
    )
    return Trust(authority=Authority(path, time.time, host_life), administrator=known, agents_port=agents_port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """A controller, where its ports are, and its CA."""

    yard: MemoryController
    users: str
    agents: str
    trust: Trust

    @property
    def authority(self) -> Authority:
        assert self.trust.authority is not None
        return self.trust.authority

    def channel(self, trusted: str = "", yard: str = YARD) -> grpc.aio.Channel:
        """Open a channel to users' port, by which nobody is proved."""
        name = ("grpc.ssl_target_name_override", controller_name(yard))
        known = grpc.ssl_channel_credentials((trusted or self.authority.bundle).encode())
        return grpc.aio.secure_channel(self.users, known, options=[name, ("grpc.use_local_subchannel_pool", 1)])

    @asynccontextmanager
    async def as_host(self, member: Membership) -> AsyncIterator[Any]:
        """Yield what a `HandAgent` speaks to in the place of a controller."""
        assert agents_address(self.users, member) == self.agents
        async with member_channel(self.users, member) as channel:
            yield SimpleNamespace(agents=AgentServiceStub(channel), leadership=self.yard.leadership)

    async def token(self, **fields: Any) -> str:
        """Make a join token."""
        return str((await self.yard.join_tokens.CreateJoinToken(pb.CreateJoinTokenRequest(**fields))).token)


@asynccontextmanager
async def secured(folder: Path, host_life: timedelta = HOST_LIFE, audit: Audit | None = None) -> AsyncIterator[Secured]:
    """Open a controller with all its doors."""
    users, agents = hold_address(), hold_address()
    trust = make_trust(folder, agents_port=int(agents.rpartition(":")[2]), host_life=host_life)
    assert trust.authority is not None
    async with MemoryController(trust=trust, audit=audit) as yard:
        await yard.until_leads()
        servers = []
        for kind, address in ((PeerKind.TLS, users), (PeerKind.HOST, agents)):
            server = open_door(yard, kind, trust, audit)
            listen_with_tls(server, address, trust.authority, hosts_alone=kind is PeerKind.HOST)
            await server.start()
            servers.append(server)
        try:
            yield Secured(yard=yard, users=users, agents=agents, trust=trust)
        finally:
            for server in servers:
                await server.stop(None)


def open_door(yard: Controller, kind: PeerKind, trust: Trust, audit: Audit | None = None) -> grpc.aio.Server:
    """Return a server of one more door of a controller."""
    throttles = Throttles(failures_per_minute=100_000)  # a test fails as often as it likes
    door = Door(kind, yard=YARD)
    return build_server(yard.leadership, yard.sessions, yard.vault, door, trust, audit=audit, throttles=throttles)
