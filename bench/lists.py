"""The processor time of ``batchyard jobs`` for a terminal's table, beside the same rows as JSON; and of ``--help``."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator

from bench.figures import Figure, median
from bench.scale import Scale
from bench.yard import open_yard, small_job

ROWS = 5_000
BATCHYARD = ("-m", "batchyard")


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """List the children of one array, that nobody runs."""
    rows, times = scale.pick(ROWS, 500), scale.pick(5, 2)
    async with open_yard() as yard:
        job_id = await yard.submit(small_job("", "true"), array_size=rows)
        command = (*BATCHYARD, "--address", yard.address, "jobs", "--array", job_id, "-n", str(rows))
        spent = {
            output: [await asyncio.to_thread(_cpu_s, *command, "-o", output) for _ in range(times)]
            for output in ("table", "json")
        }
        helped = [await asyncio.to_thread(_cpu_s, *BATCHYARD, "--help") for _ in range(times)]
    bare = [await asyncio.to_thread(_cpu_s, "-c", "import click") for _ in range(times)]
    yield Figure(
        name=f"a table of {rows:,} jobs, CPU",
        value=median(spent["table"]) * 1000,
        unit="ms",
        baseline=median(spent["json"]) * 1000,
        baseline_name="the same as JSON",
        aim="1.5 times",
    )
    yield Figure(
        name="--help, CPU",
        value=median(helped) * 1000,
        unit="ms",
        baseline=median(bare) * 1000,
        baseline_name="Python that imports click",
        aim="150 ms",
    )


def _cpu_s(*arguments: str) -> float:
    """Return the processor time of Python with some arguments, the user's and the kernel's."""
    command = [sys.executable, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return used.ru_utime + used.ru_stime
