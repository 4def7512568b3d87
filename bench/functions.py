"""Small functions as jobs each, through ``Executor.map``, beside a process pool that starts a process for each call too."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor as AnyExecutor
from concurrent.futures import ProcessPoolExecutor

from bench.figures import Figure
from bench.scale import Scale
from bench.yard import QUEUE, open_yard, temporary_folder

from batchyard import Client, Executor

CHUNK = 50
_LOOKS = 5


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Call ``pow`` a thousand times, on as many slots as there are cores, and see that it was."""
    calls, slots = scale.pick(1_000, 100), os.cpu_count() or 1
    spawn = multiprocessing.get_context("spawn")
    with temporary_folder() as folder:
        async with open_yard() as yard:
            # Calls run in this very Python, which may lie where nobody else may look.
            await yard.add_agent("process", slots, "--allow-root-jobs")

            def ours(where: str | None, chunk: int) -> float:
                with (
                    Client(yard.address) as client,
                    Executor(where, queue=QUEUE, client=client, vcpus=1, memory=64) as pool,
                ):
                    return _rate(pool, calls, chunk)

            with_folder = await asyncio.to_thread(ours, str(folder), 1)
            without = await asyncio.to_thread(ours, None, 1)
            in_chunks = await asyncio.to_thread(ours, str(folder), CHUNK)
        fresh = await asyncio.to_thread(
            _of_pool, lambda: ProcessPoolExecutor(slots, spawn, max_tasks_per_child=1), calls, 1
        )
        kept = await asyncio.to_thread(_of_pool, lambda: ProcessPoolExecutor(slots, spawn), calls, CHUNK)
    note = f"a Python alone starts and ends {1 / await asyncio.to_thread(_start_s):,.0f} times a second"
    for name, rate in (("with a folder", with_folder), ("without one", without)):
        yield Figure(
            name=f"{calls:,} functions as jobs, {name}",
            value=rate,
            unit="/s",
            baseline=fresh,
            baseline_name="ProcessPoolExecutor, a process each",
            note=note,
        )
    yield Figure(
        name=f"{calls:,} functions, {CHUNK} a job",
        value=in_chunks,
        unit="/s",
        baseline=kept,
        baseline_name="ProcessPoolExecutor, the same chunks",
    )


def _rate(pool: AnyExecutor, calls: int, chunk: int) -> float:
    began = time.perf_counter()
    found = sum(pool.map(pow, range(calls), [2] * calls, chunksize=chunk))
    took_s = time.perf_counter() - began
    assert found == sum(number**2 for number in range(calls))
    return calls / took_s


def _of_pool(make: Callable[[], AnyExecutor], calls: int, chunk: int) -> float:
    with make() as pool:
        return _rate(pool, calls, chunk)


def _start_s() -> float:
    began = time.perf_counter()
    for _ in range(_LOOKS):
        subprocess.run([sys.executable, "-c", ""], check=True)
    return (time.perf_counter() - began) / _LOOKS
