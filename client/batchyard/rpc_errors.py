"""
RPC errors: what a controller said was wrong, or gRPC itself, as errors of ours.

A controller says why in ``google.rpc`` details: an ErrorInfo always, a BadRequest
where fields break rules. What comes without is gRPC's own, which has only texts; this
is the one place that reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from batchyard import errors
from batchyard.errors import Reason
from batchyard.v1 import job_pb2

_CLASSES: dict[grpc.StatusCode, type[errors.BatchyardError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhaustedError,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: errors.UnauthenticatedError,
    grpc.StatusCode.UNIMPLEMENTED: errors.RequestError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    # The server's doing: our own cancelling raises asyncio.CancelledError.
    grpc.StatusCode.CANCELLED: errors.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
}

_REFUSALS: dict[str, type[errors.RequestError]] = {
    "NotFound": errors.NotFoundError,
    "AlreadyExists": errors.AlreadyExistsError,
    "FailedPrecondition": errors.FailedPreconditionError,
    "ResourceExhausted": errors.ResourceExhaustedError,
    "Unauthenticated": errors.UnauthenticatedError,
    "PermissionDenied": errors.PermissionDeniedError,
}

_HANDSHAKE = ("handshake", "verification check", "certificate_verify_failed")

_BROKEN_STREAM = ("RST_STREAM", "Stream removed", "Socket closed", "GOAWAY")

D = TypeVar("D", error_details_pb2.BadRequest, error_details_pb2.ErrorInfo)


def error_from_rpc(err: grpc.aio.AioRpcError, address: str) -> errors.BatchyardError:
    """Build our error from a gRPC one, its ``google.rpc`` details included."""
    text = err.details() or err.code().name
    kind = _CLASSES.get(err.code(), errors.InternalError)
    info = next(_details(err, error_details_pb2.ErrorInfo), None)
    if info is None:
        if (lost := _lost_connection(kind, text, address)) is not None:
            return lost
        info = error_details_pb2.ErrorInfo()
    if kind is errors.InvalidArgumentError:
        violations = tuple(
            errors.Violation(violation.field, violation.description, violation.reason or Reason.INVALID_VALUE)
            for bad in _details(err, error_details_pb2.BadRequest)
            for violation in bad.field_violations
        )
        return errors.InvalidArgumentError(text, violations, reason=info.reason, metadata=info.metadata)
    if kind is errors.UnavailableError and info.reason not in errors.HOST_AWAY:
        text = f"the controller at {address} is not available: {text}"
    elif kind is errors.DeadlineExceededError:
        text = f"the controller at {address} did not answer in time ({text})"
    return kind(text, reason=info.reason, metadata=info.metadata)


def error_from_refusal(refusal: job_pb2.SubmitRefusal) -> errors.RequestError:
    """Build the error that a job's submission alone would have raised, from the refusal of one job of many."""
    if refusal.code == "InvalidArgument":
        violations = tuple(
            errors.Violation(each.field, each.message, each.reason or Reason.INVALID_VALUE)
            for each in refusal.violations
        )
        return errors.InvalidArgumentError(
            refusal.message, violations, reason=refusal.reason, metadata=refusal.metadata
        )
    kind = _REFUSALS.get(refusal.code, errors.RequestError)
    return kind(refusal.message, reason=refusal.reason, metadata=refusal.metadata)


def _lost_connection(kind: type[errors.BatchyardError], text: str, address: str) -> errors.UnavailableError | None:
    """Return the error for a text of gRPC's which says that nobody was reached, or was lost."""
    if any(sign in text for sign in _BROKEN_STREAM):
        broke = f"the connection to the controller at {address} broke"
        return errors.UnavailableError(broke, reason=Reason.CONNECTION_BROKEN)
    if kind is not errors.UnavailableError:
        return None
    if "failed to connect" in text.lower() or "connections to all backends" in text.lower():
        cause = text.rpartition(": ")[2]
        if any(sign in text.lower() for sign in _HANDSHAKE):
            cause = "who answers there is no controller of this yard, or speaks no TLS"
    elif "resolution failed" in text.lower() or "errors resolving" in text:
        cause = "the name does not resolve"
    else:
        return None
    unreached = f"cannot reach the controller at {address} ({cause})"
    return errors.UnavailableError(unreached, reason=Reason.CONTROLLER_UNREACHABLE)


def _details(err: grpc.aio.AioRpcError, kind: type[D]) -> Iterator[D]:
    for key, value in err.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for packed in status_pb2.Status.FromString(value).details:
                detail = kind()
                if packed.Unpack(detail):
                    yield detail
