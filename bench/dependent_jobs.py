"""What dependencies cost: jobs that each wait for ten others, an array, and plain jobs, on the fake runtime and sqlite.

Jobs come by the stream that takes many at once. Bytes are those that the controller's
process writes to files, which is its store alone; memory is what it has grown by.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from bench.figures import Figure
from bench.scale import Scale
from bench.yard import QUEUE, Pace, Yard, open_yard, small_job

from batchyard.v1 import job_pb2

CPUS = 64
LAYER = 500
"""Jobs that wait for the same other ones, about: each for ten of the layer before."""
DEPENDENCIES = 10


@dataclass(frozen=True, slots=True)
class Cost:
    """What one job of many came to."""

    pace: Pace
    memory_bytes: float
    written_bytes: float


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Measure all three on one controller, the plain jobs first: they are the baseline."""
    count = scale.pick(10_000, 1_000)
    async with open_yard() as yard:
        await yard.add_agent("fake", CPUS)
        await yard.run(lambda: _submit(yard, _plain(200)), 200)  # warm
        plain = await _cost(yard, lambda: _submit(yard, _plain(count)), count)
        yield _figure(f"{count:,} plain jobs", plain, plain)
        waiting = await _cost(yard, lambda: _submit(yard, _layered(count)), count)
        yield _figure(f"{count:,} jobs with {DEPENDENCIES} dependencies each", waiting, plain)
        job = small_job("fake://")
        array = await _cost(yard, lambda: yard.submit(job, array_size=count), count)
        yield _figure(f"{count:,} children of an array", array, plain)


def _figure(name: str, cost: Cost, baseline: Cost) -> Figure:
    return Figure(
        name=name,
        value=cost.pace.jobs_per_s,
        unit="/s",
        baseline=baseline.pace.jobs_per_s,
        baseline_name="plain jobs",
        aim="at least 1,000 /s",
        note=f"{cost.pace.cost()}; a job: {cost.memory_bytes:,.0f} B memory, {cost.written_bytes:,.0f} B written",
    )


async def _cost(yard: Yard, submit: Callable[[], Awaitable[object]], count: int) -> Cost:
    controller = yard.controller
    memory_kib, written = controller.rss_kib(), controller.written_bytes()
    pace = await yard.run(submit, count)
    return Cost(
        pace=pace,
        memory_bytes=1024 * (controller.rss_kib() - memory_kib) / count,
        written_bytes=(controller.written_bytes() - written) / count,
    )


async def _submit(yard: Yard, requests: list[job_pb2.SubmitJobRequest]) -> None:
    async for result in yard.client.submit_jobs(requests):
        assert result.HasField("job"), result


def _plain(count: int) -> list[job_pb2.SubmitJobRequest]:
    what = small_job("fake://")
    return [
        job_pb2.SubmitJobRequest(name="bench", queue=QUEUE, container=what, request_id=str(uuid.uuid4()))
        for _ in range(count)
    ]


def _layered(count: int) -> list[job_pb2.SubmitJobRequest]:
    requests = _plain(count)
    for number, request in enumerate(requests[LAYER:], LAYER):
        first = (number // LAYER - 1) * LAYER
        for step in range(DEPENDENCIES):
            other = requests[first + (number + step) % LAYER]
            request.depends_on.add(job_id=f"request:{other.request_id}")
    return requests
