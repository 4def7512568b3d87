"""
Authorizer: of every call, who makes it, whether they may, and that it is remembered.

It stands before all handlers and within the one that answers errors. Who calls is found
in the published directory, without waiting; what the request alone shows is asked of the
table here, what hangs on the world is asked in its turn by the services, as the same
caller. Laws: a call without a row never gets here; a stream ends when the rights are no
longer those with which it began; and a change is answered after its line in the audit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from batchyard.errors import (
    BatchyardError,
    PermissionDeniedError,
    Reason,
    RequestError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from batchyard_controller.audit import Audit
from batchyard_controller.core.access.directory import Credentials, identify
from batchyard_controller.core.access.roles import THE_ADMINISTRATOR, Principal, Verb
from batchyard_controller.core.access.table import ROWS, Place, Row, require_rows
from batchyard_controller.core.model.identities import Token
from batchyard_controller.core.requests.permission import denied
from batchyard_controller.doors import Door, Peer, PeerKind
from batchyard_controller.driver import ALLOWS_STALE
from batchyard_controller.issuer import Issuer, is_web_token
from batchyard_controller.leadership import Leadership
from batchyard_controller.throttles import Throttles

from .callers import CALLER

ACCESS_KEY_METADATA = "batchyard-access-key"
ROLE_METADATA = "batchyard-role"
STALE_METADATA = "batchyard-stale"
"""See `batchyard.connection`."""
_BEARER = "bearer "
_HEALTH = "/grpc.health.v1.Health/"
_REFLECTION = "/grpc.reflection"
_VOUCHED = (PeerKind.LOCAL, PeerKind.PLAIN)
"""Doors by which the administrator alone comes, as the kernel, or who started the controller for a test, says."""


def methods_of(services: Iterable[str]) -> dict[str, type[Message]]:
    """
    Return the answers of all calls of services, by the calls' paths.

    Raises:
        TypeError: of a call the table of access says nothing.
    """
    pool = descriptor_pool.Default()
    found = {
        f"/{service}/{method.name}": GetMessageClass(method.output_type)
        for service in services
        for method in pool.FindServiceByName(service).methods
    }
    require_rows(found)
    return found


class _Call:
    """One call under way: what it came with, and what is asked of it."""

    def __init__(self, method: str, row: Row, metadata: Iterable[tuple[str, str | bytes]], peer: Peer) -> None:
        self.method, self.row, self.peer = method, row, peer
        given = dict(metadata)
        self.takes_stale = STALE_METADATA in given
        bearer = str(given.get("authorization", ""))
        self.credentials = Credentials(
            is_local=peer.kind in _VOUCHED,
            host_id=peer.host_id,
            bearer=bearer[len(_BEARER) :] if bearer[: len(_BEARER)].lower() == _BEARER else bearer,
            access_key_id=str(given.get(ACCESS_KEY_METADATA, "")),
            role=str(given.get(ROLE_METADATA, "")),
        )


_LOCAL = Credentials(is_local=True)
_KNOWN = Row(verb=Verb.READ, kind=None, place=Place.KNOWN)


class Authorizer(grpc.aio.ServerInterceptor):
    """
    Lets calls through to their handlers.

    Args:
        answers: Of each call the type of its answer, by its path; see `methods_of`.
        leadership: Whose directory is asked.
        door: Of the listener.
        audit: Where changes and refusals are written.
        throttles: How often may be called, and failed.
        now_ms: The wall clock.
        administrator: The token that the yard was set up with; None: none.
        issuer: The provider that vouches for users; None: none does.
    """

    def __init__(
        self,
        answers: Mapping[str, type[Message]],
        leadership: Leadership,
        door: Door,
        audit: Audit,
        throttles: Throttles,
        now_ms: Callable[[], int],
        administrator: Token | None = None,
        issuer: Issuer | None = None,
    ) -> None:
        self._answers = answers
        self._leadership = leadership
        self._door = door
        self._audit = audit
        self._throttles = throttles
        self._now_ms = now_ms
        self._administrator = administrator
        self._issuer = issuer

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler that *continuation* finds."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        metadata = handler_call_details.invocation_metadata
        if handler is None or method.startswith(_HEALTH):
            return handler
        if method not in self._answers:
            return handler if self._door.kind in _VOUCHED else self._foreign(handler, metadata)

        def begin(context: Any) -> _Call:
            return _Call(method, ROWS[method], metadata, self._door.peer(context))

        codecs = (handler.request_deserializer, handler.response_serializer)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._unary(handler.unary_unary, begin), *codecs)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(self._stream(handler.unary_stream, begin), *codecs)
        return grpc.stream_stream_rpc_method_handler(self._streams(handler.stream_stream, begin), *codecs)

    def _foreign(self, handler: Any, metadata: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """Let whoever is somebody make a call that is not of the contract, such as reflection."""
        assert handler.stream_stream is not None, "there are no others"

        async def guarded(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            try:
                self._identify(await self._learnt(_Call(_REFLECTION, _KNOWN, metadata, self._door.peer(context))))
            except RequestError as error:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
            async for answer in handler.stream_stream(requests, context):
                yield answer

        return grpc.stream_stream_rpc_method_handler(guarded, handler.request_deserializer, handler.response_serializer)

    def _unary(self, handle: Any, begin: Callable[[Any], _Call]) -> Any:
        async def guarded(request: Any, context: Any) -> Any:
            call = await self._learnt(begin(context))
            self._allow_stale(call, context)
            principal = Principal() if call.row.place is Place.OPEN else self._enter(call, request)
            if principal is None:
                return self._answers[call.method]()
            try:
                answer = await handle(request, context)
            except BatchyardError as error:
                if call.row.place is Place.OPEN and isinstance(error, UnauthenticatedError):
                    self._count_failure(call, error)
                self._note(call, principal, request, error)
                raise
            if call.row.is_change:
                await self._audit.write_together(call.method, call.row, call.peer, principal, request)
            return answer

        return guarded

    def _allow_stale(self, call: _Call, context: Any) -> None:
        """Where there is no leader let who asks for it, and changes nothing, have what was known last, marked."""
        if call.takes_stale and not call.row.is_change and (since_ms := self._leadership.stale_since_ms):
            ALLOWS_STALE.set(True)
            context.set_trailing_metadata(((STALE_METADATA, str(since_ms)),))

    def _stream(self, handle: Any, begin: Callable[[Any], _Call]) -> Any:
        async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
            call = await self._learnt(begin(context))
            principal = self._enter(call, request)
            try:
                async for answer in handle(request, context):
                    self._require_same(call, principal)
                    yield answer
            except BatchyardError as error:
                self._note(call, principal, request, error)
                raise

        return guarded

    def _streams(self, handle: Any, begin: Callable[[Any], _Call]) -> Any:
        async def guarded(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            call = await self._learnt(begin(context))
            principal = self._enter(call, None)
            first: Any = None
            is_entry, is_noted = call.row.verb is Verb.ENTER, False

            async def same() -> AsyncIterator[Any]:
                nonlocal first
                async for request in requests:
                    first = first or request  # which says what it is about
                    self._require_same(call, principal)
                    yield request

            try:
                async for answer in handle(same(), context):
                    if not is_entry:
                        self._note(call, principal, answer)
                    else:
                        self._require_same(call, principal)
                        if not is_noted:  # once, before anything is shown
                            assert principal is not None, "nobody is shown an empty entry"
                            self._audit.write(call.method, call.row, call.peer, principal, first)
                            is_noted = True
                    yield answer
            except BatchyardError as error:
                self._note(call, principal, first, error)
                raise

        return guarded

    def _enter(self, call: _Call, request: Any) -> Principal | None:
        """
        Return who calls, and let the handler know; None: they are to be shown nothing.

        Raises:
            RequestError: nobody is known by the credentials, they call too often, or they may not.
        """
        principal = self._identify(call)
        self._throttles.take(principal)
        if not call.row.admits(principal, request):
            if call.row.place is Place.LIST:
                return None
            kind = f"any {call.row.kind}" if call.row.place is Place.WORLD else f"this {call.row.kind}"
            error = denied(principal, f"{call.row.verb} {kind}")
            self._note(call, principal, request, error)
            raise error
        CALLER.set(principal)
        return principal

    async def _learnt(self, call: _Call) -> _Call:
        """Return a call once its provider's key is known, if it can be; all others at once."""
        if self._issuer is not None and is_web_token(call.credentials.bearer):
            await self._issuer.learn(call.credentials.bearer)
        return call

    def _identify(self, call: _Call) -> Principal:
        credentials = call.credentials
        if credentials == _LOCAL:
            return THE_ADMINISTRATOR
        try:
            if self._issuer is not None and is_web_token(credentials.bearer):
                credentials = replace(credentials, login=self._issuer.login(credentials.bearer))
            return identify(self._leadership.driver.directory, credentials, self._now_ms(), self._administrator)
        except RequestError as error:
            self._count_failure(call, error)
            self._note(call, Principal(), None, error)
            raise

    def _count_failure(self, call: _Call, error: RequestError) -> None:
        """
        Count who failed to show who they are.

        Raises:
            ResourceExhaustedError: they have too often, to be told why, or to be written down.
        """
        if not self._throttles.fail(call.peer.address):
            text = "too many calls of this source have failed of late; wait a minute"
            raise ResourceExhaustedError(text, reason=Reason.TOO_MANY_CALLS) from error

    def _require_same(self, call: _Call, principal: Principal | None) -> None:
        if call.credentials != _LOCAL and self._identify(call) != principal:
            text = "the rights of the caller have changed; call again"
            raise UnavailableError(text, reason=Reason.RIGHTS_CHANGED)

    def _note(
        self, call: _Call, principal: Principal | None, request: Any, error: BatchyardError | None = None
    ) -> None:
        """Write what is worth remembering: changes, and who was turned away."""
        is_refusal = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        if principal is None or not (call.row.is_change or is_refusal):
            return
        self._audit.write(call.method, call.row, call.peer, principal, request, error)
