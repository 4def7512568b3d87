"""
Streaming: answers that are sent as they come, to browsers that may not take them.

Law: no more than a piece is held for a browser, and one that takes nothing for minutes is let go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import structlog
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from batchyard.errors import BatchyardError

UNTAKEN_S = 300.0
"""How long a browser may take nothing: a paused download goes on within it."""

log = structlog.get_logger()


class Streaming(StreamingResponse):
    """
    An answer in parts.

    Args:
        parts: What is sent; closed at the end, however it comes.
        headers: Of the answer.
        media_type: Of the answer.
    """

    def __init__(self, parts: AsyncGenerator[bytes, None], *, headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(parts, headers=headers, media_type=media_type)
        self._parts = parts

    async def stream_response(self, send: Send) -> None:
        """Send the parts, as fast as they are taken."""

        async def patiently(message: Message) -> None:
            async with asyncio.timeout(UNTAKEN_S):
                await send(message)

        try:
            async with aclosing(self._parts):
                await super().stream_response(patiently)
        except (TimeoutError, BatchyardError) as err:
            # What was begun cannot be taken back: without its end the browser knows that it broke off.
            log.warning("an answer broke off", error=str(err) or "the browser does not take it")


async def first_of(parts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield the first part alone and close the rest: who asks for a head gets none of it, and waits for no end."""
    async with aclosing(parts):
        async for part in parts:
            yield part
            return
