"""JoinTokenService: a token is told once, at its making; a hash of it is stored."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Any

from batchyard.errors import FailedPreconditionError, Reason
from batchyard.v1 import join_token_pb2 as pb
from batchyard.v1 import join_token_pb2_grpc as rpc
from batchyard_controller.authority import Authority
from batchyard_controller.core import limits
from batchyard_controller.core.model.enrolment import JoinToken
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests import enrolment
from batchyard_controller.core.requests.checks import Violations, refuse
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership

from .paging import decode_token, encode_token, page_size

LISTED = "join_tokens"
VERSION = "BY1"


def write_join_token(fingerprint: str, token_id: str, secret: str) -> str:
    """Return a token as it is told."""
    return f"{VERSION}.{fingerprint}.{token_id}.{secret}"


def hash_secret(secret: str) -> str:
    """Return what is stored of a secret of 256 bits by dice, which needs no salt."""
    return hashlib.sha256(secret.encode()).hexdigest()


def require_authority(authority: Authority | None) -> Authority:
    """
    Return the CA.

    Raises:
        FailedPreconditionError: there is none.
    """
    if authority is None:
        text = "this controller has no CA, so no host can join; `batchyard controller init` makes one"
        raise FailedPreconditionError(text, reason=Reason.NO_CA)
    return authority


class JoinTokens(rpc.JoinTokenServiceServicer):
    """Thin: checks fields, throws dice, lets admission decide."""

    def __init__(self, leadership: Leadership, authority: Authority | None, clock: Callable[[], Instant]) -> None:
        self._leadership = leadership
        self._authority = authority
        self._clock = clock

    async def CreateJoinToken(self, request: pb.CreateJoinTokenRequest, context: Any) -> pb.CreateJoinTokenResponse:
        out: Violations = []
        ttl_s, uses = request.ttl_s or limits.JOIN_TOKEN_TTL_S, request.uses or 1
        networks = tuple(request.networks)
        enrolment.check_join_token(
            out,
            ttl_s=ttl_s,
            uses=uses,
            host_name=request.host_name,
            networks=networks,
            speaks_for=request.speaks_for,
        )
        refuse(out)
        authority = require_authority(self._authority)
        secret = secrets.token_urlsafe(32)
        record = JoinToken(
            id=secrets.token_hex(8),
            secret_hash=hash_secret(secret),
            expires_at_ms=self._clock().wall_ms + ttl_s * 1000,
            uses=uses,
            host_name=request.host_name,
            networks=networks,
            speaks_for=request.speaks_for,
        )

        def decide(world: World, now: Instant) -> tuple[Any, JoinToken]:
            event = enrolment.create_join_token(world, record, now)
            return event, event.join_token

        created = await self._leadership.driver.request(decide)
        told = write_join_token(authority.fingerprint, record.id, secret)
        return pb.CreateJoinTokenResponse(join_token=_message(created), token=told)

    async def ListJoinTokens(self, request: pb.ListJoinTokensRequest, context: Any) -> pb.ListJoinTokensResponse:
        size, after = page_size(request.page_size), decode_token(LISTED, request.page_token)
        now_ms = self._clock().wall_ms

        def look(world: World) -> pb.ListJoinTokensResponse:
            good = (token.id for token in world.join_tokens.values() if token.expires_at_ms > now_ms)
            ids = sorted(token_id for token_id in good if token_id > after)
            return pb.ListJoinTokensResponse(
                join_tokens=[_message(world.join_tokens[token_id]) for token_id in ids[:size]],
                next_page_token=encode_token(LISTED, ids[size - 1]) if len(ids) > size else "",
            )

        return await self._leadership.driver.read(look)

    async def RevokeJoinToken(self, request: pb.RevokeJoinTokenRequest, context: Any) -> pb.RevokeJoinTokenResponse:
        await self._leadership.driver.request(lambda world, now: (enrolment.revoke_join_token(world, request.id), None))
        return pb.RevokeJoinTokenResponse()


def _message(token: JoinToken) -> pb.JoinToken:
    return pb.JoinToken(
        id=token.id,
        created_at_ms=token.created_at_ms,
        expires_at_ms=token.expires_at_ms,
        uses=token.uses,
        host_name=token.host_name,
        networks=token.networks,
        speaks_for=token.speaks_for,
    )
