"""
Calls about join tokens, with which hosts join a yard.

Thin: arguments are checked, one request is sent, its answer returned.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from batchyard import arguments
from batchyard.calls import Caller
from batchyard.v1 import join_token_pb2 as pb


class JoinTokenCalls(Caller):
    """The part of the client that is about join tokens."""

    async def create_join_token(
        self, *, ttl_s: int = 0, uses: int = 0, host_name: str = "", networks: Sequence[str] = (), speaks_for: str = ""
    ) -> pb.CreateJoinTokenResponse:
        """
        Make a token with which hosts join. Keep its ``token``: it is told here and never again.

        Args:
            ttl_s: How long it is good, from 60 to 2,592,000 seconds; 0: one hour.
            uses: How many hosts may join with it, at most 10,000; 0: one.
            host_name: What they must be called; with ``*`` at its end what that begins with. Default: anything.
            networks: From where they must come, such as ``10.0.0.0/24``. Default: from anywhere.

            speaks_for: For hosts of which names who joins speaks as well, as the agent of a cluster's nodes. Default: none.

        Raises:
            FailedPreconditionError: the controller has no CA.
        """
        request = pb.CreateJoinTokenRequest(
            ttl_s=arguments.integer("ttl_s", ttl_s),
            uses=arguments.integer("uses", uses, bits=32),
            host_name=arguments.text("host_name", host_name),
            networks=arguments.texts("networks", networks),
            speaks_for=arguments.text("speaks_for", speaks_for),
        )
        return await self.calls.create_join_token(request)

    async def list_join_tokens(self, *, page_size: int = 100) -> AsyncGenerator[pb.JoinToken, None]:
        """Iterate over tokens that are still good for something, in the order of their ids."""
        request = pb.ListJoinTokensRequest(page_size=arguments.integer("page_size", page_size, bits=32))
        while True:
            page = await self.calls.list_join_tokens(request)
            for token in page.join_tokens:
                yield token
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def revoke_join_token(self, join_token_id: str) -> None:
        """Let nobody join with a token any more; who has joined stays."""
        request = pb.RevokeJoinTokenRequest(id=arguments.text("join_token_id", join_token_id))
        await self.calls.revoke_join_token(request)
