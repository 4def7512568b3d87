"""
Images, pulled when they are missing: one pull of an image at a time.

Attempts that wait for the same image share its pull. A pull that fails for a
passing cause is tried again; "no such image", "not allowed" and "no such
registry" end it at once, since waiting helps nobody who mistyped a name. Law: a
failure is a reason in AWS's words, never an exception of the engine's.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol

import structlog

from batchyard_agent.runtimes.docker_engine import EngineError, EngineSilentError
from batchyard_agent.runtimes.docker_facts import is_final_pull_failure
from batchyard_agent.runtimes.engine_words import reason

PULL_BACKOFF_S = (1, 2, 4, 8)
"""Waits between the tries: five tries in all, 15 s of waiting."""

PULL_SILENCE_S = 300
"""A pull in which nothing moves for this long is given up."""

PULLS_MAX = 4
"""Images pulled at the same time."""

_log = structlog.get_logger(__name__)


class Puller(Protocol):
    """What can pull an image, blocking."""

    def pull(self, image: str, on_progress: Callable[[], None]) -> None:
        """Pull *image*, calling *on_progress* whenever something moves."""


class Images:
    """Pulls images on the event loop's behalf."""

    def __init__(self, engine: Puller, backoff_s: tuple[float, ...] = PULL_BACKOFF_S) -> None:
        self._engine = engine
        self._backoff_s = backoff_s
        self._pulls: dict[str, asyncio.Task[str]] = {}
        self._slots = asyncio.Semaphore(PULLS_MAX)

    async def pull(self, image: str) -> str:
        """Pull *image*, or wait for who pulls it; return why that failed, empty if it did not."""
        task = self._pulls.get(image)
        if task is None:
            task = asyncio.create_task(self._pull(image), name=f"pull {image}")
            self._pulls[image] = task
            task.add_done_callback(lambda _: self._pulls.pop(image))
        # One attempt that is stopped must not end the others' pull.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for no pull any more. The engine may finish what it began."""
        tasks = list(self._pulls.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pull(self, image: str) -> str:
        async with self._slots:
            failure = ""
            for wait_s in (0, *self._backoff_s):
                await asyncio.sleep(wait_s)
                try:
                    await self._pull_once(image)
                except EngineError as error:
                    failure = reason("CannotPullContainerError", error.message)
                    if is_final_pull_failure(error.message, error.status):
                        break
                except EngineSilentError as error:
                    failure = reason("CannotPullContainerError", str(error))
                except TimeoutError:
                    return reason("DockerTimeoutError", f"nothing moved for {PULL_SILENCE_S} s while pulling {image}")
                else:
                    return ""
                _log.warning("a pull failed", image=image, reason=failure)
            return failure

    async def _pull_once(self, image: str) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        async with asyncio.timeout(PULL_SILENCE_S) as deadline:

            def on_progress() -> None:
                if not done.done():
                    deadline.reschedule(loop.time() + PULL_SILENCE_S)

            def run() -> None:
                error: Exception | None = None
                try:
                    self._engine.pull(image, lambda: _tell(loop, on_progress))
                except Exception as caught:  # noqa: BLE001  # raised again where it is awaited
                    error = caught
                _tell(loop, lambda: _settle(done, error))

            # Not a pool's thread: a pull can last an hour, and the agent's end must not wait for it.
            threading.Thread(target=run, name=f"pull {image}", daemon=True).start()
            await done


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback)
