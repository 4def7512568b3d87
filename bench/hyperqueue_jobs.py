"""Jobs per second on the process runtime beside HyperQueue from PyPI, which keeps nothing; in turn, on 16 slots."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from bench.figures import Figure, median, spread
from bench.process_jobs import COMMAND
from bench.scale import Scale
from bench.yard import BenchError, open_yard, small_job, temporary_folder

SLOTS = 16
THEIRS = f"""
import sys, tempfile, time
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

with tempfile.TemporaryDirectory() as folder, LocalCluster(server_dir=folder) as cluster:
    cluster.start_worker(WorkerConfig(cores={SLOTS}))
    client, job = cluster.client(), Job()
    for _ in range(int(sys.argv[1])):
        job.program([{COMMAND!r}])
    began = time.perf_counter()
    client.wait_for_jobs([client.submit(job)])
    print(int(sys.argv[1]) / (time.perf_counter() - began))
"""


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Run arrays of ``/bin/true`` and their tasks in turn; their client polls once a second."""
    count, rounds = scale.pick(5_000, 1_000), scale.pick(3, 1)
    ours: list[float] = []
    theirs: list[float] = []
    with temporary_folder() as folder:
        python = await asyncio.to_thread(install_hyperqueue, folder)
        async with open_yard() as yard:
            await yard.add_agent("process", SLOTS)
            for _ in range(rounds):
                theirs.append(await asyncio.to_thread(their_rate, python, count))
                pace = await yard.run(lambda: yard.submit(small_job("", COMMAND), array_size=count), count)
                ours.append(pace.jobs_per_s)
    yield Figure(
        name=f"array of {count:,} processes, sqlite",
        value=median(ours),
        unit="/s",
        baseline=median(theirs),
        baseline_name=f"HyperQueue, {SLOTS} slots",
        aim="faster",
        note=f"{spread(ours)}; theirs {spread(theirs)}; {pace.cost()}",
    )


def install_hyperqueue(folder: Path) -> Path:
    """Return a Python that has HyperQueue and nothing of ours."""
    python = folder / "venv" / "bin" / "python"
    lines = [[sys.executable, "-m", "venv", str(folder / "venv")], [str(python), "-m", "pip", "install", "hyperqueue"]]
    for line in lines:
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"HyperQueue cannot be installed: {done.stderr[-500:]}")
    return python


def their_rate(python: Path, count: int) -> float:
    """Return how many tasks a second a server and a worker of HyperQueue run."""
    line = [str(python), "-c", THEIRS, str(count)]
    # Its tasks leave files where it runs.
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=python.parent)
    return float(done.stdout.split()[-1])
