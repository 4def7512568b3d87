"""
Services: what the gateway answers for, as data.

A service is a name, a protocol and a table of operations; an operation is a handler
from input to output. To add a service, build a `Service` and give it to
`app.build`; to add an operation, add a row to its table. It must never know a server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from batchyard.client import AsyncClient

from .errors import ApiError
from .wire import Answer, Request

R = TypeVar("R", bound=Message)

Members = dict[str, Any]
"""An input or output: members by AWS's names, values as JSON has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """
    Who calls.

    Attributes:
        access_key_id: Of the key that signed.
    """

    access_key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """
    What a handler may use besides its input.

    Attributes:
        client: The SDK's, connected to the controller.
        principal: Who calls.
        account_id: For ARNs: twelve digits.
        region: For ARNs: the one that the request was signed for, else the gateway's.
        request_id: Of this request: what ``x-amzn-RequestId`` says.
        invocation_id: The same for each try that an SDK makes of one call; may be empty.
        amend: Adds to the request for the controller what AWS has no members for, once it was checked;
            for callers inside the gateway.
    """

    client: AsyncClient
    principal: Principal
    account_id: str
    region: str
    request_id: str
    invocation_id: str = ""
    amend: Callable[[Any], None] | None = None

    def amended(self, request: R) -> R:
        """Return a request for the controller with what was to be added to it: so both are one change, or none."""
        if self.amend is not None:
            self.amend(request)
        return request


Handler = Callable[[Context, Members], Awaitable[Members]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """
    One operation of a service.

    Attributes:
        name: AWS's, such as ``SubmitJob``.
        handler: From input to output; raises `ApiError` or the SDK's errors.
        is_change: It changes something, so that a signature must not serve twice.
        method: For REST: the HTTP method.
        path: For REST: the path; a last part in braces is a member, percent-encoded.
        query: For REST: members that come in the query, a list each.
    """

    name: str
    handler: Handler
    is_change: bool = False
    method: str = "POST"
    path: str = ""
    query: tuple[str, ...] = ()


class WireProtocol(Protocol):
    """How a service's requests are read and its answers written."""

    @property
    def content_types(self) -> Sequence[str]:
        """What bodies may be, in lower case and without parameters."""

    def operation(self, service: Service, request: Request) -> Operation:
        """
        Find the operation that a request is for.

        Raises:
            ApiError: there is none.
        """

    def read(self, operation: Operation, request: Request) -> Members:
        """
        Read the input.

        Raises:
            ApiError: it cannot be read.
        """

    def write(self, operation: Operation, output: Members, request_id: str) -> Answer:
        """Write the output."""

    def write_error(self, error: ApiError, request_id: str) -> Answer:
        """Write an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """
    One AWS service.

    Attributes:
        name: Its name in signatures, such as ``batch``.
        protocol: How it speaks.
        operations: By name.
        target_prefix: For JSON services: what stands before the dot of ``X-Amz-Target``.
    """

    name: str
    protocol: WireProtocol
    operations: Mapping[str, Operation]
    target_prefix: str = ""


class Guard(Protocol):
    """Who may call. Both raise `ApiError` (``code``, ``message``, ``status`` as AWS has them) to refuse."""

    async def admit_head(self, head: Request, source: str) -> None:
        """Look at a request's head before anything of its body is read; *source* is whom failures count against."""

    async def admit(self, request: Request, is_change: bool) -> Principal:
        """Say who sent a request whose head was admitted; the flag says that it changes something."""
