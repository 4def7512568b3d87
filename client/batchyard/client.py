"""
The SDK's client for asyncio. :class:`batchyard.sync.Client` is the same without ``await``.

Reads return the contract's own messages (``batchyard.v1``). Wrong Python types are
refused before any call; rules of the service are the controller's to check.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from pathlib import Path
from types import TracebackType
from typing import Self

from batchyard import arguments, settings
from batchyard.access_calls import AccessCalls
from batchyard.connection import Connection
from batchyard.entry_calls import EntryCalls
from batchyard.errors import WorldError
from batchyard.event_calls import EventCalls
from batchyard.job_calls import JobCalls
from batchyard.job_lists import JobLists
from batchyard.join_token_calls import JoinTokenCalls
from batchyard.overview_calls import OverviewCalls
from batchyard.secret_calls import SecretCalls
from batchyard.sharing_calls import SharingCalls
from batchyard.submit_calls import SubmitCalls
from batchyard.tag_calls import TagCalls
from batchyard.yard_calls import YardCalls

ACCESS_KEY = "batchyard-access-key"
ROLE = "batchyard-role"
"""Metadata of calls: for whom, and as what."""

ACTING_MAX = 1_000
"""Most that one client acts for at once; those that were not asked for longest are made anew."""


class AsyncClient(
    JobCalls,
    EntryCalls,
    JobLists,
    SubmitCalls,
    YardCalls,
    OverviewCalls,
    EventCalls,
    SharingCalls,
    TagCalls,
    SecretCalls,
    AccessCalls,
    JoinTokenCalls,
):
    """
    A client of one controller, for asyncio.

    It connects with its first call and belongs to the event loop of that call.

    Args:
        address: ``host:port`` or ``unix:/path``; several with commas are controllers of one
            yard, of which the one that leads is found. Default: ``BATCHYARD_ADDRESS``, else
            the settings file, else the socket of this user's controller, else where the
            credentials say. For a port credentials are needed.
        credentials: The file of what is needed for a port. Default: ``BATCHYARD_CREDENTIALS``, else the
            settings file, else the user's own.
        context: The name of a context that says both (`batchyard.contexts`). Default:
            ``BATCHYARD_CONTEXT``, else the one in use.
        timeout_s: Deadline of each call. Default: settings, else 30.
        retry_s: How long ``submit_job`` is repeated while the controller is away.
            Default: settings, else 30.
        on_retry: Called with the error each time a call is about to be repeated.
        on_stale: Called where nobody leads, as the store is away, and a controller answers a read with what it knew
            last: with since when that may be out of date, as milliseconds by its clock. None: such reads fail.
        role: The one role that it keeps of all that whoever it is may be, as ``gateway``; empty: all.

    Raises:
        InvalidArgumentError: an argument or a setting is broken.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        credentials: Path | None = None,
        context: str | None = None,
        timeout_s: float | None = None,
        retry_s: float | None = None,
        on_retry: Callable[[WorldError], None] = lambda _: None,
        on_stale: Callable[[int], None] | None = None,
        role: str = "",
    ) -> None:
        found = settings.client_settings(context=context)
        self._connection = Connection(
            addresses=found.address
            if address is None
            else settings.parse_addresses(arguments.text("address", address)),
            credentials=found.credentials if credentials is None else credentials,
            is_insecure=found.is_insecure,
            timeout_s=found.timeout_s if timeout_s is None else arguments.seconds("timeout_s", timeout_s),
            retry_s=found.retry_s if retry_s is None else arguments.seconds("retry_s", retry_s),
            on_retry=on_retry,
            metadata=[(ROLE, arguments.text("role", role))] if role else [],
            on_stale=on_stale,
        )
        self._acting: OrderedDict[str, AsyncClient] = OrderedDict()

    def acting_for(self, access_key_id: str) -> AsyncClient:
        """
        Return a client over the same connection that may what the owner of an access key may, and no more.

        For gateways, who have seen that a request was signed with it. It ends with this one.
        """
        client = self._acting.get(access_key_id)
        if client is None:
            client = self._acting[access_key_id] = copy(self)
            vars(client).pop("calls", None)
            vars(client)["_connection"] = self._connection.carrying((ACCESS_KEY, access_key_id))
            while len(self._acting) > ACTING_MAX:
                self._acting.popitem(last=False)
        else:
            self._acting.move_to_end(access_key_id)
        return client

    @property
    def address(self) -> str:
        """Where the controller is expected."""
        return ",".join(self._connection.addresses)

    async def close(self) -> None:
        """Close the connection. The client cannot be used afterwards."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
