"""What callbacks of the event loop raise, which nobody awaits: it ends the agent."""

from __future__ import annotations

import asyncio
from typing import Any


async def broken() -> None:
    """
    Fail with the first error that a callback of the event loop raises.

    Runtimes work in callbacks; one that breaks may have lost an attempt from
    sight. The next agent finds it again.
    """
    loop = asyncio.get_running_loop()
    broken: asyncio.Future[None] = loop.create_future()

    def on_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        error = context.get("exception")
        # Errors that nobody fetched from a task were somebody's business. The poller of
        # grpc.aio raises BlockingIOError when it was woken for nothing.
        is_stray = "future" in context or "task" in context or isinstance(error, BlockingIOError)
        if isinstance(error, Exception) and not is_stray and not broken.done():
            broken.set_exception(error)

    loop.set_exception_handler(on_error)
    await broken
