"""Memory and open files of an agent and its keeper after very many processes; bounded by what the agent remembers of each."""

from __future__ import annotations

from collections.abc import AsyncIterator

from bench.figures import Figure
from bench.process_jobs import COMMAND
from bench.scale import Scale
from bench.yard import open_yard, small_job

SLOTS = 16
ARRAY = 10_000


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Run one array after the other."""
    size, arrays = scale.pick(ARRAY, 1_000), scale.pick(10, 2)
    async with open_yard() as yard:
        agent = await yard.add_agent("process", SLOTS)
        job = small_job("", COMMAND)
        await yard.run(lambda: yard.submit(job, array_size=100), 100)  # warm
        before = agent.rss_kib(), agent.keeper_rss_kib(), float(agent.open_files())
        for _ in range(arrays):
            await yard.run(lambda: yard.submit(job, array_size=size), size)
        after = agent.rss_kib(), agent.keeper_rss_kib(), float(agent.open_files())
    names = ("agent's memory", "keeper's memory", "open files of both")
    for name, unit, was, value in zip(names, ("KiB", "KiB", ""), before, after, strict=True):
        yield Figure(
            name=f"{name} after {size * arrays:,} processes",
            value=value,
            unit=unit,
            baseline=was,
            baseline_name="after 100",
        )
