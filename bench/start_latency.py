"""Time from submit to the job's own start on an idle yard; bounded by three durable commits: job, claim and journal."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator

from bench.figures import Figure, percentile
from bench.scale import Scale
from bench.yard import Yard, open_yard, small_job, timed

from batchyard import JobState, job_state

COMMANDS = {"fake": ("fake://", "true"), "process": ("", "/bin/true")}
PAUSE_S = 0.02
"""Between jobs, so that each finds an idle yard."""


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Submit one job after the other, each to an idle yard."""
    for runtime, count in (("fake", scale.pick(300, 40)), ("process", scale.pick(200, 30))):
        spawn_ms = [s * 1000 for s in timed([_spawn] * count)] if runtime == "process" else [0.0] * count
        async with open_yard() as yard:
            await yard.add_agent(runtime, 4)
            await _samples(yard, runtime, 5)  # warm
            starts, answers = await _samples(yard, runtime, count)
        for percent in (50, 99):
            yield Figure(
                name=f"submit to start, p{percent}, {runtime}, sqlite",
                value=percentile(starts, percent),
                unit="ms",
                baseline=percentile(answers, percent) + percentile(spawn_ms, percent),
                baseline_name="the submit's own answer" + (" and a bare spawn" if runtime == "process" else ""),
                note=f"{count} jobs",
            )


def _spawn() -> None:
    subprocess.run(["/bin/true"], check=True)


async def _samples(yard: Yard, runtime: str, count: int) -> tuple[list[float], list[float]]:
    """Return milliseconds until the job's start, by its own host's clock, and until the submit's answer."""
    image, command = COMMANDS[runtime]
    job = small_job(image, command)
    starts, answers = [], []
    for _ in range(count):
        await asyncio.sleep(PAUSE_S)
        submitted_ms = time.time() * 1000
        job_id = await yard.submit(job)
        answers.append(time.time() * 1000 - submitted_ms)
        started_ms = await _started_ms(yard, job_id)
        # The host tells whole milliseconds, cut off: half of one is the fair guess.
        starts.append(started_ms + 0.5 - submitted_ms)
    return starts, answers


async def _started_ms(yard: Yard, job_id: str) -> int:
    """Wait until the job has ended and return when it started."""
    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(PAUSE_S)
            found = await yard.client.describe_job(job_id)
            if job_state(found).is_final:
                assert job_state(found) is JobState.SUCCEEDED, found.status_reason
                return found.started_at_ms
