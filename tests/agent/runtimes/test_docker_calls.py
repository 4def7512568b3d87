"""Calls in threads, without any engine."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

from batchyard_agent.runtimes.docker_calls import Calls


async def test_a_call_that_fails_while_all_ends_is_no_error_of_the_loop() -> None:
    """Who asked has been cancelled, as by an agent that is stopped: its end is waited for, and told nobody."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: errors.append(about))
    has_begun, may_fail = threading.Event(), threading.Event()

    def fail() -> None:
        has_begun.set()
        may_fail.wait()
        raise OSError("no such folder")

    calls = Calls()
    asking = asyncio.create_task(calls.once(fail))
    await asyncio.to_thread(has_begun.wait)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    asyncio.get_running_loop().call_later(0.01, may_fail.set)
    await calls.close()
    del asking  # it knows of the call
    gc.collect()
    assert errors == []
