"""
Blocking calls, made from the event loop: threads, and patience with a silent engine.

It knows nothing of Docker but the error for "no answer". Law: the loop never
blocks, and a call whose answer is needed is made again until there is one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import structlog

from batchyard_agent.runtimes.docker_engine import EngineSilentError

THREADS_MAX = 64
"""Far more than launches at a time, so that a hung launch never delays a signal."""

CLOSE_TIMEOUT_S = 5
_BACKOFF_S_MIN = 0.5
_BACKOFF_S_MAX = 10.0

_log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class Calls:
    """Runs blocking functions in threads of its own."""

    def __init__(self) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="docker")
        self._pending: set[concurrent.futures.Future[object]] = set()

    async def once(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function* in a thread."""
        future = self._pool.submit(function, *args, **kwargs)
        self._pending.add(future)  # type: ignore[arg-type]  # a set of futures of whatever
        future.add_done_callback(self._pending.discard)
        return await asyncio.wrap_future(future)

    async def until_answered(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function* in a thread, again and again until the engine answers. For reading only."""
        wait_s = _BACKOFF_S_MIN
        while True:
            try:
                return await self.once(function, *args, **kwargs)
            except EngineSilentError as error:
                if wait_s == _BACKOFF_S_MIN:
                    _log.warning("the Docker Engine does not answer; asking again", error=str(error))
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _BACKOFF_S_MAX)

    async def close(self) -> None:
        """Wait a little for calls on their way, and start none any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        pending = [asyncio.wrap_future(future) for future in list(self._pending)]
        if pending:
            done, _ = await asyncio.wait(pending, timeout=CLOSE_TIMEOUT_S)
            for each in done:
                if not each.cancelled():
                    each.exception()  # taken, as nobody asks any more
