"""Time until an array of 10,000 is acknowledged; bounded by one durable commit, as an array is one record."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from bench.figures import Figure, median, percentile, spread
from bench.scale import Scale
from bench.yard import Yard, open_yard, small_job

CHILDREN = 10_000


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Submit arrays and single jobs in turn on an idle controller without hosts."""
    arrays: list[float] = []
    singles: list[float] = []
    async with open_yard() as yard:
        await _submit_ms(yard, 0)  # the connection
        for _ in range(scale.pick(41, 11)):
            singles.append(await _submit_ms(yard, 0))
            arrays.append(await _submit_ms(yard, CHILDREN))
    yield Figure(
        name=f"array of {CHILDREN:,} acknowledged, sqlite",
        value=median(arrays),
        unit="ms",
        baseline=median(singles),
        baseline_name="one job acknowledged",
        aim="at most 50 ms",
        note=f"{spread(arrays)}; p90 {percentile(arrays, 90):.1f} ms",
    )


async def _submit_ms(yard: Yard, array_size: int) -> float:
    began = time.perf_counter()
    await yard.submit(small_job("fake://"), array_size=array_size)
    return (time.perf_counter() - began) * 1000
