"""Jobs per second from submit to SUCCEEDED on the fake runtime; bounded by controller's and agent's work a job.

Single jobs come one a call by 32 callers while others run; those queued before
tell what is left when submitting costs nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from bench.figures import Figure, Outcome, Skipped
from bench.scale import Scale
from bench.yard import in_own_process, open_store_server, open_yard, small_job
from tests.conftest import why_no_etcd

from batchyard_controller.store.open import open_store
from batchyard_controller.store.protocol import Put

CPUS = 64
"""Jobs at once: each asks for one."""
COMMIT_OPERATIONS = 100
RECORD_BYTES = 350
"""About what a single job and its attempt come to, a record."""


async def measure(scale: Scale) -> AsyncIterator[Outcome]:
    """Measure both stores, arrays and single jobs each."""
    for kind in ("sqlite", "etcd"):
        why = why_no_etcd() if kind == "etcd" else ""
        if why:
            yield Skipped(f"jobs on the fake runtime, {kind}", why)
            continue
        async for figure in _measure_store(scale, kind):
            yield figure


async def _measure_store(scale: Scale, kind: str) -> AsyncIterator[Figure]:
    children, singles = scale.pick(10_000, 1_500), scale.pick(4_000, 600)
    with open_store_server(kind) as url:
        puts_per_s = await in_own_process(put_rate, f"{url}/baseline" if kind == "etcd" else f"{url}.puts", children)
        async with open_yard(url) as yard:
            agent = await yard.add_agent("fake", CPUS)
            job = small_job("fake://")
            await yard.run(lambda: yard.submit_many(job, 200), 200)  # warm
            paces = {
                f"array of {children:,}": await yard.run(lambda: yard.submit(job, array_size=children), children),
                f"{singles:,} single jobs": await yard.run(lambda: yard.submit_many(job, singles), singles),
            }
            await yard.client.cordon_host(agent.name)
            await yard.submit_many(job, singles)
            paces[f"{singles:,} single jobs queued before"] = await yard.run(
                lambda: yard.client.uncordon_host(agent.name), singles
            )
    for name, pace in paces.items():
        yield Figure(
            name=f"{name}, {kind}",
            value=pace.jobs_per_s,
            unit="/s",
            baseline=puts_per_s,
            baseline_name=f"puts in commits of {COMMIT_OPERATIONS}",
            aim="at least 1,000 /s",
            note=f"{CPUS} at once; {pace.cost()}",
        )


def put_rate(url: str, count: int) -> float:
    """Put *count* records through the project's own store, in order; return puts per second."""
    return asyncio.run(_put_rate(url, count))


async def _put_rate(url: str, count: int) -> float:
    store = open_store(url)
    epoch = await store.campaign("bench")
    atoms = [(Put(f"job/{number:032}", bytes(RECORD_BYTES)),) for number in range(count)]
    began = time.perf_counter()
    for start in range(0, count, COMMIT_OPERATIONS):
        await store.commit(atoms[start : start + COMMIT_OPERATIONS], epoch)
    seconds = time.perf_counter() - began
    await store.close()
    return count / seconds
