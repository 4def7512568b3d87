"""Many jobs over one stream: in order, each once, whatever breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
from tests.sdk.yard import AsyncYard, Yard

from batchyard import AsyncClient, Client, InternalError, InvalidArgumentError, UnavailableError, container
from batchyard.errors import WorldError
from batchyard.submit_calls import JOBS_PER_MESSAGE
from batchyard.v1 import job_pb2 as pb
from batchyard.v1.job_queue_pb2 import JobQueue

COUNT = 6 * JOBS_PER_MESSAGE + 1


def job(name: str = "hello", **fields: str) -> pb.SubmitJobRequest:
    return pb.SubmitJobRequest(name=name, container=container(["true"]), **fields)  # type: ignore[arg-type]


def jobs(count: int = COUNT) -> Iterator[pb.SubmitJobRequest]:
    return (job(f"job-{i}") for i in range(count))


@pytest.fixture
async def client(async_yard: AsyncYard) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(async_yard.address, retry_s=20) as opened:
        yield opened


def total(queue: JobQueue) -> int:
    return sum(queue.job_counts.values())


async def made(client: AsyncClient) -> int:
    """Return how many jobs there are in the queue ``default``."""
    (queue,) = await client.describe_job_queues(["default"])
    return total(queue)


async def test_results_come_in_order(client: AsyncClient) -> None:
    names = [result.job.name async for result in client.submit_jobs(jobs())]
    assert names == [f"job-{i}" for i in range(COUNT)]
    assert await made(client) == COUNT


async def test_no_jobs_are_no_results(client: AsyncClient) -> None:
    assert [result async for result in client.submit_jobs([])] == []


async def test_a_refused_job_is_told_in_its_place(client: AsyncClient) -> None:
    given = [job("a"), job("b", queue="nowhere", request_id="r"), job("c")]
    results = [result async for result in client.submit_jobs(given)]
    assert [result.HasField("job") for result in results] == [True, False, True]
    assert (results[1].request_id, results[1].refusal.message) == ("r", "JobQueue nowhere not found.")
    assert given[0].queue == given[0].request_id == "", "the caller's own are left alone"


async def test_jobs_whose_answers_were_lost_are_sent_again_and_made_once(
    client: AsyncClient, async_yard: AsyncYard
) -> None:
    """The controller stores each message, then fails, at the first and again later."""
    async_yard.wire.lose("SubmitJobs", times=3)
    names = [result.job.name async for result in client.submit_jobs(jobs())]
    assert names == [f"job-{i}" for i in range(COUNT)]
    assert async_yard.wire.calls["SubmitJobs"] == 4
    assert await made(client) == COUNT


async def test_it_goes_on_over_a_restart_of_the_controller(async_yard: AsyncYard) -> None:
    seen = 0
    starting: list[asyncio.Task[None]] = []

    def on_retry(_: WorldError) -> None:
        if not starting:
            starting.append(asyncio.create_task(async_yard.start()))

    async with AsyncClient(async_yard.address, retry_s=20, on_retry=on_retry) as client:
        async for result in client.submit_jobs(jobs()):
            assert result.job.name == f"job-{seen}"
            seen += 1
            if seen == JOBS_PER_MESSAGE:
                await async_yard.stop()
        assert (seen, await made(client), len(starting)) == (COUNT, COUNT, 1)


async def test_it_gives_up_when_no_answer_comes_for_retry_s(async_yard: AsyncYard) -> None:
    await async_yard.stop()
    told: list[WorldError] = []
    async with AsyncClient(async_yard.address, retry_s=0.5, on_retry=told.append) as client:
        with pytest.raises(UnavailableError, match="cannot reach the controller"):
            await anext(client.submit_jobs(jobs()))
    assert told


async def test_a_failure_of_the_stream_is_raised(client: AsyncClient, async_yard: AsyncYard) -> None:
    async_yard.wire.lose("SubmitJobs", grpc.StatusCode.INTERNAL)
    with pytest.raises(InternalError):
        await anext(client.submit_jobs(jobs()))


async def test_what_is_no_job_is_named(client: AsyncClient) -> None:
    with pytest.raises(InvalidArgumentError, match=r"jobs\[1\]: must be a SubmitJobRequest, not str"):
        await anext(client.submit_jobs([job(), "x"]))  # type: ignore[list-item]
    with pytest.raises(InvalidArgumentError, match="jobs: must be an iterable, not int"):
        await anext(client.submit_jobs(5))  # type: ignore[arg-type]


async def test_long_jobs_take_several_messages(client: AsyncClient, async_yard: AsyncYard) -> None:
    """No message comes near the 4 MiB that a controller takes."""
    long = pb.SubmitJobRequest(name="long", container=container(["x" * 25_000]))
    assert len([result async for result in client.submit_jobs([long] * 200)]) == 200
    assert await made(client) == 200
    assert async_yard.wire.sent["SubmitJobs"] > 1


def test_the_sync_client_reads_the_jobs_as_it_goes(yard: Yard) -> None:
    with Client(yard.address) as client:
        results = client.submit_jobs(jobs(10**9))
        assert [next(results).job.name for _ in range(3)] == ["job-0", "job-1", "job-2"]
        results.close()
    (queue,) = yard.client.describe_job_queues(["default"])
    assert total(queue) < 10_000
