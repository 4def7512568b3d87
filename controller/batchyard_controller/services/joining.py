"""JoinService: hosts become members, and their keys are certified. Law: what is certified is stored before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from batchyard.errors import FailedPreconditionError, Reason, Violation
from batchyard.ids import HostId
from batchyard.v1 import join_pb2 as pb
from batchyard.v1 import join_pb2_grpc as rpc
from batchyard_controller.authority import Authority, key_hash, read_csr
from batchyard_controller.core.model.enrolment import Member
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests.checks import Violations, refuse
from batchyard_controller.core.requests.enrolment import Candidate, check_host_name, enrol, find_member
from batchyard_controller.core.world.world import World
from batchyard_controller.doors import Door
from batchyard_controller.leadership import Leadership

from .join_tokens import VERSION, hash_secret, require_authority


class Joining(rpc.JoinServiceServicer):
    """Thin: reads tokens and keys, lets admission decide, has certificates issued."""

    def __init__(
        self,
        leadership: Leadership,
        authority: Authority | None,
        agents_port: int,
        new_host_id: Callable[[], HostId],
        door: Door,
    ) -> None:
        self._leadership = leadership
        self._authority = authority
        self._agents_port = agents_port
        self._new_host_id = new_host_id
        self._door = door

    async def GetTrust(self, request: pb.GetTrustRequest, context: Any) -> pb.GetTrustResponse:
        return pb.GetTrustResponse(certificates=require_authority(self._authority).bundle)

    async def Join(self, request: pb.JoinRequest, context: Any) -> pb.JoinResponse:
        authority = require_authority(self._authority)
        if not self._agents_port:
            text = "this controller has no port for agents (--listen-agents), so no host can join"
            raise FailedPreconditionError(text, reason=Reason.NO_AGENTS_PORT)
        key = read_csr("csr", request.csr)
        if request.token:
            member = await self._enrol(request, key_hash(key), self._door.peer(context).address)
        else:
            asked = HostId(request.host_id)
            member = await self._leadership.driver.read(lambda world: find_member(world, asked, key_hash(key)))
        return pb.JoinResponse(
            host_id=member.host_id,
            certificate=authority.issue_host(member.host_id, key),
            trusted=authority.bundle,
            agents_port=self._agents_port,
        )

    async def _enrol(self, request: pb.JoinRequest, key_hash: str, address: str) -> Member:
        out: Violations = []
        parts = request.token.split(".")
        if len(parts) != 4 or parts[0] != VERSION:
            out.append(Violation("token", f"does not have the form {VERSION}.CA.ID.SECRET", Reason.MALFORMED))
        check_host_name(out, "name", request.name)
        refuse(out)
        candidate = Candidate(
            token_id=parts[2],
            secret_hash=hash_secret(parts[3]),
            name=request.name,
            address=address,
            key_hash=key_hash,
            former_id=HostId(request.host_id),
            new_id=self._new_host_id(),
        )

        def decide(world: World, now: Instant) -> tuple[Any, Member]:
            return enrol(world, candidate, now)

        return await self._leadership.driver.request(decide)
