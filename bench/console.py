"""The budgets of the console, with 100,000 queued jobs and an array of 1,000,000; each beside the same without it, or bare.

A controller in memory, a gateway, agents and Chromium are processes of their own. Processor time
and ratios tell more than times where others use the machine too.
"""

from __future__ import annotations

import asyncio
import html
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator

from bench import windows
from bench.figures import Figure, Outcome, Skipped, median, percentile
from bench.pages import fill
from bench.scale import Scale
from bench.stage import Stage, changing
from bench.visitors import CONSOLE, Gateway, Page, Tab, Visitor, describes, parts_of, start_gateway, why_no_chromium
from bench.yard import Yard, in_own_process, open_yard, small_job

KB = 1024
TABS = 20
SLOTS = 64
"""Jobs of the load at once."""
TOO_LARGE = 1_000
"""vCPUs that no host here has: what asks for them stays in line."""

_ASSET = re.compile(r'(?:src|href)="(/console/static/[^"]+\.(css|js|svg))"')


async def measure(scale: Scale) -> AsyncIterator[Outcome]:
    """Measure each budget in turn, on one yard."""
    jobs, children = scale.pick(100_000, 3_000), scale.pick(1_000_000, 20_000)
    async with open_yard("memory://") as yard:
        oldest, array, newest = await fill(yard, jobs, children, small_job("fake://", vcpus=TOO_LARGE))
        gateway = await start_gateway(yard)
        stage = Stage(
            yard=yard, gateway=gateway, visitor=Visitor(gateway), oldest=oldest, array=array, newest=newest, slots=SLOTS
        )  # fmt: skip
        for figure in (*_first_view(stage), *_later_pages(stage)):
            yield figure
        async for figure in _server_part(scale, stage):
            yield figure
        for figure in _searches(scale, stage):
            yield figure
        await yard.add_agent("fake", SLOTS)
        async for figure in _tabs(scale, stage):
            yield figure
        async for outcome in _seen(scale, stage):
            yield outcome
        async for figure in _starts(scale, yard):
            yield figure


async def _seen(scale: Scale, stage: Stage) -> AsyncIterator[Outcome]:
    why = why_no_chromium()
    if why:
        yield Skipped("what is seen in a browser", why)
        return
    async for figure in windows.measure(scale, stage):
        yield figure


# Bytes ------------------------------------------------------------------------------


def _first_view(stage: Stage) -> Iterator[Figure]:
    page = stage.visitor.get("jobs")
    parts: dict[str, list[Page]] = {"HTML": [page], "CSS": [], "scripts": [], "icon": []}
    for address, kind in _ASSET.findall(page.text):
        parts[{"css": "CSS", "js": "scripts", "svg": "icon"}[kind]].append(stage.visitor.get(address))
    late = [stage.visitor.get(each) for each in re.findall(r'hx-get="([^"]+)" hx-trigger="load', page.text)]
    rows = page.text.count('<tr id="row-')
    for (name, pages), aim in zip(parts.items(), (8, 12, 30, 5), strict=True):
        yield _weight(f"first view of Jobs, {rows} rows: {name}", pages, f"{aim} KB")
    every = [page for pages in parts.values() for page in pages] + late
    yield _weight("all of it", every, "60 KB")
    about = len(_ASSET.findall(stage.visitor.get("about").text))
    yield Figure(
        name="requests of it, with the stream of events",
        value=len(every) + 1,
        unit="",
        baseline=about + 3,
        baseline_name="page without a list",
        aim="8",
    )


def _later_pages(stage: Stage) -> Iterator[Figure]:
    jobs = stage.visitor.get("jobs").text
    (older,) = re.findall(r'<a href="([^"]+)" rel="next"', jobs)
    rows = next(address for _, address in parts_of(jobs) if "part=rows" in address)
    children = f"jobs/{stage.array}/children"
    pages = {
        "Jobs, the next 100": html.unescape(older),
        "Jobs, 100 rows again": rows,
        "Job": f"jobs/{stage.newest}",
        "Children, 100 of them": children,
        "Children, their map": f"{children}?part=map",
        "Children, the map as a table": f"{children}?view=table",
        "Overview": f"{CONSOLE}/",
        "Job queue, 100 in line": "queues/bench",
    }
    for name, address in pages.items():
        yield _weight(name, [stage.visitor.get(address)], "10 KB")


def _weight(name: str, pages: list[Page], aim: str) -> Figure:
    assert all(page.status == 200 for page in pages), [page.status for page in pages]
    return Figure(
        name=name,
        value=sum(page.wire_bytes for page in pages) / KB,
        unit="KB",
        baseline=sum(len(page.text.encode()) for page in pages) / KB,
        baseline_name="not packed",
        aim=aim,
    )


# Time of the server -------------------------------------------------------------------


async def _server_part(scale: Scale, stage: Stage) -> AsyncIterator[Figure]:
    count = scale.pick(50, 10)
    bare, ours = [], []
    program = stage.gateway.program
    used_s = program.cpu_s()
    for _ in range(count):
        began = time.perf_counter()
        await stage.yard.client.list_jobs_page(page_size=50)
        bare.append(time.perf_counter() - began)
        ours.append(_took_s(lambda: stage.visitor.get("jobs")))
    yield Figure(
        name="Jobs, 100 rows, p95 of its server part",
        value=1000 * percentile(ours, 95),
        unit="ms",
        baseline=1000 * percentile(bare, 95),
        baseline_name="ListJobs of 50 by gRPC, p95",
        aim="60 ms",
        note=f"median {1000 * median(ours):.1f} ms; {1000 * (program.cpu_s() - used_s) / count:.1f} ms of CPU a page",
    )


def _searches(scale: Scale, stage: Stage) -> Iterator[Figure]:
    times, visitor = scale.pick(10, 3), stage.visitor
    one = [_took_s(lambda: visitor.get(f"jobs/{stage.newest}")) for _ in range(times)]
    first, whole = [], []
    for _ in range(times):
        began = time.perf_counter()
        page = visitor.get("jobs?tag=oldest")
        first.append(time.perf_counter() - began)
        while f'id="row-{stage.oldest}"' not in page.text:
            (on,) = re.findall(r'hx-get="([^"]+part=more)"', page.text)
            page = visitor.get(html.unescape(on))
        whole.append(time.perf_counter() - began)
    failed = [_took_s(lambda: visitor.get(f"jobs/{stage.array}/children?state=FAILED")) for _ in range(times)]
    for name, took_s, note in (
        ("a tag that the oldest job alone has", whole, f"; first answer after {1000 * max(first):.0f} ms at most"),
        ("FAILED children: the last alone", failed, ""),
    ):
        yield Figure(
            name=name,
            value=1000 * median(took_s),
            unit="ms",
            baseline=1000 * median(one),
            baseline_name="page of one job",
            aim="600 ms",
            note=f"at most {1000 * max(took_s):.0f} ms{note}",
        )


def _took_s(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


# Many who look ------------------------------------------------------------------------


async def _tabs(scale: Scale, stage: Stage) -> AsyncIterator[Figure]:
    seconds = scale.pick(20, 4)
    async with changing(stage, 500, 3 * seconds + 20) as pace:
        alone = await _busy(stage, seconds)
        tabs = [Tab(stage.gateway, stage.visitor.cookie, "jobs") for _ in range(TABS)]
        for tab in tabs:
            await asyncio.to_thread(tab.open)
        fetched = sum(tab.fetched for tab in tabs)
        busy = await _busy(stage, seconds)
        fetched = sum(tab.fetched for tab in tabs) - fetched
        reached = await pace()
        for tab in tabs:
            await asyncio.to_thread(tab.close)
    changes = f"{reached:,.0f} changes a second in the yard"
    fragments = f"{fetched / seconds / TABS:.1f} fragments a second a tab"
    for name, at, aim in (("gateway", 0, "20 %"), ("controller", 1, "5 % more")):
        yield Figure(
            name=f"{TABS} tabs of 100 rows: {name}",
            value=busy[at],
            unit="%",
            baseline=alone[at],
            baseline_name="of a core without tabs",
            aim=aim,
            note=f"{changes}; {fragments}",
        )
    yield Figure(
        name=f"{TABS} tabs: a user's DescribeJobs",
        value=busy[2],
        unit="ms",
        baseline=alone[2],
        baseline_name="without tabs",
        aim="1.5x",
        note=changes,
    )


async def _busy(stage: Stage, seconds: float) -> tuple[float, float, float]:
    """Return how busy gateway and controller are, in per cent of a core, and what a user's call takes, in ms."""
    programs = stage.gateway.program, stage.yard.controller
    used_s, began = [program.cpu_s() for program in programs], time.perf_counter()
    keys = stage.gateway.credentials
    # In a process of its own: threads of this one are tabs, and would have it wait for them.
    took_s = await in_own_process(
        describes, stage.gateway.address, keys.access_key, keys.secret_key, stage.newest, seconds
    )
    wall_s = time.perf_counter() - began
    gateway, controller = (
        100 * (program.cpu_s() - then) / wall_s for program, then in zip(programs, used_s, strict=True)
    )
    return gateway, controller, 1000 * median(took_s)


# With and without ---------------------------------------------------------------------


async def _starts(scale: Scale, yard: Yard) -> AsyncIterator[Figure]:
    rounds = scale.pick(5, 2)
    found: dict[str, list[tuple[float, float, float]]] = {"--console": [], "--no-console": []}
    for number in range(rounds):
        for flag, of in found.items():
            gateway = await start_gateway(yard, flag, name=f"gateway{flag}-{number}")
            of.append((1000 * gateway.started_s, 1000 * gateway.program.cpu_s(), gateway.program.rss_kib() / KB))
            if number == rounds - 1 and flag == "--console":
                used = await asyncio.to_thread(_look_around, gateway)
            yard.programs.remove(gateway.program)
            await asyncio.to_thread(gateway.program.stop)
    with_s, without_s = ([median(each) for each in zip(*of, strict=True)] for of in found.values())
    for name, at, unit, aim, note in (
        ("start of the gateway, until it answers", 0, "ms", "50 ms more", ""),
        ("processor time of it", 1, "ms", "", ""),
        ("memory of it", 2, "MB", "20 MB more", f"{used:.1f} MB when its pages were looked at"),
    ):
        yield Figure(
            name=name,
            value=with_s[at],
            unit=unit,
            baseline=without_s[at],
            baseline_name="with --no-console",
            aim=aim,
            note=f"{with_s[at] - without_s[at]:+.1f} {unit}{'; ' if note else ''}{note}",
        )


def _look_around(gateway: Gateway) -> float:
    """Look at many pages, each of which keeps its template; return the memory that is in use then, in MB."""
    visitor = Visitor(gateway)
    for _ in range(5):
        for path in ("", "jobs", "queues", "queues/bench", "environments", "hosts", "definitions", "jobs/new", "start"):
            visitor.get(path or f"{CONSOLE}/")
    return gateway.program.rss_kib() / KB
