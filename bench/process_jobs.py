"""Jobs per second on the process runtime; bounded by how fast the machine can spawn and reap processes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.figures import Figure, median, spread
from bench.scale import Scale
from bench.yard import in_own_process, open_yard, small_job

AT_ONCE = 8
COMMAND = "/bin/true"


MEMORY = Path("/dev/shm")  # a tmpfs that others share, as the folder's own name is random


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Run arrays of ``/bin/true`` and the bare loop in turn, where commits wait for a disk and where they do not."""
    yield await _figure(scale, None, "on this file system", "half of it")
    if MEMORY.is_dir():
        yield await _figure(scale, MEMORY, "on tmpfs", "0.7 of it")


async def _figure(scale: Scale, parent: Path | None, where: str, aim: str) -> Figure:
    count, rounds = scale.pick(1_000, 150), scale.pick(3, 1)
    ours: list[float] = []
    bare: list[float] = []
    async with open_yard(parent=parent) as yard:
        await yard.add_agent("process", AT_ONCE)
        job = small_job("", COMMAND)
        for _ in range(rounds):
            bare.append(await in_own_process(spawn_rate, count))
            pace = await yard.run(lambda: yard.submit(job, array_size=count), count)
            ours.append(pace.jobs_per_s)
    return Figure(
        name=f"array of {count:,} processes, sqlite, {where}",
        value=median(ours),
        unit="/s",
        baseline=median(bare),
        baseline_name=f"bare spawn and wait, {AT_ONCE} at once",
        aim=aim,
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
