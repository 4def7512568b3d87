"""
The gate of users' port: nobody calls anything there without a token.

One token is known, the first administrator's, who may do everything.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from batchyard.errors import Reason, UnauthenticatedError
from batchyard_controller.administrator import Administrator, split_token

OPEN = frozenset({"/batchyard.v1.JoinService/GetTrust", "/batchyard.v1.JoinService/Join"})
"""Calls for who has no token yet; a host's own says what it may."""
HEALTH = "/grpc.health.v1.Health/"
BEARER = "Bearer "


class TokenGate(grpc.aio.ServerInterceptor):
    """
    Lets calls through that carry the administrator's token.

    Args:
        administrator: Who that is; None lets nobody through.
        read_wall_ms: The clock.
    """

    def __init__(self, administrator: Administrator | None, read_wall_ms: Callable[[], int]) -> None:
        self._administrator = administrator
        self._read_wall_ms = read_wall_ms

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler that *continuation* finds, or one that refuses."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None or method in OPEN or method.startswith(HEALTH):
            return handler
        refusal = self._refusal(dict(handler_call_details.invocation_metadata or ()).get("authorization", ""))
        return handler if refusal is None else _refusing(handler, refusal, is_ours=method.startswith("/batchyard."))

    def _refusal(self, given: str | bytes) -> UnauthenticatedError | None:
        if not given:
            text = "no token came with the call; give the client credentials of this yard (BATCHYARD_CREDENTIALS=FILE)"
            return UnauthenticatedError(text, reason=Reason.NO_CREDENTIALS)
        known = self._administrator
        token_id, secret_hash = split_token(str(given).removeprefix(BEARER))
        is_good = (
            known is not None
            and hmac.compare_digest(token_id.encode(), known.token_id.encode())
            and hmac.compare_digest(secret_hash, known.token_sha256)
            and self._read_wall_ms() < known.expires_at_ms
        )
        if is_good:
            return None
        return UnauthenticatedError("this token is none, or has expired", reason=Reason.BAD_CREDENTIALS)


def _refusing(handler: Any, refusal: UnauthenticatedError, *, is_ours: bool) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a handler of the same form that reads nothing and refuses."""

    async def answer(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if is_ours:
            raise refusal
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(refusal))

    async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        yield await answer(request, context)

    codecs = (handler.request_deserializer, handler.response_serializer)
    if handler.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(answer, *codecs)
    if handler.unary_stream is not None:
        return grpc.unary_stream_rpc_method_handler(stream, *codecs)
    return grpc.stream_stream_rpc_method_handler(stream, *codecs)
