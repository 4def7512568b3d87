"""
Errors on the wire: one interceptor turns ours into status codes and google.rpc details.

Each status has an ErrorInfo: the error's reason and metadata. Broken rules of fields
follow in a BadRequest, each with a reason of its own. Anything that is not ours is a
bug: it is logged with its story and shown to the caller as INTERNAL without it. A
status is kept so short that it arrives: gRPC takes 8 KiB of metadata, and a longer
one hides the error behind another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import grpc
import structlog
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from batchyard.errors import (
    AlreadyExistsError,
    BatchyardError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    Reason,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    Violation,
)

DOMAIN = "batchyard"
TEXT_BYTES_MAX = 1024
"""Of a status' text, which travels twice, once with three bytes for each that is not ASCII."""
VIOLATIONS_MAX = 20
VIOLATION_BYTES_MAX = 512
METADATA_BYTES_MAX = 512
"""Of one value of the metadata: a name of any letters has fewer."""
FACTS_BYTES_MAX = 2048
"""Of a status' metadata and violations together."""

_CODES: dict[type[BatchyardError], grpc.StatusCode] = {
    InvalidArgumentError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    FailedPreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    ResourceExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
}


def status_of(error: BatchyardError) -> status_pb2.Status:
    """Return the status, with details, that stands for an error."""
    metadata = metadata_of(error)
    details = [_pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))]
    if isinstance(error, InvalidArgumentError) and error.violations:
        room = FACTS_BYTES_MAX - sum(map(_size, metadata.items()))
        details.append(_pack(error_details_pb2.BadRequest(field_violations=_violations(error.violations, room))))
    return status_pb2.Status(code=_code_of(error).value[0], message=_cut(str(error), TEXT_BYTES_MAX), details=details)


def metadata_of(error: BatchyardError) -> dict[str, str]:
    """Return as much of an error's metadata as may travel."""
    return {name: _cut(value, METADATA_BYTES_MAX) for name, value in error.metadata.items()}


def _violations(violations: tuple[Violation, ...], room: int) -> list[error_details_pb2.BadRequest.FieldViolation]:
    """Return as many violations as may travel, and a last one that counts the others."""
    told: list[Violation] = []
    for violation in violations:
        field, text = (_cut(part, VIOLATION_BYTES_MAX) for part in (violation.field, violation.message))
        room -= _size((field, text, violation.reason))
        if room < 0 or len(told) == VIOLATIONS_MAX:
            text = f"{len(violations) - len(told)} more rules are broken"
            told.append(Violation("request", text, Reason.MORE_VIOLATIONS))
            break
        told.append(Violation(field, text, violation.reason))
    make = error_details_pb2.BadRequest.FieldViolation
    return [make(field=each.field, description=each.message, reason=each.reason) for each in told]


def _size(texts: Iterable[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def _cut(text: str, bytes_max: int) -> str:
    encoded = text.encode()
    return text if len(encoded) <= bytes_max else encoded[: bytes_max - 3].decode(errors="ignore") + "..."


def _code_of(error: BatchyardError) -> grpc.StatusCode:
    return _CODES.get(type(error), grpc.StatusCode.INTERNAL)


def _pack(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of ours; other services pass unchanged."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler that *continuation* finds."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith("/batchyard."):
            return handler
        codecs = (_reader(handler.request_deserializer), handler.response_serializer)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(_guard_unary(handler.unary_unary, method), *codecs)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(_guard_stream(handler.unary_stream, method), *codecs)
        return grpc.stream_stream_rpc_method_handler(_guard_streams(handler.stream_stream, method), *codecs)


class _Unreadable:
    """Stands for bytes that are no request, until a handler can refuse them."""


def _reader(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """Read requests without raising: gRPC would answer UNKNOWN, the fault of nobody."""
    assert deserialize is not None, "generated services have one"

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _Unreadable()

    return read


def _readable(request: Any) -> Any:
    if isinstance(request, _Unreadable):
        text = "cannot be read: it is no message of this call, or a text in it is no UTF-8"
        raise InvalidArgumentError.from_violations([Violation("request", text, Reason.MALFORMED)])
    return request


def _guard_unary(handler: Any, method: str) -> Any:
    async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await handler(_readable(request), context)
        except Exception as err:  # noqa: BLE001  # every error is answered, none swallowed
            return await _answer(context, err, method)

    return guarded


def _guard_stream(handler: Any, method: str) -> Any:
    async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            async for response in handler(_readable(request), context):
                yield response
        except Exception as err:  # noqa: BLE001  # every error is answered, none swallowed
            await _answer(context, err, method)

    return guarded


def _guard_streams(handler: Any, method: str) -> Any:
    async def read(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            yield _readable(request)

    return _guard_stream(lambda requests, context: handler(read(requests), context), method)


def _is_stop(error: Exception) -> bool:
    """Say whether a call met the server's own end, which gRPC tells by a class without a public name."""
    return isinstance(error, grpc.aio.BaseError) and type(error).__name__ == "_ServerStoppedError"


async def _answer(context: grpc.aio.ServicerContext[Any, Any], error: Exception, method: str) -> None:
    if isinstance(error, grpc.aio.AbortError) or _is_stop(error):
        raise error
    if not isinstance(error, BatchyardError):
        structlog.get_logger().error("request failed", method=method, exc_info=error)
        error = InternalError("internal error; the controller's log has its story")
    status = status_of(error)
    await context.abort(_code_of(error), status.message, (("grpc-status-details-bin", status.SerializeToString()),))
