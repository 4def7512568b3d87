"""
Staleness: which answers of the gateway show what a controller knew before its store was away.

The client says so of each read; the answer that it went into bears a header, and a page of the
console a line. AWS's clients know no such thing, and read on.
"""

from __future__ import annotations

from contextvars import ContextVar
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-batchyard-stale-since"
_SINCE_MS: ContextVar[list[int] | None] = ContextVar("stale_since_ms", default=None)
"""Of the request that is being answered: since when what was read for it may be out of date."""


def note(since_ms: int) -> None:
    """Take that what has been read may be out of date since then."""
    noted = _SINCE_MS.get()
    if noted is not None:
        noted.append(since_ms)


def stale_since() -> str:
    """Say since when what is shown may be out of date; empty: it is not."""
    noted = _SINCE_MS.get()
    return f"{datetime.fromtimestamp(min(noted) / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}" if noted else ""


class Marking:
    """Puts the header on answers of *application* that are stale."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        _SINCE_MS.set([])

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start" and (since := stale_since()):
                message = {**message, "headers": [*message.get("headers", ()), (HEADER, since.encode())]}
            await send(message)

        await self._application(scope, receive, marked)
