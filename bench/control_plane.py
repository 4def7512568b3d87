"""Jobs per second through the control plane alone on etcd, with and without standbys, beside puts and HyperQueue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from bench.fake_jobs import COMMIT_OPERATIONS, put_rate
from bench.figures import Figure, Skipped, median, spread
from bench.hyperqueue_jobs import install_hyperqueue, their_rate
from bench.scale import Scale
from bench.yard import Pace, Yard, in_own_process, open_store_server, open_yard, small_job, temporary_folder
from tests.conftest import why_no_etcd, why_no_pypi

CPUS, RACK_CPUS = 64, 1_024
"""Jobs at once, as each asks for one: of a machine, whose jobs go in step and so wait for each answer, and of a rack."""
STANDBYS = 2


async def measure(scale: Scale) -> AsyncIterator[Figure | Skipped]:
    """
    Run arrays on the fake runtime by one controller, few and many at once, and by one that two others follow, in turn.

    HyperQueue's tasks are ``/bin/true``, for it has no runtime that only pretends; what it stores
    lies in its memory.
    """
    if why := why_no_etcd():
        yield Skipped("jobs through the control plane, etcd", why)
        return
    count, rounds = scale.pick(20_000, 3_000), scale.pick(3, 1)
    puts: list[float] = []
    alone: list[Pace] = []
    many: list[Pace] = []
    followed: list[Pace] = []
    standby_ms = 0.0
    for _ in range(rounds):
        with open_store_server("etcd") as url:
            puts.append(await in_own_process(put_rate, f"{url}/puts", count))
            alone.append((await _pace(f"{url}/alone", count, CPUS))[0])
            many.append((await _pace(f"{url}/many", count, RACK_CPUS))[0])
            pace, standby_ms = await _pace(f"{url}/followed", count, CPUS, STANDBYS)
            followed.append(pace)
    rate = median([pace.jobs_per_s for pace in alone])
    puts_name = f"puts in commits of {COMMIT_OPERATIONS}"
    yield _figure(f"array of {count:,}", alone, median(puts), puts_name)
    yield _figure(f"array of {count:,}, {RACK_CPUS:,} at once", many, median(puts), puts_name, RACK_CPUS)
    yield _figure(
        f"array of {count:,}, {STANDBYS} standbys", followed, rate, f"the same without; a standby {standby_ms:.2f} ms"
    )
    if why := why_no_pypi():
        yield Skipped("HyperQueue", why)
        return
    with temporary_folder() as folder:
        python = await asyncio.to_thread(install_hyperqueue, folder)
        theirs = [await asyncio.to_thread(their_rate, python, count // 4) for _ in range(rounds)]
    yield _figure(f"array of {count:,}", alone, median(theirs), f"HyperQueue with true, {spread(theirs)}")


async def _pace(url: str, count: int, cpus: int, standbys: int = 0) -> tuple[Pace, float]:
    """Run an array of *count* on a new store that others wait to lead; return what a job cost them, too, in ms."""
    async with open_yard(url) as yard:
        await yard.add_agent("fake", cpus)
        for _ in range(standbys):
            yard.add_standby(url)
        await _run(yard, max(count // 10, 2_000))  # warm, standbys too
        before_s = [standby.cpu_s() for standby in yard.standbys]
        pace = await _run(yard, count)
        used_s = [standby.cpu_s() - before for standby, before in zip(yard.standbys, before_s, strict=True)]
        return pace, 1000 * max(used_s, default=0) / count


async def _run(yard: Yard, count: int) -> Pace:
    return await yard.run(lambda: yard.submit(small_job("fake://"), array_size=count), count)


def _figure(name: str, paces: list[Pace], baseline: float, baseline_name: str, at_once: int = CPUS) -> Figure:
    rates = [pace.jobs_per_s for pace in paces]
    return Figure(
        name=name,
        value=median(rates),
        unit="/s",
        baseline=baseline,
        baseline_name=baseline_name,
        aim="at least 4,000 /s",
        note=f"{at_once:,} at once; {spread(rates)}; {paces[-1].cost()}",
    )
