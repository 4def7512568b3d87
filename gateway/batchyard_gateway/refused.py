"""Refused: what all of AWS's services say alike to a caller who may not do something, or not so often."""

from __future__ import annotations

from batchyard.errors import PermissionDeniedError, Reason, RequestError, UnauthenticatedError

from .errors import ApiError, TooManyRequestsException


def refused(error: RequestError) -> ApiError | None:
    """Return the error for a caller whom the controller turned away; None where it was the request (AWS: CommonErrors)."""
    if isinstance(error, PermissionDeniedError):
        return ApiError("AccessDeniedException", str(error), 403)
    if isinstance(error, UnauthenticatedError):
        text = "The security token included in the request is invalid."
        return ApiError("UnrecognizedClientException", text, 403)
    return TooManyRequestsException() if error.reason == Reason.TOO_MANY_CALLS else None
