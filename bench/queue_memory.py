"""The controller's memory for each queued job; bounded by Python's objects a job, and by bytes for an array's child."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import psutil
from bench.figures import Figure
from bench.scale import Scale
from bench.yard import in_own_process, open_yard, small_job, submission

ARRAY = 10_000


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Queue single jobs, then arrays, on a fresh controller without hosts each."""
    singles, arrays = scale.pick(100_000, 4_000), 10
    job = small_job("fake://")
    bare_kib = await in_own_process(kept_kib, singles)
    async with open_yard() as yard:
        await yard.submit_many(job, 500)  # what the first jobs cost is not theirs
        before_kib = yard.controller.rss_kib()
        await yard.submit_many(job, singles)
        yield _figure(f"{singles:,} queued single jobs", yard.controller.rss_kib() - before_kib, singles, bare_kib)
    async with open_yard() as yard:
        await yard.submit_many(job, 500)
        before_kib = yard.controller.rss_kib()
        for _ in range(arrays):
            await yard.submit(job, array_size=ARRAY)
        used_kib = yard.controller.rss_kib() - before_kib
        yield _figure(f"{arrays * ARRAY:,} queued array children", used_kib, arrays * ARRAY, bare_kib)


def _figure(name: str, used_kib: float, count: int, bare_kib: float) -> Figure:
    return Figure(
        name=name,
        value=used_kib * 1024 / count,
        unit="B",
        baseline=bare_kib * 1024,
        baseline_name="its request's bytes in a dict by id",
        aim="at most 1,024 B each",
        note=f"{used_kib / 1024:,.2f} MiB in all",
    )


def kept_kib(count: int) -> float:
    """Return what it costs at least to keep one request, in Python, under its id."""
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    kept = {}
    for _ in range(count):
        request = submission(small_job("fake://"))
        kept[request.request_id] = request.SerializeToString()
    return float(process.memory_info().rss - before) / 1024 / len(kept)
