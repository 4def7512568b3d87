"""Windows: what of the console is seen in Chromium: the first paint, a change, a page that stays open, a long log."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.figures import Figure, median, percentile
from bench.scale import Scale
from bench.stage import Stage, changing
from bench.visitors import Visitor, chromium
from bench.yard import Program, small_job
from playwright.async_api import Browser, Page

from batchyard import container

KB, MB = 1024, 1 << 20
PAINTED = """new Promise((done) => {
  const look = () => {
    const [paint] = performance.getEntriesByName("first-contentful-paint");
    if (paint) done(paint.startTime); else setTimeout(look, 10);
  };
  look();
})"""
LINE = "2026-11-25 12:00:00 INFO epoch 12 step 3400 loss 0.123456 accuracy 0.987654"


async def measure(scale: Scale, stage: Stage) -> AsyncIterator[Figure]:
    """Measure all that needs a browser, and logs."""
    async with chromium() as browser:
        for each in (_painted, _seen, _open_long, _log):
            async for figure in each(scale, stage, browser):
                yield figure


@asynccontextmanager
async def window(browser: Browser, stage: Stage) -> AsyncIterator[Page]:
    """Open a window, signed in, with nothing in its cache."""
    context = await browser.new_context(base_url=stage.gateway.origin)
    name, _, value = stage.visitor.cookie.partition("=")
    await context.add_cookies([{"name": name, "value": value, "url": f"{stage.gateway.origin}/console/"}])
    yield await context.new_page()
    await context.close()


async def _painted(scale: Scale, stage: Stage, browser: Browser) -> AsyncIterator[Figure]:
    took_ms: dict[str, list[float]] = {"jobs": [], "about": []}
    for _ in range(scale.pick(10, 3)):
        for path, of in took_ms.items():
            async with window(browser, stage) as page:
                await page.goto(f"/console/{path}")
                of.append(await page.evaluate(PAINTED))
    yield Figure(
        name="first list painted, nothing in the cache",
        value=median(took_ms["jobs"]),
        unit="ms",
        baseline=median(took_ms["about"]),
        baseline_name="a page without a list",
        aim="500 ms",
        note=f"at most {max(took_ms['jobs']):.0f} ms",
    )


async def _seen(scale: Scale, stage: Stage, browser: Browser) -> AsyncIterator[Figure]:
    count = scale.pick(20, 4)
    quiet, _ = await _until_seen(stage, browser, count)
    async with changing(stage, 1000, 3 * count + 10) as pace:
        busy, fragments = await _until_seen(stage, browser, count)
        reached = await pace()
    yield Figure(
        name="a change until it is seen, p95",
        value=percentile(busy, 95),
        unit="s",
        baseline=percentile(quiet, 95),
        baseline_name="while nothing else changes",
        aim="1.5 s",
        note=f"median {median(busy):.2f} s; {reached:,.0f} changes a second reached, of 1,000",
    )
    yield Figure(
        name="fragments a second of that tab",
        value=fragments,
        unit="/s",
        baseline=reached,
        baseline_name="changes a second",
        aim="2 /s",
    )


async def _until_seen(stage: Stage, browser: Browser, count: int) -> tuple[list[float], float]:
    """Cancel jobs on screen, one by one; return what each took until its row said so, and the fragments a second."""
    probes = await stage.yard.submit_many(small_job("fake://", vcpus=1000), count)
    took_s, fetched = [], 0
    dice = random.Random(1)

    def fetching(url: str) -> None:
        nonlocal fetched
        fetched += "part=" in url

    async with window(browser, stage) as page:
        await page.goto("/console/jobs")
        await page.locator(".totals").wait_for()
        page.on("request", lambda request: fetching(request.url))
        opened = time.perf_counter()
        for job_id in probes:
            await asyncio.sleep(dice.random())
            began = time.perf_counter()
            await stage.yard.client.cancel_job(job_id, "measured")
            await page.locator(f"[id='row-{job_id}'] .state.failed").wait_for(timeout=30_000)
            took_s.append(time.perf_counter() - began)
        return took_s, fetched / (time.perf_counter() - opened)


async def _open_long(scale: Scale, stage: Stage, browser: Browser) -> AsyncIterator[Figure]:
    seconds = 1800 if scale.is_all else scale.pick(120, 8)
    async with changing(stage, 500, seconds + 20) as pace, window(browser, stage) as page:
        await page.goto("/console/jobs")
        await page.locator(".totals").wait_for()
        talk = await page.context.new_cdp_session(page)
        await talk.send("Performance.enable")

        async def now() -> tuple[float, float]:
            await talk.send("HeapProfiler.collectGarbage")
            metrics = {each["name"]: each["value"] for each in (await talk.send("Performance.getMetrics"))["metrics"]}
            return metrics["JSHeapUsedSize"] / MB, metrics["Nodes"]

        await asyncio.sleep(min(10, seconds / 4))  # the first fragments have come
        at = [await now()]
        for _ in range(2):
            await asyncio.sleep(seconds / 2)
            at.append(await now())
        reached = await pace()
    a_minute = (at[2][0] - at[1][0]) / (seconds / 2) * 60
    changes = f"{seconds} s at {reached:,.0f} changes a second"
    yield Figure(
        name="heap of a page that stays open",
        value=at[2][0],
        unit="MB",
        baseline=at[0][0],
        baseline_name="when it was opened",
        aim="5 MB more in 30 minutes",
        note=f"{changes}; {a_minute:+.3f} MB a minute in the second half: {30 * a_minute:+.1f} MB in 30",
    )
    yield Figure(
        name="DOM nodes of it",
        value=at[2][1],
        unit="",
        baseline=at[0][1],
        baseline_name="when it was opened",
        aim="6,000",
        note=changes,
    )


# A long log -----------------------------------------------------------------------------


async def _log(scale: Scale, stage: Stage, browser: Browser) -> AsyncIterator[Figure]:
    size = scale.pick(1_000_000_000, 20_000_000)
    await stage.yard.add_agent("process", 4)
    short, long = await _write_log(stage, 1000), await _write_log(stage, size)
    visitor, times = Visitor(stage.gateway), scale.pick(20, 5)
    took_s: dict[str, list[float]] = {short: [], long: []}
    for _ in range(times):
        for job_id, of in took_s.items():
            began = time.perf_counter()
            visitor.get(f"jobs/{job_id}/log")
            of.append(time.perf_counter() - began)
    length = f"{size // 1_000_000:,} MB"
    yield Figure(
        name=f"the end of a log of {length}",
        value=1000 * median(took_s[long]),
        unit="ms",
        baseline=1000 * median(took_s[short]),
        baseline_name="a log of 1 KB",
        aim="300 ms",
        note=f"at most {1000 * max(took_s[long]):.0f} ms",
    )
    page = visitor.get(f"jobs/{long}/log?part=lines")
    yield Figure(
        name="64 KiB of it: what goes over the wire",
        value=page.wire_bytes / KB,
        unit="KB",
        baseline=len(page.text) / KB,
        baseline_name="not packed",
        note=f"{page.text.count('<code>'):,} lines, all alike",
    )
    yield await _lines(stage, browser, long)
    yield await _download(stage, visitor, long, size)


async def _write_log(stage: Stage, size: int) -> str:
    """Run a job that writes so many bytes, in lines; return its id."""
    job = container(["sh", "-c", f"yes '{LINE}' | head -c {size}"], image="process://", vcpus=1, memory="64M")
    job.log_size_mib = 1024
    job_id = await stage.yard.submit(job)
    await stage.yard.client.wait(job_id, timeout_s=300)
    return job_id


async def _lines(stage: Stage, browser: Browser, job_id: str) -> Figure:
    """Load older lines until none more are kept."""
    async with window(browser, stage) as page:
        await page.goto(f"/console/jobs/{job_id}/log")
        lines = page.locator("#log .line")
        at_first = most = await lines.count()
        for _ in range(16):
            before = await page.locator("#log .slice").first.get_attribute("data-older")
            await page.locator("#log-older a").click()
            await page.locator(f"#log .slice:first-child:not([data-older='{before}'])").wait_for(state="attached")
            most = max(most, await lines.count())
    return Figure(
        name="lines in the DOM, 16 times older ones",
        value=most,
        unit="",
        baseline=at_first,
        baseline_name="at first",
        aim="10,000",
    )


async def _download(stage: Stage, visitor: Visitor, job_id: str, size: int) -> Figure:
    """Download it, and see how much memory the gateway takes meanwhile."""
    program: Program = stage.gateway.program
    before = most = program.rss_kib() / KB
    began = time.perf_counter()
    download = asyncio.create_task(asyncio.to_thread(visitor.download, f"jobs/{job_id}/log.txt"))
    while not download.done():
        most = max(most, program.rss_kib() / KB)
        await asyncio.sleep(0.05)
    assert await download == size, "it is all there"
    return Figure(
        name="download of it: memory of the gateway",
        value=most,
        unit="MB",
        baseline=before,
        baseline_name="before",
        aim="constant",
        note=f"{size / 1e6 / (time.perf_counter() - began):,.0f} MB/s",
    )
