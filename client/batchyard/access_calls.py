"""
Calls about who may do what: roles of users, their tokens, and who the caller is.

Thin: arguments are checked, one request is sent, its answer returned.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from batchyard import arguments
from batchyard.calls import Caller
from batchyard.v1 import access_pb2 as pb


class AccessCalls(Caller):
    """The part of the client that is about users, roles and tokens."""

    async def get_login(self) -> pb.GetLoginResponse:
        """Return with which OpenID provider users of the yard log in; ``issuer`` is empty where there is none."""
        return await self.calls.get_login(pb.GetLoginRequest(), retry=True)

    async def who_am_i(self) -> pb.WhoAmIResponse:
        """Return who this client is to the controller, and what they may be."""
        return await self.calls.who_am_i(pb.WhoAmIRequest())

    async def bind_role(self, user: str, role: str, *, queue: str = "") -> pb.RoleBinding:
        """
        Give a user a role; one that they have already stays.

        Args:
            user: Up to 64 letters, digits and ``._@+-``.
            role: ``viewer``, ``submitter``, ``queue-admin``, ``operator``, ``security-admin``,
                ``gateway`` or ``metrics``.
            queue: Where it counts; empty: in the whole yard.

        Raises:
            PermissionDeniedError: the caller may not give it.
            NotFoundError: there is no such queue.
        """
        request = arguments.request(pb.BindRoleRequest, user=user, role=role, queue=queue)
        return (await self.calls.bind_role(request)).binding

    async def unbind_role(self, user: str, role: str, *, queue: str = "") -> None:
        """
        Take a role from a user.

        Raises:
            PermissionDeniedError: the caller may not take it.
            NotFoundError: they do not have it.
        """
        await self.calls.unbind_role(arguments.request(pb.UnbindRoleRequest, user=user, role=role, queue=queue))

    async def list_bindings(self, *, user: str = "", page_size: int = 100) -> AsyncGenerator[pb.RoleBinding, None]:
        """Iterate over who has which role where, as far as the caller may see it; of one user, if one is named."""
        request = arguments.request(pb.ListBindingsRequest, user=user, page_size=page_size)
        while True:
            page = await self.calls.list_bindings(request)
            for binding in page.bindings:
                yield binding
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def create_token(self, user: str, *, description: str = "", ttl_s: int = 0) -> pb.CreateTokenResponse:
        """
        Make a token of a user. Keep its ``token``: it is told here and never again.

        Args:
            user: As whom its bearer is known.
            description: At most 256 characters.
            ttl_s: How long it is good, in seconds; 0 means 30 days, at most 90 days.

        Raises:
            PermissionDeniedError: the caller may not make it.
        """
        request = arguments.request(pb.CreateTokenRequest, user=user, description=description, ttl_s=ttl_s)
        return await self.calls.create_token(request)

    async def list_tokens(self, *, page_size: int = 100) -> AsyncGenerator[pb.TokenInfo, None]:
        """Iterate over tokens that the caller may see, in the order of their ids."""
        request = arguments.request(pb.ListTokensRequest, page_size=page_size)
        while True:
            page = await self.calls.list_tokens(request)
            for token in page.tokens:
                yield token
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def revoke_token(self, token_id: str) -> None:
        """Revoke a token for ever."""
        await self.calls.revoke_token(pb.RevokeTokenRequest(id=arguments.text("token_id", token_id)))

    async def get_audit_head(self) -> pb.GetAuditHeadResponse:
        """Return where the controller keeps its audit log, and where that has come to."""
        return await self.calls.get_audit_head(pb.GetAuditHeadRequest(), retry=True)
