"""
Errors as AWS's services tell them: a code, a sentence, a status.

It must never know how a protocol writes them. Law: what a caller did wrong is a 4xx
and is not worth a second try; what the yard could not do is a 5xx, which every AWS
SDK tries again by itself.
"""

from __future__ import annotations


class ApiError(Exception):
    """
    An answer that is an error.

    Attributes:
        code: AWS's word for it, such as ``ClientException``.
        message: The sentence for the caller.
        status: HTTP status.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status

    def told(self, request_id: str) -> str:
        """Return the sentence as it is told to the caller of one request."""
        return self.message


class ClientException(ApiError):  # noqa: N818  # AWS's name
    """The request is at fault (AWS Batch: ClientException, 400)."""

    def __init__(self, message: str) -> None:
        super().__init__("ClientException", message)


class ExecutionException(ClientException):
    """A ClientException that AWS Batch tells in its longer form, with the request's id."""

    def told(self, request_id: str) -> str:
        """Return the sentence in its longer form."""
        return f"Error executing request, Exception : {self.message}, RequestId: {request_id}"


class ServerException(ApiError):  # noqa: N818  # AWS's name
    """The yard failed; trying again may work (AWS Batch: ServerException, 500)."""

    def __init__(self, message: str) -> None:
        super().__init__("ServerException", message, 500)


class TooManyRequestsException(ApiError):  # noqa: N818  # AWS's name
    """The gateway's own limit of calls a second is reached."""

    def __init__(self) -> None:
        super().__init__("TooManyRequestsException", "Too Many Requests", 429)


class BusyException(ApiError):  # noqa: N818  # as its kin
    """As many requests as are good are under way."""

    def __init__(self) -> None:
        super().__init__("ServiceUnavailableException", "Too many requests are under way; try again.", 503)


class UnknownOperationException(ApiError):  # noqa: N818  # AWS's name
    """There is no such operation."""

    def __init__(self, message: str, status: int = 404) -> None:
        super().__init__("UnknownOperationException", message, status)
