"""Seconds from the start of a controller's process, after kill -9, until it answers and until it places a job again.

What it finds in its store: nothing, many queued jobs, a large array, many ended jobs.
The agent was connected before and comes back by itself, after up to five seconds.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

from bench.figures import Figure
from bench.scale import Scale
from bench.yard import QUEUE, BenchError, Yard, open_yard, small_job

from batchyard import UnavailableError
from batchyard.v1 import job_pb2

LIMIT_S = 120.0
POLL_S = 0.05
PAST = "past"
"""A queue that is deleted, so that its jobs have ended."""


@dataclass(frozen=True, slots=True)
class Restart:
    """How long one restart took, and what the controller then weighed."""

    answers_s: float
    places_s: float
    memory_mib: float


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Restart over stores of their own."""
    children, singles = scale.pick(1_000_000, 100_000), scale.pick(200_000, 10_000)
    base = await _restart_over(0, 0, 0)
    yield _figure("an empty store", base, base)
    yield _figure(f"an array of {children:,} queued", await _restart_over(children, 0, 0), base)
    yield _figure(f"{singles:,} single jobs queued", await _restart_over(0, singles, 0), base)
    yield _figure(f"{singles:,} ended jobs", await _restart_over(0, 0, singles), base)


def _figure(name: str, restart: Restart, base: Restart) -> Figure:
    return Figure(
        name=f"answers again over {name}, sqlite",
        value=restart.answers_s,
        unit="s",
        baseline=base.answers_s,
        baseline_name="an empty store",
        note=f"places a job after {restart.places_s:.1f} s; {restart.memory_mib:,.0f} MiB resident",
    )


async def _restart_over(children: int, singles: int, ended: int) -> Restart:
    async with open_yard() as yard:
        agent = await yard.add_agent("fake", 1)
        await yard.client.cordon_host(agent.name)
        job = small_job("fake://")
        if children:
            await yard.submit(job, array_size=children)
        await _fill(yard, QUEUE, singles)
        if ended:
            await yard.client.create_job_queue(PAST, compute_environments=[QUEUE])
            await _fill(yard, PAST, ended)
            await yard.client.update_job_queue(PAST, state="DISABLED")
            await yard.client.delete_job_queue(PAST)
        await yard.submit(job)
        before = await _placed(yard)
        began = time.perf_counter()
        yard.controller.restart()
        await _until_answers(yard)
        answers_s = time.perf_counter() - began
        await yard.client.uncordon_host(agent.name)
        while await _placed(yard) <= before:
            if time.perf_counter() - began > LIMIT_S:
                raise BenchError(f"nothing was placed within {LIMIT_S:g} s of the restart")
            await asyncio.sleep(POLL_S)
        return Restart(answers_s, time.perf_counter() - began, yard.controller.rss_kib() / 1024)


async def _fill(yard: Yard, queue: str, count: int) -> None:
    what = small_job("fake://")
    requests = (
        job_pb2.SubmitJobRequest(name="bench", queue=queue, container=what, request_id=str(uuid.uuid4()))
        for _ in range(count)
    )
    async for result in yard.client.submit_jobs(requests):
        assert result.HasField("job"), result


async def _until_answers(yard: Yard) -> None:
    give_up_at = time.monotonic() + LIMIT_S
    while True:
        try:
            await yard.client.describe_job_queues([QUEUE])
        except UnavailableError:
            yard.controller.check()
            if time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(POLL_S)
        else:
            return


async def _placed(yard: Yard) -> int:
    """Return how many jobs and children have been placed so far."""
    counts = (await yard.client.describe_job_queues([QUEUE]))[0].job_counts
    return sum(counts[state] for state in ("STARTING", "RUNNING", "SUCCEEDED"))
