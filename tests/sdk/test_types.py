"""The SDK's types as mypy sees them: ``make types`` fails when one is lost."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Generator
from typing import assert_type, get_type_hints

from batchyard import AsyncClient, Client, JobState, job_state
from batchyard.v1 import host_pb2, job_pb2
from batchyard.v1 import job_queue_pb2 as queue_pb


def sync_types(client: Client) -> None:
    assert_type(client.submit_job(name="a"), job_pb2.SubmitJobResponse)
    assert_type(client.submit_jobs([job_pb2.SubmitJobRequest()]), Generator[job_pb2.SubmitResult, None, None])
    assert_type(client.wait("a", timeout_s=1), job_pb2.Job)
    assert_type(client.list_jobs(states=[JobState.RUNNING]), Generator[job_pb2.JobSummary, None, None])
    assert_type(client.read_logs("a"), Generator[bytes, None, None])
    assert_type(client.describe_host("a"), host_pb2.DescribeHostResponse)
    assert_type(job_state(client.wait("a")), JobState)
    client.submit_job(nmae="a")  # type: ignore[call-arg]  # a misspelt argument is an error


async def async_types(client: AsyncClient) -> None:
    assert_type(await client.submit_job(name="a"), job_pb2.SubmitJobResponse)
    assert_type(client.list_jobs(), AsyncGenerator[job_pb2.JobSummary, None])
    await client.wait(5)  # type: ignore[arg-type]  # as is a wrong type


async def message_types(client: AsyncClient) -> None:
    queue = queue_pb.CreateJobQueueRequest(name="q")
    assert_type(await client.calls.create_job_queue(queue), queue_pb.CreateJobQueueResponse)
    assert_type(client.calls.watch_jobs(job_pb2.WatchJobsRequest()), AsyncGenerator[job_pb2.WatchJobsResponse, None])
    await client.calls.submit_job(queue)  # type: ignore[arg-type]  # another call's message is an error


def test_signatures_are_kept_at_run_time() -> None:
    """An editor or ``help()`` shows the same arguments for both clients."""
    ours = inspect.signature(Client.submit_job)
    assert list(ours.parameters) == list(inspect.signature(AsyncClient.submit_job).parameters)
    assert get_type_hints(AsyncClient.wait)["return"] is job_pb2.Job
