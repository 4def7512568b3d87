"""AccessService: who the caller is; roles of users, and their tokens. A token is told once, at its making."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from batchyard.v1 import access_pb2 as pb
from batchyard.v1 import access_pb2_grpc as rpc
from batchyard_controller.audit import Audit
from batchyard_controller.core import limits
from batchyard_controller.core.access.directory import TOKEN_PREFIX
from batchyard_controller.core.access.roles import Kind, Principal, Thing, Verb, may
from batchyard_controller.core.model.identities import Binding, Role, Token
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests import identities
from batchyard_controller.core.requests.checks import Violations, check_text, refuse
from batchyard_controller.core.requests.names import check_name
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership

from .callers import caller
from .paging import decode_token, encode_token, page_size

LISTED_BINDINGS = "bindings"
LISTED_TOKENS = "tokens"
ID_BYTES = 8
SECRET_BYTES = 32
"""As nobody could try; so one SHA-256 is enough to keep it by."""


class Access(rpc.AccessServiceServicer):
    """Thin: checks fields, throws dice for tokens, lets admission decide."""

    def __init__(self, leadership: Leadership, audit: Audit) -> None:
        self._leadership = leadership
        self._audit = audit

    async def WhoAmI(self, request: pb.WhoAmIRequest, context: Any) -> pb.WhoAmIResponse:
        known = caller()
        return pb.WhoAmIResponse(
            user=known.user,
            is_administrator=known.is_administrator,
            bindings=[pb.RoleBinding(user=known.user, role=each.role, queue=each.queue) for each in known.grants],
            via=known.via,
            sees_yard=all(may(known, Verb.READ, Thing(kind)) for kind in (Kind.JOB, Kind.HOST)),
        )

    async def BindRole(self, request: pb.BindRoleRequest, context: Any) -> pb.BindRoleResponse:
        binding, binder = _binding(request), caller()

        def decide(world: World, now: Instant) -> tuple[Any, Binding]:
            return identities.bind_role(world, binder, binding, now)

        return pb.BindRoleResponse(binding=_binding_message(await self._leadership.driver.request(decide)))

    async def UnbindRole(self, request: pb.UnbindRoleRequest, context: Any) -> pb.UnbindRoleResponse:
        binding, binder = _binding(request), caller()

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return identities.unbind_role(world, binder, binding), None

        await self._leadership.driver.request(decide)
        return pb.UnbindRoleResponse()

    async def ListBindings(self, request: pb.ListBindingsRequest, context: Any) -> pb.ListBindingsResponse:
        size, after = page_size(request.page_size), decode_token(LISTED_BINDINGS, request.page_token)
        out: Violations = []
        check_text(out, "user", request.user, limits.USER_LENGTH_MAX)
        refuse(out)
        reader = caller()

        def look(world: World) -> pb.ListBindingsResponse:
            names = sorted(
                name
                for name, each in world.bindings.items()
                if name > after and request.user in ("", each.user) and identities.may_see(reader, each)
            )
            return pb.ListBindingsResponse(
                bindings=[_binding_message(world.bindings[name]) for name in names[:size]],
                next_page_token=encode_token(LISTED_BINDINGS, names[size - 1]) if len(names) > size else "",
            )

        return await self._leadership.driver.read(look)

    async def CreateToken(self, request: pb.CreateTokenRequest, context: Any) -> pb.CreateTokenResponse:
        out: Violations = []
        identities.check_token(out, request.user, request.description, request.ttl_s)
        refuse(out)
        maker, secret = caller(), secrets.token_urlsafe(SECRET_BYTES)
        record = Token(
            id=secrets.token_hex(ID_BYTES),
            user=request.user,
            sha256=hashlib.sha256(secret.encode()).digest(),
            description=request.description,
        )

        def decide(world: World, now: Instant) -> tuple[Any, Token]:
            event = identities.create_token(world, maker, record, request.ttl_s, now)
            return event, event.token

        made = await self._leadership.driver.request(decide)
        return pb.CreateTokenResponse(info=_token_message(made), token=f"{TOKEN_PREFIX}{made.id}_{secret}")

    async def ListTokens(self, request: pb.ListTokensRequest, context: Any) -> pb.ListTokensResponse:
        size, after = page_size(request.page_size), decode_token(LISTED_TOKENS, request.page_token)
        reader = caller()

        def look(world: World) -> pb.ListTokensResponse:
            ids = sorted(
                token_id for token_id, each in world.tokens.items() if token_id > after and _may_read(reader, each)
            )
            return pb.ListTokensResponse(
                tokens=[_token_message(world.tokens[each]) for each in ids[:size]],
                next_page_token=encode_token(LISTED_TOKENS, ids[size - 1]) if len(ids) > size else "",
            )

        return await self._leadership.driver.read(look)

    async def RevokeToken(self, request: pb.RevokeTokenRequest, context: Any) -> pb.RevokeTokenResponse:
        changer = caller()

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return identities.revoke_token(world, changer, request.id), None

        await self._leadership.driver.request(decide)
        return pb.RevokeTokenResponse()

    async def GetAuditHead(self, request: pb.GetAuditHeadRequest, context: Any) -> pb.GetAuditHeadResponse:
        folder, head = self._audit.folder, self._audit.head
        if folder is None:
            return pb.GetAuditHeadResponse()
        return pb.GetAuditHeadResponse(folder=str(folder.absolute()), seq=head.seq, sha256=head.sha256)


def _may_read(reader: Principal, token: Token) -> bool:
    return may(reader, Verb.READ, identities.token_thing(token))


def _binding(request: pb.BindRoleRequest | pb.UnbindRoleRequest) -> Binding:
    """
    Return the binding that a request means.

    Raises:
        InvalidArgumentError: a field breaks a rule.
    """
    out: Violations = []
    identities.check_user(out, "user", request.user)
    identities.check_role(out, request.role, request.queue)
    if request.queue:
        check_name(out, "queue", request.queue)
    refuse(out)
    return Binding(user=request.user, role=Role(request.role), queue=request.queue)


def _binding_message(binding: Binding) -> pb.RoleBinding:
    return pb.RoleBinding(
        user=binding.user,
        role=binding.role,
        queue=binding.queue,
        created_at_ms=binding.created_at_ms,
        created_by=binding.created_by,
    )


def _token_message(token: Token) -> pb.TokenInfo:
    return pb.TokenInfo(
        id=token.id,
        user=token.user,
        description=token.description,
        created_at_ms=token.created_at_ms,
        expires_at_ms=token.expires_at_ms,
    )
