"""What a page of a browser asks of a controller with a long queue and a large array; bounded by a call that reads one job."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from bench.figures import Figure, median
from bench.scale import Scale
from bench.yard import QUEUE, Yard, open_yard, small_job, submission

from batchyard.submit_calls import submit_error
from batchyard.v1 import job_pb2
from batchyard.v1.job_definition_pb2 import ContainerProperties

TIMES = 20
PAGE = 50
OLDEST = "oldest"

Ask = Callable[[], Awaitable[object]]


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Fill a controller without hosts, ask each question some times, and once what a watch costs to begin."""
    jobs, children = scale.pick(100_000, 5_000), scale.pick(1_000_000, 50_000)
    async with open_yard("memory://") as yard:
        oldest, array, newest = await fill(yard, jobs, children, small_job("fake://"))
        client = yard.client
        one = await _seconds(lambda: client.describe_job(newest))

        def figure(name: str, took_s: list[float], note: str = "") -> Figure:
            return Figure(
                name=name,
                value=1000 * median(took_s),
                unit="ms",
                baseline=1000 * median(one),
                baseline_name="one job described",
                note=f"at most {1000 * max(took_s):.1f} ms{note}",
            )

        of_array: dict[str, Any] = {"array_job_id": array, "page_size": PAGE}
        questions: dict[str, Ask] = {
            f"{PAGE} newest jobs of {jobs:,}": lambda: client.list_jobs_page(page_size=PAGE),
            f"{PAGE} oldest": lambda: client.list_jobs_page(page_size=PAGE, oldest_first=True),
            f"{PAGE} of a tag that half have": lambda: client.list_jobs_page(page_size=PAGE, tags={"half": None}),
            f"{PAGE} children of {children:,}": lambda: client.list_jobs_page(**of_array),
            "the one FAILED child, the last": lambda: client.list_jobs_page(**of_array, states=["FAILED"]),
            "digest of the array": lambda: client.get_array_digest(array),
            "counts of the queue": lambda: client.describe_job_queues([QUEUE]),
            "counts of hosts": client.summarize_hosts,
            "why the last waits": lambda: client.explain_job(newest),
            "search: a name nobody has": lambda: client.search("nobody"),
            "search: an id": lambda: client.search(oldest),
            "search: the beginning of the oldest id": lambda: client.search(oldest[:18]),
        }
        (begun,) = (await client.search(oldest[:18])).jobs
        assert begun.id == oldest, "an old job is found by its id"
        for name, ask in questions.items():
            yield figure(name, await _seconds(ask))
        for name, wanted in (("name", {"name": OLDEST}), ("tag", {"tags": {OLDEST: None}})):
            took_s = [each for _ in range(TIMES) for each in await _search(yard, wanted, oldest)]
            calls = len(took_s) // TIMES
            yield figure(f"a {name} that the oldest alone has, a call", took_s, f", found in {calls} calls")
        begun_s, events = await _begin(client.calls.watch_jobs(job_pb2.WatchJobsRequest(queue=QUEUE)))
        for name, content in (
            ("changes", job_pb2.WATCH_CONTENT_CHANGES),
            ("ids of changes", job_pb2.WATCH_CONTENT_CHANGED_IDS),
        ):
            request = job_pb2.WatchJobsRequest(queue=QUEUE, content=content)
            yield Figure(
                name=f"begin to watch {name} of the queue",
                value=1000 * (await _begin(client.calls.watch_jobs(request)))[0],
                unit="ms",
                baseline=1000 * begun_s,
                baseline_name=f"with present states first, {events:,} events",
            )


async def fill(yard: Yard, jobs: int, children: int, job: ContainerProperties) -> tuple[str, str, str]:
    """Submit an oldest job, an array of which the last child is cancelled, and others; return the first two and the last."""
    first = submission(job)
    first.name = OLDEST
    first.tags[OLDEST] = ""
    oldest = (await yard.jobs.SubmitJob(first)).job_id
    array = await yard.submit(job, array_size=children)
    await yard.client.cancel_job(f"{array}:{children - 1}", "bench")
    newest = ""

    def others() -> list[job_pb2.SubmitJobRequest]:
        requests = [submission(job) for _ in range(jobs - 2)]
        for request in requests[::2]:
            request.tags["half"] = ""
        return requests

    async for result in yard.client.submit_jobs(others()):
        error = submit_error(result)
        if error is not None:
            raise error
        newest = result.job.job_id
    return oldest, array, newest


async def _seconds(ask: Ask) -> list[float]:
    """Ask some times; the first, which may fill what is kept, does not count."""
    await ask()
    took_s = []
    for _ in range(TIMES):
        began = time.perf_counter()
        await ask()
        took_s.append(time.perf_counter() - began)
    return took_s


async def _search(yard: Yard, wanted: dict[str, Any], oldest: str) -> list[float]:
    """Return what each call took until the job is found."""
    took_s, token = [], ""
    while True:
        began = time.perf_counter()
        page = await yard.client.list_jobs_page(**wanted, page_size=PAGE, page_token=token)
        took_s.append(time.perf_counter() - began)
        token = page.next_page_token
        if page.jobs:
            assert page.jobs[0].id == oldest, "it is the one that was asked for"
            return took_s


async def _begin(responses: AsyncGenerator[job_pb2.WatchJobsResponse, None]) -> tuple[float, int]:
    """Return how long a watch takes until it tells what changes, and how many events it tells before."""
    began, events = time.perf_counter(), 0
    async with aclosing(responses):
        async for response in responses:
            events += len(response.events)
            if response.cursor:
                return time.perf_counter() - began, events
    raise AssertionError("a watch does not end")
