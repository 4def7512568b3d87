"""Jobs per second on the process runtime; bounded by how fast the machine can spawn and reap processes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from bench.figures import Figure, median, spread
from bench.scale import Scale
from bench.yard import in_own_process, open_yard, small_job

AT_ONCE = 8
COMMAND = "/bin/true"


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Run arrays of ``/bin/true`` and the bare loop in turn."""
    count, rounds = scale.pick(1_000, 150), scale.pick(3, 1)
    ours: list[float] = []
    bare: list[float] = []
    async with open_yard() as yard:
        await yard.add_agent("process", AT_ONCE)
        job = small_job("", COMMAND)
        for _ in range(rounds):
            bare.append(await in_own_process(spawn_rate, count))
            pace = await yard.run(lambda: yard.submit(job, array_size=count), count)
            ours.append(pace.jobs_per_s)
    yield Figure(
        name=f"array of {count:,} processes, sqlite",
        value=median(ours),
        unit="/s",
        baseline=median(bare),
        baseline_name=f"bare spawn and wait, {AT_ONCE} at once",
        aim="half of it",
        note=f"{spread(ours)}; {pace.cost()}",
    )


def spawn_rate(count: int) -> float:
    """Spawn *count* processes and wait for each, ``AT_ONCE`` at once; return processes per second."""

    def spawn(_: int) -> None:
        code = subprocess.Popen(
            [COMMAND], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ).wait()
        assert code == 0

    began = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(spawn, range(count)))
    return count / (time.perf_counter() - began)
