"""AgentService: who an agent is, its connection says; what it does then is its session's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from batchyard.v1 import agent_pb2 as pb
from batchyard.v1 import agent_pb2_grpc as rpc
from batchyard_controller.authority import Authority, key_hash, read_csr
from batchyard_controller.core.requests.enrolment import find_member
from batchyard_controller.doors import Door
from batchyard_controller.leadership import Leadership
from batchyard_controller.sessions import Sessions

from .join_tokens import require_authority


class Agents(rpc.AgentServiceServicer):
    """Thin: hands streams over to the sessions, and has certificates issued again."""

    def __init__(self, leadership: Leadership, sessions: Sessions, authority: Authority | None, door: Door) -> None:
        self._leadership = leadership
        self._sessions = sessions
        self._authority = authority
        self._door = door

    async def Connect(
        self, request_iterator: AsyncIterator[pb.ConnectRequest], context: Any
    ) -> AsyncIterator[pb.ConnectResponse]:
        async for response in self._sessions.serve(request_iterator, self._door.peer(context)):
            yield response

    async def CarryEntry(
        self, request_iterator: AsyncIterator[pb.CarryEntryRequest], context: Any
    ) -> AsyncIterator[pb.CarryEntryResponse]:
        carried = self._sessions.meetings.carry(request_iterator, self._door.peer(context).proven)
        async with aclosing(carried) as responses:
            async for response in responses:
                yield response

    async def RenewCertificate(self, request: pb.RenewCertificateRequest, context: Any) -> pb.RenewCertificateResponse:
        authority, host_id = require_authority(self._authority), self._door.peer(context).host_id
        key = read_csr("csr", request.csr)
        await self._leadership.driver.read(lambda world: find_member(world, host_id, key_hash(key)))
        return pb.RenewCertificateResponse(certificate=authority.issue_host(host_id, key), trusted=authority.bundle)
