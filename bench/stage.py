"""Stage: the yard that the console is measured on, and a load that changes its jobs at a pace."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.visitors import Gateway, Visitor
from bench.yard import Yard, small_job

CHANGES_A_JOB = 3
"""STARTING, RUNNING, SUCCEEDED."""
SPARE = 2
"""Children of a load by those that run while it is on: it must not end before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """
    What is measured on.

    Attributes:
        oldest: A job that alone has its tag.
        array: A large one, of which the last child FAILED.
        newest: A job.
        slots: Jobs of a load at once, once there is an agent.
    """

    yard: Yard
    gateway: Gateway
    visitor: Visitor
    oldest: str
    array: str
    newest: str
    slots: int


@asynccontextmanager
async def changing(stage: Stage, changes_per_s: float, seconds: float) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """
    Let children of one more array change state.

    Args:
        changes_per_s: As many, if the machine can.
        seconds: For so long at least.

    Yields:
        What tells the pace that was reached so far.
    """
    size = int(changes_per_s / CHANGES_A_JOB * seconds * SPARE)
    sleep_s = CHANGES_A_JOB * stage.slots / changes_per_s
    load = await stage.yard.submit(small_job("fake://", "sleep", f"{sleep_s:.3f}"), array_size=size)

    async def done() -> int:
        return (await stage.yard.client.describe_job(load)).array.status_summary["SUCCEEDED"]

    before, began = await done(), time.perf_counter()

    async def pace() -> float:
        return CHANGES_A_JOB * (await done() - before) / (time.perf_counter() - began)

    try:
        yield pace
    finally:
        await stage.yard.client.terminate_job(load, "measured")
